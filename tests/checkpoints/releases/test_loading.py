"""Reading released files, and error messages for files that do not match."""

import pickle
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from src.checkpoints.releases import load
from src.checkpoints.releases.release import Release
from src.checkpoints.releases.weights import read_weights
from src.common.errors import InputError


def small() -> nn.Module:
    return nn.ModuleDict({"body": nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2)), "head": nn.Conv2d(2, 1, 1)})


RELEASE = Release(
    small,
    {"body": "net.feat", "body.0": "net.conv", "head": "out"},
    parameters={"bias": "offset"},
    swapped=frozenset({"net.feat.1"}),
    constant={"fixed.weight": 1.0},
    aliases={"backbone": "net"},
)


def state() -> dict[str, torch.Tensor]:
    """State dict in the small release's layout."""
    torch.manual_seed(0)
    shapes = {"net.conv.weight": (2, 4, 1, 1), "net.conv.offset": (2,), "out.weight": (1, 2, 1, 1), "out.offset": (1,)}
    norm = {"net.feat.1.weight": (2,), "net.feat.1.bias": (2,)}
    norm |= {"net.feat.1.running_mean": (2,), "net.feat.1.running_var": (2,)}
    made = {key: torch.randn(shape) for key, shape in (shapes | norm).items()}
    return made | {"net.feat.1.num_batches_tracked": torch.tensor(7), "net.fixed.weight": torch.ones(2, 2)}


def loaded(weights):
    return RELEASE.load(read_weights(weights))


def test_tensors_are_assigned_as_the_table_says():
    source, network = state(), loaded(state())
    body, head = network["body"], network["head"]
    assert_close(body[0].weight, source["net.conv.weight"])
    assert_close(body[0].bias, source["net.conv.offset"])
    assert_close(head.bias, source["out.offset"])
    assert_close(body[1].running_mean, source["net.feat.1.running_mean"].flip(0))  # two halves of one channel each
    assert body[1].num_batches_tracked == 7
    assert not network.training


WRAPPERS = {
    "bare": lambda s: s,
    "data_parallel": lambda s: {f"module.{key}": t for key, t in s.items()},
    "edgeconnect": lambda s: {"iteration": 400, "generator": s},
    "with an optimiser": lambda s: {
        "n_iter": 3,
        "model": s,
        "optimizer": {
            "state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}},
            "param_groups": [{"lr": 1}],
        },
    },
    "twice": lambda s: {"ckpt": {"net": {f"module.{key}": t for key, t in s.items()}, "other": {"w": torch.ones(1)}}},
    "aliases": lambda s: {key.replace("net.", "backbone."): t for key, t in s.items()},
    "old": lambda s: {key: t for key, t in s.items() if "num_batches" not in key},
    "without constants": lambda s: {key: t for key, t in s.items() if "fixed" not in key},
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("as_file", [False, True])
def test_enclosing_dictionaries_are_removed(tmp_path, wrap, as_file):
    source = wrap(state())
    if as_file:
        torch.save(source, tmp_path / "released.pth")
        source = tmp_path / "released.pth"
    assert_close(loaded(source)["head"].weight, state()["out.weight"])


def test_reads_old_torch_format_and_safetensors(tmp_path):
    torch.save(state(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)  # before PyTorch 1.6
    save_file(state(), tmp_path / "new.safetensors")
    for file in ("old.pth", "new.safetensors"):
        assert_close(loaded(tmp_path / file)["head"].weight, state()["out.weight"])


def without(key):
    return {k: t for k, t in state().items() if k != key}


WRONG = {
    "1 missing (net.conv.weight)": without("net.conv.weight"),
    "1 unexpected (extra.weight)": state() | {"extra.weight": torch.ones(1)},
    "1 with another shape (out.weight is (1, 3, 1, 1), expected (1, 2, 1, 1))": state()
    | {"out.weight": torch.ones(1, 3, 1, 1)},
    "1 missing (out.offset); 2 unexpected (out.bias, z)": without("out.offset")
    | {"out.bias": torch.ones(1), "z": torch.ones(1)},
    "net.fixed.weight must be 1 everywhere": state() | {"net.fixed.weight": torch.full((2, 2), 0.5)},
    "and 5 more": {"a.b": torch.ones(1)},
    "the keys 'ema' and 'model' hold different weights": {
        "model": state(),
        "ema": {k: t + 1 for k, t in state().items()},
    },
    "the same tensor names with and without 'module.'": state() | {"module.out.weight": torch.ones(1, 2, 1, 1)},
    "net.conv.weight holds values that are not finite": state()
    | {"net.conv.weight": torch.full((2, 4, 1, 1), torch.nan)},
    "out.offset holds values that are not finite": state() | {"out.offset": torch.ones(1, dtype=torch.int32)},
}


@pytest.mark.parametrize("message", WRONG)
def test_rejects_other_networks_with_the_first_names_that_differ(message):
    with pytest.raises(InputError, match=re.escape(message)):
        loaded(WRONG[message])


class Runs:
    def __reduce__(self):
        return print, ("run",)


def test_rejects_files_that_hold_code_or_are_corrupt(tmp_path, capsys):
    (tmp_path / "code.pth").write_bytes(pickle.dumps({"w": Runs()}))
    torch.save(state(), tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:500])
    (tmp_path / "cut.safetensors").write_bytes(b"\x00" * 8 + b"{}")
    torch.save({"iteration": 3}, tmp_path / "empty.pth")
    torch.save(torch.ones(2), tmp_path / "bare.pth")
    for file, reason in {
        "code.pth": "not loaded",
        "cut.pth": "corrupt",
        "cut.safetensors": "corrupt",
        "empty.pth": "no named tensors",
        "bare.pth": "no named tensors",
        "none.pth": "no weights file",
    }.items():
        with pytest.raises(InputError, match=reason) as raised:
            read_weights(tmp_path / file)
        assert file in str(raised.value)
    assert capsys.readouterr().out == ""


def test_rejects_unknown_names_and_unused_completions(released):
    with pytest.raises(InputError, match="choose one of lbam, edge_lbam"):
        load("lama", {})
    with pytest.raises(InputError, match="completion= applies to name=edge_lbam and edge_connect only"):
        load("lbam", {}, completion={})


@pytest.mark.parametrize(
    ("requested", "actual"),
    [("lbam", "mpga_gla_discriminator"), ("mpga_gla", "contextual_attention"), ("lbam", "edge_lbam")],
)
def test_error_names_the_release_that_a_file_matches(blank, requested, actual):
    """Some releases share most names; Edge-LBAM has all of LBAM's."""
    weights = {key: t for key, t in blank(actual).items() if "num_batches" not in key}
    with pytest.raises(InputError, match=f"the state dict does not fit {requested}: .*The file matches {actual}$"):
        load(requested, weights)


def test_accepts_equal_copies_and_converts_half_precision():
    halved = {key: t.half() if t.is_floating_point() else t for key, t in state().items()}
    network = loaded({"model": halved, "copy": halved})
    assert network["head"].weight.dtype == torch.float32


def test_loading_draws_no_random_numbers(released):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load("mpga_gla_discriminator", released("mpga_gla_discriminator"))
    assert torch.rand(1) == expected


def test_parts_in_files_of_their_own_are_joined(tmp_path):
    """As MEDFE's EN, DE and MEDFE: each file holds one part, without its name."""
    weights = state()
    for part in ("net", "out"):
        inside = {k.removeprefix(f"{part}."): t for k, t in weights.items() if k.startswith(f"{part}.")}
        torch.save({"weights": inside, "epoch": 20}, tmp_path / f"20_net_{part}.pth")
    expected = loaded(weights).state_dict()
    paths = {part: tmp_path / f"20_net_{part}.pth" for part in ("net", "out")}
    for source in (tmp_path, str(tmp_path), paths):
        for name, tensor in loaded(source).state_dict().items():
            assert torch.equal(tensor, expected[name]), name
    torch.save({}, tmp_path / "19_net_out.pth")
    with pytest.raises(InputError, match=r"one file for each part .* got 19_net_out.pth, 20_net_net.pth"):
        loaded(tmp_path)
