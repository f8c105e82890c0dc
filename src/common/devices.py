"""Device selection, and modules without memory for their weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor
from torch.nn.utils.parametrizations import _SpectralNorm

from src.common.errors import InputError

LONGEST_REASON = 100


def select_device(name: str) -> torch.device:
    """Return the device for device=<name>; auto selects a GPU if available.

    Raises:
        InputError: the device is unavailable.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        if len(reason) > LONGEST_REASON:  # a list of PyTorch's backends
            reason = "PyTorch has no such device on this machine"
        raise InputError(f"device={name} is unavailable ({reason}): use device=cpu or device=auto") from error
    return torch.device(name)


@contextmanager
def on_meta_device() -> Iterator[None]:
    """Build modules with names and shapes alone: without memory for their weights, and without random numbers."""
    _skip_power_iterations_on_meta()
    with torch.device("meta"):
        yield


@cache
def _skip_power_iterations_on_meta() -> None:
    """Change PyTorch's spectral norm: its first iterations compute nothing there and are slow."""
    iterate = _SpectralNorm._power_method

    def unless_meta(self: _SpectralNorm, weight_mat: Tensor, n_power_iterations: int) -> None:
        if not weight_mat.is_meta:
            iterate(self, weight_mat, n_power_iterations)

    _SpectralNorm._power_method = unless_meta  # type: ignore[method-assign]
