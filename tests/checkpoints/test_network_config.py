"""Configs of checkpoints are untrusted: only listed classes with plain arguments are built, and memory is bounded."""

import zipfile
from collections import OrderedDict
from importlib import import_module
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from src.checkpoints.network_config import (
    MAX_DEPTH,
    MAX_ENTRIES,
    TORCH_FUNCTIONS,
    TORCH_MODULES,
    allowed_networks,
    build_network,
    is_allowed,
    require_no_calls,
    require_plain,
)
from src.checkpoints.reading import load_checkpoint
from src.common.errors import InputError
from src.networks.pconv import PConv

PATH = Path("a.ckpt")
PCONV = {"_target_": "src.networks.pconv.PConv", "width": 0.02, "levels": 2}
LBAM = {"_target_": "src.networks.lbam.LBAM", "width": 0.02, "levels": 2}


def weights(config=PCONV):
    return PConv(**{key: value for key, value in config.items() if key != "_target_"}).state_dict()


@pytest.mark.parametrize(
    "target",
    [
        # Defined within torch.nn, and able to call anything that they are given.
        "torch.nn._reduction.warnings.sys.modules",
        "torch.nn.attention.flex_attention._try_import",
        "torch.nn.attention._fa4._fa4_import_module",
        "torch.nn.modules._functions.Function.apply",
        "torch.nn.modules.module.Module.register_forward_hook",
        "torch.nn.modules.module._WrappedHook",
        "torch.nn.modules.module._WrappedHook.__call__",
        "torch.nn.modules.lazy.LazyModuleMixin",
        "torch.nn.parallel.DataParallel",
        "torch.nn.utils.parametrize.register_parametrization",
        "torch.nn.utils._deprecation_utils._deprecation_wrapper",
        "torch.nn.Module.apply",
        "torch.nn.Module",
        "torch.nn.Sequential",
        "torch.nn.functional",
        "torch.nn.functional.torch.load",
        "torch.nn.functional.handle_torch_function",
        "torch.nn.functional.boolean_dispatch",
        "torch.nn.ReLU.forward",
        "torch.nn.ReLU.__init__",
        "torch.nn.modules.activation.ReLU",
        "torch.ReLU",
        "nn.ReLU",
        # Names of src.networks that no config uses, imports, methods, private names.
        "src.networks.lbam",
        "src.networks.lbam.torch.load",
        "src.networks.lbam.LBAM.forward",
        "src.networks.lbam._activation",
        "src.networks.interface.InpaintingNetwork",
        "src.networks.pconv.PConv.__init__",
        "src.networks.pconv.PConv ",
        "src.networks.pconv.PConv\n",
        ".src.networks.pconv.PConv",
        "src.networks..pconv.PConv",
        "src.checkpoints.reading.load_checkpoint",
        "hydra.utils.get_method",
        "hydra.utils.instantiate",
        "builtins.eval",
        "os.system",
        "",
        None,
        3,
        ["src.networks.pconv.PConv"],
        {"_target_": "src.networks.pconv.PConv"},
    ],
)
def test_other_names_are_rejected_before_anything_is_called(target):
    assert not is_allowed(target)
    for config in (
        {"_target_": target},
        PCONV | {"levels": {"_target_": target}},
        PCONV | {"x": [({"_target_": target},)]},
    ):
        with pytest.raises(InputError, match="which is not trusted"):
            build_network(config, weights(), PATH)


def test_the_list_has_networks_and_activations_only():
    for name in TORCH_MODULES:
        assert issubclass(getattr(nn, name), nn.Module), name
    assert all(callable(getattr(nn.functional, name)) for name in TORCH_FUNCTIONS)
    assert {"src.networks.lbam.LBAM", "src.networks.mpga_gla.convolution_instead"} <= allowed_networks()
    assert all(name.startswith("src.networks.") and "._" not in name for name in allowed_networks())


def test_every_configured_network_is_built_with_equal_weights(composed):
    """Also those of the ablation rows; this builder and Hydra's agree."""

    rows = [
        "model=pconv",
        "model=lbam_printed",
        "model=edge_lbam_release",
        "model=mpga_gla",
        "model=contextual_attention",
    ]
    rows += [
        "experiments=lbam/table2/sigmoid",
        "experiments=edge_lbam/fig12/relu_sigmoid",
        "experiments=mpga_gla/table5/without_gla",
    ]
    for row in rows:
        config = OmegaConf.to_container(composed(row, "scale=smoke").model.network, resolve=True)
        expected = instantiate(config).state_dict()
        built = build_network(config, expected, PATH).state_dict()
        assert built.keys() == expected.keys(), row
        assert all(torch.equal(built[name], expected[name]) for name in expected), row


@pytest.mark.parametrize(
    "key", ["_args_", "_recursive_", "_mode_", "__class__", "a.b", "", "a b", 3, None, "_target_ "]
)
def test_only_names_of_arguments_and_three_keys_of_hydra_are_accepted(key):
    with pytest.raises(InputError, match="is not the name of an argument"):
        build_network(PCONV | {key: 1}, weights(), PATH)


@pytest.mark.parametrize("partial", ["true", 1, None, [True], {}])
def test_partial_must_be_true_or_false(partial):
    with pytest.raises(InputError, match="_partial_ must be true or false"):
        build_network(LBAM | {"norm": {"_target_": "torch.nn.Identity", "_partial_": partial}}, weights(), PATH)


@pytest.mark.parametrize("value", [10**5, -(10**30), float("inf"), float("nan"), 1e9])
def test_huge_numbers_are_rejected(value):
    with pytest.raises(InputError, match=r"must lie within \+-10000"):
        build_network(PCONV | {"width": value}, weights(), PATH)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"levels": 10_000}, "more than 1000 parameters"),
        ({"forward_maps": [LBAM | {"levels": 300}] * 20}, "more than 1000 parameters"),
        ({"x": {"_target_": "torch.nn.LayerNorm", "normalized_shape": [9999] * 2, "device": "cpu"}}, "'device' is not"),
    ],
)
def test_small_files_can_not_ask_for_much_time_or_memory(config, message):
    with pytest.raises(InputError, match=message):
        build_network(LBAM | config, {}, PATH)


def test_the_file_bounds_the_memory_of_the_network():
    """Width 5000 would need terabytes: the shapes are compared before any memory is taken."""
    with pytest.raises(InputError, match="do not fit"):
        build_network(PCONV | {"width": 5000}, weights(), PATH)


def test_modules_are_imported_with_memory_for_their_constants(tmp_path, monkeypatch):
    """The first network of a process is built without memory; a constant made in that block would stay without."""
    (tmp_path / "late_network.py").write_text(
        "import torch\nfrom src.networks.classical import MeanColour\n"
        "CONSTANT = torch.ones(2)\nclass Late(MeanColour):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("src.checkpoints.network_config.allowed_networks", lambda: {"late_network.Late"})
    network = build_network({"_target_": "late_network.Late"}, {}, PATH)
    assert import_module(type(network).__module__).CONSTANT.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"a": {1, 2}}, "holds a set"),
        ({"a": torch.zeros(1)}, "holds a Tensor"),
        ({"a": b"bytes"}, "holds a bytes"),
        ({"a": ["x", "${oc.env:HOME}"]}, "must be resolved"),
        ({"${now}": 1}, "must be resolved"),
        ([0] * MAX_ENTRIES, f"more than {MAX_ENTRIES} entries"),
    ],
)
def test_whole_configs_are_plain(config, message):
    with pytest.raises(InputError, match=message):
        require_plain(config, PATH)


def test_depth_cycles_and_aliases_are_limited():
    deep: object = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    cycle: dict = {}
    cycle["self"] = cycle
    bomb: list = [0]
    for _ in range(40):
        bomb = [bomb] * 10
    for config, message in ((deep, "nested more than"), (cycle, "nested more than"), (bomb, "entries")):
        with pytest.raises(InputError, match=message):
            require_plain(config, PATH)


def test_a_scale_calls_nothing():
    require_no_calls({"a": [{"b": 1}], "c": None}, PATH)
    for config in ({"_target_": "x"}, {"a": [{"b": {"_target_": "x"}}]}, {"a": ({"_args_": 1},)}):
        with pytest.raises(InputError, match="is not trusted here"):
            require_no_calls(config, PATH)


def saved(path, state_dict, config=PCONV):
    torch.save({"state_dict": state_dict, "config": {"model": {"network": config}}, "global_step": 1}, path)
    return path


ODD = {
    "sparse": lambda tensor: tensor.to_sparse(),
    "meta": lambda tensor: tensor.to("meta"),
    "complex": lambda tensor: tensor.to(torch.complex64),
    "float8": lambda tensor: tensor.to(torch.float8_e4m3fn),
    "quantised": lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
    "repeated": lambda tensor: tensor.new_zeros(()).expand(tensor.shape),
}


@pytest.mark.filterwarnings("ignore")  # PyTorch deprecates quantised tensors
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_tensors_of_other_kinds_are_rejected(tmp_path, odd):
    state = OrderedDict((f"network.{name}", tensor) for name, tensor in weights().items())
    name = next(iter(state))
    state[name] = odd(state[name])
    with pytest.raises(InputError, match=r"a\.ckpt"):
        load_checkpoint(saved(tmp_path / "a.ckpt", state))


def test_compressed_archives_are_rejected(tmp_path):
    """torch.save never compresses, and a compressed entry can unpack to a thousand times its size."""
    path = saved(tmp_path / "a.ckpt", {f"network.{name}": tensor for name, tensor in weights().items()})
    assert load_checkpoint(path).step == 1
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(tmp_path / "b.ckpt", "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in stored.infolist():
            packed.writestr(entry.filename, stored.read(entry))
    with pytest.raises(InputError, match="compressed or overlap"):
        load_checkpoint(tmp_path / "b.ckpt")
