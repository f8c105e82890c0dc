"""Checkpoints: networks are rebuilt from the file alone, and code in the file is never run."""

import os
import pickle

import pytest
import torch

from src.checkpoints.reading import find_checkpoint, load_checkpoint
from src.common.errors import InputError
from src.networks.classical import MeanColour
from src.networks.lbam import LBAM

NETWORK = {"_target_": "src.networks.classical.MeanColour"}


def content(network=NETWORK, weights=None):
    config = {"model": {"name": "m", "network": network}, "scale": {"image_size": 64}}
    return {"state_dict": weights or {}, "config": config, "global_step": 3}


def saved(tmp_path, content):
    torch.save(content, tmp_path / "a.ckpt")
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
        "src.networks.interface.torch.hub.os.system",  # has a trusted prefix, but is os.system
        "torch.nn.modules.module.torch.load",
        "src.networks.classical.np.load",
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_rejects_config_that_calls_untrusted_code(tmp_path, target, nested):
    node = {"_target_": target, "_args_": ["touch owned"]}
    network = NETWORK | {"parts": [{"inner": node}]} if nested else node
    with pytest.raises(InputError, match="which is not trusted"):
        load_checkpoint(saved(tmp_path, content(network)))
    assert not os.path.exists("owned")  # noqa: PTH110


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (({"_target_": "os.getcwd"},), "which is not trusted"),
        ("${oc.create:'{_target_: os.getcwd}'}", "must be resolved"),
    ],
    ids=["in a tuple", "in an interpolation"],
)
@pytest.mark.parametrize("of", ["network", "scale"])  # src.evaluate composes its data with the scale
def test_rejects_hidden_call(tmp_path, of, part, message):
    hiding = content(NETWORK | {"parts": part}) if of == "network" else content()
    if of == "scale":
        hiding["config"]["scale"] = {"image_size": part}
    with pytest.raises(InputError, match=message):
        load_checkpoint(saved(tmp_path, hiding))


@pytest.mark.parametrize("scale", ["image_size: {_target_: os.system}", None, []])
def test_rejects_scale_that_is_not_a_mapping(tmp_path, scale):
    """src.evaluate makes a config of it, which would parse a string as YAML."""
    hiding = content()
    hiding["config"]["scale"] = scale
    with pytest.raises(InputError, match=r"config\.scale must be mappings"):
        load_checkpoint(saved(tmp_path, hiding))


@pytest.mark.parametrize(
    "scale",
    [{"name": [1]}, {"image_size": "x"}, {"image_size": 0}, {"image_size": [9, 9, 9]}, {"shorter_side_px": 1e9}],
)
def test_rejects_scale_with_values_of_other_kinds(tmp_path, scale):
    odd = content()
    odd["config"]["scale"] = scale
    with pytest.raises(InputError, match=r"a\.ckpt: scale\.\w+ in the config must be"):
        load_checkpoint(saved(tmp_path, odd))


def test_accepts_any_schedule_in_a_scale_as_it_is_not_called(tmp_path):
    with_schedule = content()
    with_schedule["config"]["scale"] = {"schedule": {"_target_": "src.training.schedules.constant"}}
    load_checkpoint(saved(tmp_path, with_schedule))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"_target_": "src.networks.pconv.PConv", "levels": 0}, r"PConv can't be built .*levels must be >= 1"),
        ({"_target_": "src.networks.pconv.PConv", "depth": 3}, r"PConv can't be built .*'depth'"),
        ({"_target_": "src.networks.pconv.gone"}, "which is not trusted"),
        ({"_target_": "torch.nn.ReLU"}, r"torch\.nn\.ReLU is not an InpaintingNetwork"),
        ({}, r"no model\.network"),
        ([], r"no model\.network"),
    ],
)
def test_error_explains_why_a_network_cannot_be_built(tmp_path, network, message):
    with pytest.raises(InputError, match=message):
        load_checkpoint(saved(tmp_path, content(network)))


class Code:
    def __reduce__(self):
        return os.system, ("touch owned",)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rejects_weights_that_are_not_finite(tmp_path, value):
    config = {"_target_": "src.networks.lbam.LBAM", "width": 0.02, "levels": 2}
    weights = {f"network.{name}": tensor for name, tensor in LBAM(width=0.02, levels=2).state_dict().items()}
    assert load_checkpoint(saved(tmp_path, content(config, weights))).step == 3
    corrupted = min(name for name, tensor in weights.items() if tensor.is_floating_point())
    weights[corrupted] = torch.full_like(weights[corrupted], value)
    name = corrupted.removeprefix("network.")
    with pytest.raises(InputError, match=rf"a\.ckpt holds NaN or infinity, .*: 1 weights \({name}\)"):
        load_checkpoint(saved(tmp_path, content(config, weights)))


@pytest.mark.parametrize("step", ["3", None, 3.0, True, [3]])
def test_rejects_step_that_is_not_an_integer(tmp_path, step):
    with pytest.raises(InputError, match=r"global_step an integer"):
        load_checkpoint(saved(tmp_path, content() | {"global_step": step}))


def test_rejects_pickle_with_code(tmp_path):
    path = tmp_path / "bad.ckpt"
    path.write_bytes(pickle.dumps(Code()))
    with pytest.raises(InputError, match=r"bad\.ckpt"):
        load_checkpoint(path)
    with pytest.raises(InputError, match="more than tensors"):
        load_checkpoint(saved(tmp_path, content() | {"extra": Code()}))


def test_errors_name_missing_corrupt_and_foreign_files(tmp_path):
    with pytest.raises(InputError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "none.ckpt")
    intact = saved(tmp_path, content(weights={"network.x": torch.zeros(1000)}))
    with pytest.raises(InputError, match=r"do not fit src\.networks\.classical\.MeanColour: 1 unexpected \(x\)$"):
        load_checkpoint(intact)
    intact.write_bytes(intact.read_bytes()[:600])
    with pytest.raises(InputError, match=r"a\.ckpt is corrupt"):
        load_checkpoint(intact)
    with pytest.raises(InputError, match="state_dict, config or global_step is missing"):
        load_checkpoint(saved(tmp_path, {"generator": {}}))


def test_a_run_directory_is_its_best_checkpoint_or_the_last_before_a_validation(tmp_path):
    assert find_checkpoint(tmp_path) == tmp_path
    (tmp_path / "checkpoints").mkdir()
    for name in ("last.ckpt", "best.ckpt"):
        (tmp_path / "checkpoints" / name).touch()
        assert find_checkpoint(tmp_path) == tmp_path / "checkpoints" / name
    (tmp_path / "model.safetensors").touch()  # an export directory
    assert find_checkpoint(tmp_path) == tmp_path
