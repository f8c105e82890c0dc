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

    Args:
        source: path of a torch.save or safetensors file, or a dictionary as torch.load returns it.
    Raises:
        InputError: the file is missing or corrupt, contains code, or has no tensors or two tensors of the same name.
        TypeError: the source is neither a path nor a dictionary.
    """
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


def _tensors(node: Any, name: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Tensor]]:
    """Return the tensors in nested dictionaries, with the parts of their names."""
    if isinstance(node, Tensor):
        return [(tuple(part for part in name if part != "module"), node)]
    if not isinstance(node, Mapping):
        return []
    return [found for key, child in node.items() for found in _tensors(child, (*name, *str(key).split(".")))]
