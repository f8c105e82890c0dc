"""Device selection."""

import pytest
import torch

from src.common.devices import select_device
from src.common.errors import InputError


@pytest.mark.parametrize("name", ["xla", "meta", "gpu"])
def test_an_unavailable_device_is_one_short_sentence(name):
    with pytest.raises(
        InputError, match=rf"^device={name} is unavailable \([^\n]{{1,100}}\): use device=cpu"
    ) as raised:
        select_device(name)
    assert len(str(raised.value)) < 200
    assert select_device("cpu") == torch.device("cpu")
