"""Tensor files of torch.save and safetensors, loaded without running pickled code."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.common.errors import InputError
from src.common.regular_files import require_regular_file

TORCH_SAVE = (b"PK", b"\x80")  # zip archives since PyTorch 1.6, pickles before
SAFETENSORS = b"{"  # after eight bytes with the length of the header

DENSE_DTYPES = frozenset(
    {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16, torch.int32,
     torch.int64, torch.bool}
)  # fmt: skip

SHOWN = 3  # number of names listed in a message


def read_tensor_file(path: Path, kind: str, *, mapped: bool = False) -> Any:
    """Load a file written by torch.save or safetensors to the CPU, regardless of its suffix.

    Args:
        kind: name of the kind of file in messages, such as "checkpoint".
        mapped: map a file of torch.save instead of reading its tensors, and don't verify their checksums: for its
            plain values.
    Raises:
        InputError: the file is missing or corrupt, or contains code.
    """
    require_regular_file(path, kind)
    with path.open("rb") as file:
        start = file.read(9)
    if not start.startswith(TORCH_SAVE) and start[8:] != SAFETENSORS:
        found = f"it begins with {start!r}" if start else "it is empty"
        raise InputError(f"{path} is not a {kind}: it is not a file of torch.save or safetensors, as {found}")
    try:
        if start[8:] == SAFETENSORS and not start.startswith(TORCH_SAVE):
            from safetensors.torch import load_file  # here, as losses import this file and only need torch

            return load_file(path)
        if corrupt := _find_corrupt_entry(path, verify=not mapped):
            raise InputError(f"{path} is corrupt: the checksum of its entry {corrupt!r} is wrong")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} contains more than tensors and plain values, or is not a {kind}: it is not loaded, as it could "
            "run arbitrary code. Save a plain state dict instead"
        ) from error
    except Exception as error:  # torch.load raises almost any type on corrupt files
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} is corrupt or not a {kind}: {reason}") from error


def _find_corrupt_entry(path: Path, verify: bool) -> str | None:
    """Return the first entry of a zip file with a wrong checksum; torch.load does not verify checksums.

    Raises:
        InputError: entries are compressed or share their bytes, so that they could unpack to any size.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        if not stored or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise InputError(f"{path} is not a file of torch.save: its entries are compressed or overlap")
        return archive.testzip() if verify else None


def require_dense(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise InputError unless all tensors are dense, of a usual dtype and with memory for each of their values.

    Sparse, quantised and meta tensors, and tensors that repeat a few values by a stride of 0, have fewer.
    """
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_meta or tensor.dtype not in DENSE_DTYPES:
            kind = "meta" if tensor.is_meta else f"{tensor.layout}, {tensor.dtype}".replace("torch.", "")
            raise InputError(f"{path}: {name} is a tensor of another kind ({kind}): save dense tensors of numbers")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise InputError(f"{path}: {name} repeats its values in memory: save contiguous tensors")


def state_dict_mismatch(expected: Mapping[str, Tensor], given: Mapping[Any, Any]) -> str:
    """Describe how a state dict differs from the one of a network; empty if they match."""
    shapes = {name: tuple(one.shape) if isinstance(one, Tensor) else "no tensor" for name, one in given.items()}
    kinds = {
        "missing": [name for name in expected if name not in given],
        "unexpected": [name for name in given if name not in expected],
        "with another shape": [
            f"{name} is {shapes[name]}, expected {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in shapes and shapes[name] != tuple(tensor.shape)
        ],
    }
    return "; ".join(summarise_names(kind, names) for kind, names in kinds.items() if names)


def summarise_names(kind: str, names: list[str]) -> str:
    """Return the number of names, their kind and the first few of them, as in "7 weights (a, b and 5 more)"."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {kind} ({', '.join(str(name)[:200] for name in names[:SHOWN])}{more})"
