"""Files of tensors: read without running what is in them; what is wrong with them is said in a sentence."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.common.errors import InputError

TORCH_SAVE = (b"PK", b"\x80")  # since PyTorch 1.6, before
SAFETENSORS = b"{"  # behind eight bytes with the length of what it opens

SHOWN = 3  # names a message lists of each kind


def read_tensor_file(path: Path, kind: str) -> Any:
    """The content of a file of torch.save's or safetensors' format, whatever its name ends in, on the CPU.

    Args:
        kind: what the file is to be, for messages, such as "checkpoint".
    Raises:
        InputError: the file is missing or damaged, or would run code.
    """
    if not path.is_file():
        raise InputError(f"no {kind} at {path}")
    with path.open("rb") as file:
        start = file.read(9)
    if not start.startswith(TORCH_SAVE) and start[8:] != SAFETENSORS:
        found = f"it begins with {start!r}" if start else "it is empty"
        raise InputError(f"{path} is no {kind}, nor any file of torch.save or safetensors: {found}")
    try:
        if start[8:] == SAFETENSORS and not start.startswith(TORCH_SAVE):
            from safetensors.torch import load_file  # here, as losses read files too and import torch alone

            return load_file(path)
        if damaged := _damaged_entry(path):
            raise InputError(f"{path} is damaged: the checksum of {damaged!r} in it is wrong")
        return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors and plain values, or is no {kind}: it is not loaded, as it could run any "
            "code; a state dict that is saved alone can be"
        ) from error
    except Exception as error:  # a damaged file makes torch.load raise almost anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} is damaged, or no {kind}: {reason}") from error


def _damaged_entry(path: Path) -> str | None:
    """The first entry of a zip file, as torch.save's are, that fails its checksum; torch.load looks at none."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def state_dict_mismatch(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """The first names in which a state dict differs from the one that a network has; empty where it fits."""
    kinds = {
        "missing": [name for name in expected if name not in given],
        "unexpected": [name for name in given if name not in expected],
        "misshapen": [
            f"{name} is {tuple(given[name].shape)} and must be {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in given and given[name].shape != tensor.shape
        ],
    }
    return "; ".join(listed(kind, names) for kind, names in kinds.items() if names)


def listed(kind: str, names: list[str]) -> str:
    """How many names there are of a kind, and the first of them."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {kind} ({', '.join(names[:SHOWN])}{more})"
