"""Device selection."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.testing import assert_close

from src.common.devices import on_meta_device, select_device
from src.common.errors import InputError


@pytest.mark.parametrize("name", ["xla", "meta", "gpu"])
def test_an_unavailable_device_is_one_short_sentence(name):
    with pytest.raises(
        InputError, match=rf"^device={name} is unavailable \([^\n]{{1,100}}\): use device=cpu"
    ) as raised:
        select_device(name)
    assert len(str(raised.value)) < 200
    assert select_device("cpu") == torch.device("cpu")


def test_modules_on_the_meta_device_have_shapes_and_compute_nothing():
    with on_meta_device():
        outline = spectral_norm(nn.Conv2d(3, 4, 2))
    torch.manual_seed(0)
    network = spectral_norm(nn.Conv2d(3, 4, 2))
    assert {name: t.shape for name, t in outline.state_dict().items()} == {
        name: t.shape for name, t in network.state_dict().items()
    }
    assert all(t.is_meta for t in outline.state_dict().values())
    weight = network.parametrizations.weight.original.flatten(1)
    assert_close(network.weight.flatten(1), weight / torch.linalg.matrix_norm(weight, 2), rtol=1e-3, atol=1e-4)
