"""Checkpoints: rebuilt from the file alone, and nothing in the file is trusted."""

import os
import pickle

import pytest
import torch

from src.errors import InputError
from src.modules.checkpoint import load_checkpoint
from src.networks.classical import MeanColour

NETWORK = {"_target_": "src.networks.classical.MeanColour"}


def content(network=NETWORK, weights=None):
    return {"state_dict": weights or {}, "config": {"model": {"name": "m", "network": network}}, "global_step": 3}


def saved(tmp_path, what):
    torch.save(what, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def test_round_trip(tmp_path):
    checkpoint = load_checkpoint(saved(tmp_path, content()))
    assert isinstance(checkpoint.network, MeanColour)
    assert not checkpoint.network.training
    assert (checkpoint.step, checkpoint.config["model"]["name"]) == (3, "m")


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "src.networks.interface.torch.hub.os.system",  # starts well, and is os.system all the same
        "torch.nn.modules.module.torch.load",
        "src.networks.classical.np.load",
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_configuration_that_would_run_something_else_is_refused(tmp_path, target, nested):
    node = {"_target_": target, "_args_": ["touch owned"]}
    network = NETWORK | {"parts": [{"inner": node}]} if nested else node
    with pytest.raises(InputError, match="wants to call"):
        load_checkpoint(saved(tmp_path, content(network)))
    assert not os.path.exists("owned")  # noqa: PTH110


class Code:
    def __reduce__(self):
        return os.system, ("touch owned",)


def test_a_pickle_with_code_is_refused(tmp_path):
    path = tmp_path / "bad.ckpt"
    path.write_bytes(pickle.dumps(Code()))
    with pytest.raises(InputError, match=r"bad\.ckpt"):
        load_checkpoint(path)
    with pytest.raises(InputError, match="more than tensors"):
        load_checkpoint(saved(tmp_path, content() | {"extra": Code()}))


def test_missing_damaged_and_foreign_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "none.ckpt")
    whole = saved(tmp_path, content(weights={"network.x": torch.zeros(1000)}))
    with pytest.raises(InputError, match="do not fit"):
        load_checkpoint(whole)
    whole.write_bytes(whole.read_bytes()[:600])
    with pytest.raises(InputError, match=r"a\.ckpt is damaged"):
        load_checkpoint(whole)
    with pytest.raises(InputError, match="lacks state_dict"):
        load_checkpoint(saved(tmp_path, {"generator": {}}))
