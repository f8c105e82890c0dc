"""Find the state dicts in a released file, which may be nested in other dictionaries."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from src.common.errors import InputError
from src.common.tensor_files import read_tensor_file

Weights = dict[str, Tensor]
"""State dict: tensors by the names of parameters and buffers."""


def read_weights(source: Mapping[str, Any] | str | Path) -> dict[str, Weights]:
    """Return all candidate state dicts of a file by their key.

    Releases save a state dict alone or with other entries: `{"generator": ..., "iteration": ...}`. So each level of
    nested dictionaries is a candidate: "" is the whole file, "generator" that entry; deeper keys are joined by dots.
    The prefix "module." of nn.DataParallel is removed, and entries that are not tensors are dropped.

    Some releases save each part of their network to its own file. Then each name begins with that of its part, and a
    key of the returned dictionary is one that all files have.

    Args:
        source: path of a torch.save or safetensors file, a dictionary as torch.load returns it, or for several files a
            dictionary of their paths by the names of the parts, or their directory: see `find_parts`.
    Raises:
        InputError: the file is missing or corrupt, contains code, or has no tensors or two tensors of the same name.
        TypeError: the source is neither a path nor a dictionary.
    """
    if not isinstance(source, Mapping) and Path(source).expanduser().is_dir():
        source = find_parts(Path(source).expanduser())
    if isinstance(source, Mapping) and source and all(isinstance(value, str | Path) for value in source.values()):
        parts = {str(part): read_weights(path) for part, path in source.items()}
        shared = [level for level in next(iter(parts.values())) if all(level in levels for levels in parts.values())]
        return {
            level: {
                f"{part}.{name}": tensor for part, levels in parts.items() for name, tensor in levels[level].items()
            }
            for level in shared
        }
    content = source if isinstance(source, Mapping) else read_tensor_file(Path(source).expanduser(), "weights file")
    origin = "the state dict" if isinstance(source, Mapping) else str(source)
    found = _tensors(content) if isinstance(content, Mapping) else []
    whole = dict(found)
    if not whole:
        raise InputError(f"{origin} holds no named tensors: expected a state dict, or a dictionary that holds one")
    if len(whole) < len(found):
        raise InputError(
            f"{origin} holds the same tensor names with and without 'module.': save one of the two state dicts"
        )
    levels = {name[:depth] for name in whole for depth in range(len(name))}
    return {
        ".".join(level): {".".join(name[len(level) :]): t for name, t in whole.items() if name[: len(level)] == level}
        for level in sorted(levels, key=lambda level: (len(level), level))
    }


def find_parts(directory: Path) -> dict[str, Path]:
    """Return the files of a directory named like latest_net_EN.pth, by the part of the network, here "EN".

    Raises:
        InputError: there are none, or several of one part.
    """
    files = sorted(directory.glob("*_net_*.*"))
    parts = {file.stem.rpartition("_net_")[2]: file for file in files}
    if not files or len(parts) < len(files):
        found = ", ".join(file.name for file in files) or "none"
        raise InputError(
            f"{directory} must hold one file for each part of the network, named like latest_net_EN.pth, got {found}"
        )
    return parts


def _tensors(node: Any, name: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Tensor]]:
    """Return the tensors in nested dictionaries, with the parts of their names."""
    if isinstance(node, Tensor):
        return [(tuple(part for part in name if part != "module"), node)]
    if not isinstance(node, Mapping):
        return []
    return [found for key, child in node.items() for found in _tensors(child, (*name, *str(key).split(".")))]
