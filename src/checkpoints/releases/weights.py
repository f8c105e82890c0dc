"""The tensors in a released file, whatever they were wrapped in when they were saved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from src.common.errors import InputError
from src.common.tensor_files import read_tensor_file

Weights = dict[str, Tensor]
"""A state dict: tensors by the names of parameters and buffers."""


def read_weights(source: Mapping[str, Any] | str | Path) -> dict[str, Weights]:
    """Every state dict that a file, or what was read of one, may be meant to hold, by where it stands in it.

    Releases save a state dict by itself or beside other things: `{"generator": ..., "iteration": ...}`. So each level
    of nested dictionaries is one reading of the file, "" the whole of it, "generator" that part; the names of deeper
    levels are joined by dots. What nn.DataParallel adds to names, "module.", is taken off; what is no tensor is left
    out.

    Args:
        source: a path of torch.save's or safetensors' format, or a dictionary as torch.load returns it.
    Raises:
        InputError: the file is missing or damaged, would run code, holds no tensors, or two of one name.
        TypeError: the source is neither.
    """
    content = source if isinstance(source, Mapping) else read_tensor_file(Path(source).expanduser(), "file of weights")
    origin = "the state dict" if isinstance(source, Mapping) else str(source)
    found = _tensors(content) if isinstance(content, Mapping) else []
    whole = dict(found)
    if not whole:
        raise InputError(f"{origin} holds no tensors by name: it must be a state dict, or a dictionary that holds one")
    if len(whole) < len(found):
        raise InputError(f"{origin} holds tensors with 'module.' in their names beside others of the same names")
    levels = {".".join(name[:depth]) for name in whole for depth in range(len(name))}
    return {level: _below(level, whole) for level in sorted(levels, key=lambda level: (level.count("."), level))}


def _tensors(node: Any, name: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Tensor]]:
    """The tensors below a dictionary, by the parts of their names."""
    if isinstance(node, Tensor):
        return [(tuple(part for part in name if part != "module"), node)]
    if not isinstance(node, Mapping):
        return []
    return [found for key, child in node.items() for found in _tensors(child, (*name, *str(key).split(".")))]


def _below(level: str, whole: Mapping[tuple[str, ...], Tensor]) -> Weights:
    start = level.split(".") if level else []
    return {".".join(name[len(start) :]): tensor for name, tensor in whole.items() if list(name[: len(start)]) == start}
