"""Which processor a command runs on."""

import torch

from src.common.errors import InputError


def select_device(name: str) -> torch.device:
    """The device that device=<name> means; auto is a GPU where there is one.

    Raises:
        InputError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={name} is not to be had here: {str(error).splitlines()[0]}") from error
    return torch.device(name)
