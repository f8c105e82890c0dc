"""Device selection."""

import torch

from src.common.errors import InputError


def select_device(name: str) -> torch.device:
    """Return the device for device=<name>; auto selects a GPU if available.

    Raises:
        InputError: the device is unavailable.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={name} is unavailable: {str(error).splitlines()[0]}") from error
    return torch.device(name)
