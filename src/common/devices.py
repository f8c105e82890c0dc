"""Device selection."""

import torch

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
