"""Fuzzed configs of checkpoints and export directories: valid files, their mutation, and checks of what is loaded."""

import copy
import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import torch
import yaml
from safetensors.torch import save

from src.checkpoints.export_directory import CONFIG, WEIGHTS
from src.checkpoints.reading import load_checkpoint, read_checkpoint
from src.networks.interface import InpaintingNetwork
from src.networks.lbam import LBAM

OWNED = "owned by a pickle"
"""A directory that the code in pickles and configs would create in the current one, if it were run."""

_NETWORK = {
    "_target_": "src.networks.lbam.LBAM",
    "width": 0.02,
    "levels": 2,
    "forward_maps": {
        "_target_": "src.networks.layers.attention_map.learnable_maps", "_partial_": True,
    },
}  # fmt: skip
_CONTENT = {
    "config": {"model": {"name": "lbam", "network": _NETWORK}, "scale": {"name": "smoke", "image_size": 32}},
    "global_step": 3,
    "state_dict": "weights",
}
# No layer counts in the millions, as all layers would be built.
_JUNK = (
    *(None, True, 0, -1, 1.5, 70, float("nan"), "", "${oc.env:HOME}", "${", "os.system", "???", [], {}),
    *([1, [2]], {"_target_": "os.mkdir", "path": OWNED}, {"_target_": "src.networks.lbam.LBAM"}, {"_args_": [1]}),
    *(
        {"_target_": "builtins.eval", "_args_": ["1"]},
        {"_target_": 3},
        {"_target_": "src.networks.interface.torch.hub"},
    ),
    *({"_partial_": True}, {"_recursive_": False}, "src.networks.lbam.LBAM", {"_convert_": "all"}, {"x": {"y": 1}}),
)


def checkpoint_configs() -> dict[str, bytes]:
    """Return a checkpoint without its tensors, as JSON."""
    return {"checkpoint": json.dumps(_CONTENT).encode()}


def config_changed(data: bytes, rng: Random) -> bytes:
    """Delete, rename or replace nodes of the tree."""
    content = json.loads(data)
    for _ in range(rng.randint(1, 3)):
        nodes: list[tuple[Any, Any]] = []

        def collect(node: Any, nodes: list[tuple[Any, Any]] = nodes) -> None:
            for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
                nodes.append((node, key))
                collect(node[key])

        collect(content)
        if not nodes:
            break
        parent, key = rng.choice(nodes)
        kind = rng.randrange(4)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, dict):
            parent[rng.choice(("_target_", "_args_", "_partial_", "unknown", "0", "network"))] = parent.pop(key)
        else:
            parent[key] = copy.deepcopy(rng.choice(_JUNK))
    return json.dumps(content).encode()


def read_config_in_checkpoint(path: Path, rng: Random) -> None:
    """Load a checkpoint with this config."""
    content = json.loads(path.read_text())
    if isinstance(content, dict) and content.get("state_dict") == "weights":
        network = LBAM(width=0.02, levels=2)
        content["state_dict"] = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    checkpoint_path = path.with_suffix(".ckpt")
    torch.save(content, checkpoint_path)
    try:
        checkpoint = load_checkpoint(checkpoint_path)
        assert isinstance(checkpoint.network, InpaintingNetwork)
        assert isinstance(checkpoint.config, dict)
        assert isinstance(checkpoint.step, int)
    finally:
        assert not Path(OWNED).exists(), "a configuration was run"


def exported_configs() -> dict[str, bytes]:
    """Return the config of an export directory, and one whose aliases expand exponentially."""
    aliases = "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9) if i else 'y'}]\n" for i in range(12))
    plain = yaml.safe_dump(_CONTENT["config"], sort_keys=False)
    return {"config": plain.encode(), "aliases": (plain + aliases).encode()}


def read_exported(path: Path, rng: Random) -> None:
    """Load an export directory with this config."""
    folder = path.with_name("exported")
    folder.mkdir(exist_ok=True)
    if not (folder / WEIGHTS).is_file():
        (folder / WEIGHTS).write_bytes(save(LBAM(width=0.02, levels=2).state_dict(), {"step": "3"}))
    shutil.copy(path, folder / CONFIG)
    assert isinstance(read_checkpoint(folder), dict)
    assert isinstance(load_checkpoint(folder).network, InpaintingNetwork)
