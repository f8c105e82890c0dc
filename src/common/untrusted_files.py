"""Read files from anyone: regular files only, with limits on their size, their nesting and what they unpack to."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from src.common.errors import InputError
from src.common.regular_files import require_regular_file

MAX_TEXT_BYTES = 2**20
"""Limit of a config in YAML or JSON; the largest of this suite has 20 kB."""

MAX_BRACKETS = 64
"""Limit of nested lists and mappings in brackets in YAML."""

MAX_UNPACKED_BYTES = 2**32
"""Limit of the arrays in an .npz file; 6,000 masks of 2048x2048, one bit per pixel, need 3 GiB."""


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Read a regular UTF-8 file; raises InputError if it is missing, larger than `max_bytes` or not UTF-8."""
    require_regular_file(path)
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise InputError(f"{path} has more than {max_bytes} bytes, so it is no file of this suite")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is corrupt: it is not UTF-8 ({error.reason} at byte {error.start})") from error


def read_yaml(path: Path) -> Any:
    """Read the plain values of a YAML file; raises InputError if it is missing, too large, too deep or corrupt."""
    text = read_text(path)
    try:
        return parse_yaml(text)
    except RecursionError:
        raise InputError(f"{path} is nested too deeply, so it is no file of this suite") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path} is corrupt: {' '.join(str(error).split())}") from error


def parse_yaml(text: str) -> Any:
    """Return the plain values of a YAML text without aliases; raises YAMLError, ValueError or RecursionError."""
    return yaml.load(text, _Loader)  # derived from SafeLoader


def read_json(path: Path) -> Any:
    """Read the plain values of a JSON file; raises InputError if it is missing, too large, too deep or corrupt."""
    text = read_text(path)
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError(f"{path} is nested too deeply, so it is no file of this suite") from None
    except ValueError as error:  # numbers with thousands of digits, too
        raise InputError(f"{path} is corrupt: {error}") from error


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of an .npz file, which must not unpack to more than `MAX_UNPACKED_BYTES`.

    Raises:
        InputError: the path is no regular file.
        ValueError: the arrays are too large, or an array's header does not match the bytes that follow.
    """
    require_regular_file(path)
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_UNPACKED_BYTES:
            raise ValueError(f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")
        for entry in archive.infolist():
            with archive.open(entry) as member:
                _require_true_header(member, entry)
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


def _require_true_header(member: Any, entry: zipfile.ZipInfo) -> None:
    """Compare the size that an array's header states with that of its entry: numpy allocates what the header states."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    count = 1
    for side in shape:
        count *= side
    if count * dtype.itemsize > entry.file_size:
        raise ValueError(f"{entry.filename} states {count} values and has {entry.file_size} bytes")


class _Loader(yaml.SafeLoader):
    """SafeLoader without aliases, which can repeat a value exponentially often; files of this suite have none.

    Brackets are limited, as PyYAML's time grows with the square of their depth.
    """

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:  # noqa: N803  # PyYAML's name
        if self.flow_level >= MAX_BRACKETS:
            raise yaml.YAMLError(f"it has more than {MAX_BRACKETS} nested brackets")
        super().fetch_flow_collection_start(TokenClass)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*), which files of this suite never have")
        return super().compose_node(parent, index)
