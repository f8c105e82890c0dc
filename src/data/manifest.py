"""Manifests: the images of a dataset, the recorded facts about their files, and the split of each.

A manifest is a Parquet file with one row per image, in the order of its split. Images that belong to no split are
listed by name only, so that files added later are recognised as new.
"""

import functools
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.progress import track

from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.common.schema_files import STRICT, parse_json

SPLITS = ("train", "validation", "test")

FACTS = pa.schema(
    {
        "path": pa.string(),
        "bytes": pa.int64(),
        "modified_ns": pa.int64(),
        "sha256": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "mode": pa.string(),
        "format": pa.string(),
        "corrupt": pa.string(),
    }
)
"""Columns about a file: `path` is relative to the dataset's directory; `width` and `height` are those of the upright
image; `mode` and `format` are Pillow's; `corrupt` is the reason why the file can't be used, or null."""

COLUMNS = FACTS.insert(1, pa.field("split", pa.string()))
"""Columns of a manifest; `split` is null for images that belong to no split."""

_METADATA_KEY = b"inpainting_suite.manifest"


@dataclass(frozen=True)
class Origin:
    """How a manifest was made.

    Attributes:
        name: name of the dataset.
        root: its directory when it was prepared; paths are relative, so the dataset may have been moved since.
        split: its split function with all arguments, from `describe_split`.
        sha256: hash of path, split and content of every image that belongs to a split; two copies of a dataset have the
            same hash, whatever their directories and dates.
        made: time in ISO 8601, with a time zone.
    """

    __pydantic_config__ = STRICT

    name: str
    root: str
    split: dict[str, Any]
    sha256: str
    made: str


@dataclass(frozen=True)
class Manifest:
    """A manifest read from a file; `table` has all or some of `COLUMNS`."""

    path: Path
    origin: Origin
    table: pa.Table

    @classmethod
    def read(cls, path: Path, columns: Sequence[str] | None = None) -> "Manifest":
        """Read all or some columns of a manifest; raises InputError if the file is missing or not an intact one."""
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                origin = parse_json(Origin, file.schema_arrow.metadata[_METADATA_KEY])
                if not file.schema_arrow.equals(COLUMNS):
                    raise TypeError("other columns")
                table = file.read(columns)
                _require_plausible(table)
                return cls(path, origin, table)
        except FileNotFoundError:
            raise InputError(
                f"data.manifest={path} does not exist: write it with python -m src.prepare, or set data.manifest=null"
            ) from None
        except PermissionError:
            raise InputError(f"{path} can't be read: permission denied") from None
        except Exception as error:  # corrupt files raise unrelated types, some with messages of several lines
            raise InputError(
                f"{path} is corrupt, not a manifest, or of another version ({' '.join(str(error).split())}): set "
                "data.manifest=<a manifest>, or, if it is one, delete it and run python -m src.prepare again"
            ) from error

    def names(self, split: str) -> list[str]:
        """Return the intact images of a split, in order."""
        return self._intact(split)["path"].to_pylist()  # type: ignore[no-any-return]

    @property
    def corrupt(self) -> list[str]:
        """Images that are left out of the splits."""
        return self.table.filter(pc.is_valid(pc.field("corrupt")))["path"].to_pylist()  # type: ignore[no-any-return]

    def split_of(self) -> dict[str, str | None]:
        """Return the split of each image, corrupt or not; None for images that belong to no split."""
        return dict(zip(self.table["path"].to_pylist(), self.table["split"].to_pylist(), strict=True))

    def find_changes(self, root: Path, splits: Sequence[str], *, contents: bool) -> list[str]:
        """Describe each intact image of these splits that is missing or has another size or, if `contents`, hash."""
        found = []
        for split in splits:
            table = self._intact(split)
            names, sizes, hashes = (table[column].to_pylist() for column in ("path", "bytes", "sha256"))
            now = sizes_and_mtimes([f"{root}/{name}" for name in names])[:, 0].tolist()
            rows = list(zip(names, sizes, now, hashes, strict=True))
            for name, size, size_now, _ in rows:
                if size_now != size:
                    found.append(f"{name} is missing" if size_now < 0 else f"{name} has {size_now} bytes, not {size}")
            if contents:
                readable = [(name, digest) for name, size, size_now, digest in rows if size_now == size]
                with ThreadPoolExecutor() as readers:
                    read = readers.map(file_sha256, [root / name for name, _ in readable])
                    digests = track(read, f"reading {split}", total=len(readable), transient=True)
                    compared = zip(readable, digests, strict=True)
                    found += [f"{name} has other content" for (name, digest), now in compared if now != digest]
        return found

    def _intact(self, split: str) -> pa.Table:
        return self.table.filter((pc.field("split") == split) & pc.is_null(pc.field("corrupt")))


def write_manifest(path: Path, table: pa.Table, *, name: str, root: Path, split: Callable[..., Any]) -> Origin:
    """Write a manifest, with the columns `COLUMNS`, atomically; `split` is the function that made its splits."""
    taken = table.filter(pc.is_valid(pc.field("split")))
    digest = hashlib.sha256()
    for row in zip(*(taken[column].to_pylist() for column in ("path", "split", "sha256")), strict=True):
        digest.update(json.dumps(row).encode())
    origin = Origin(
        name=name,
        root=str(root.absolute()),
        split=describe_split(split),
        sha256=digest.hexdigest(),
        made=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    table = table.replace_schema_metadata({_METADATA_KEY: json.dumps(asdict(origin))})
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
    return origin


def _require_plausible(table: pa.Table) -> None:
    """Raise ValueError if a path leaves the dataset's directory or occurs twice, or a split or size does not exist."""

    def require(fits: Any, column: str, expected: str) -> None:
        wrong = table[column].filter(pc.invert(pc.fill_null(fits, True)))
        if len(wrong):
            raise ValueError(f"{column} must be {expected}, got {str(wrong[0].as_py())[:200]!r}")

    present = set(table.column_names)
    if "path" in present:
        leaves = pc.match_substring_regex(table["path"], r"^/|(^|/)\.\.(/|$)|\x00|^$")
        require(pc.invert(leaves), "path", "relative and inside the dataset's directory")
        if table["path"].null_count or pc.count_distinct(table["path"]).as_py() != len(table):
            raise ValueError("a path is missing or occurs twice")
    if "split" in present:
        require(pc.is_in(table["split"], pa.array([*SPLITS, None])), "split", f"one of {', '.join(SPLITS)} or null")
    for column, least in {"bytes": -1, "width": 0, "height": 0}.items():  # -1: of a file that can't be accessed
        if column in present:
            require(pc.greater_equal(table[column], least), column, f"at least {least}")


def describe_split(split: Callable[..., Any]) -> dict[str, Any]:
    """Return a split function's name and all its arguments, including defaults, as JSON values."""
    function, given = (split.func, split.keywords) if isinstance(split, functools.partial) else (split, {})
    named = function if hasattr(function, "__qualname__") else type(function)
    try:
        bound = inspect.signature(function).bind_partial(**given)
    except TypeError as error:
        raise InputError(f"data.split: {named.__qualname__} {error}") from error
    bound.apply_defaults()
    arguments = {"_target_": f"{named.__module__}.{named.__qualname__}", **bound.arguments}
    return json.loads(json.dumps(arguments, default=str))  # type: ignore[no-any-return]


def relative_names(root: Path, files: Sequence[Path]) -> list[str]:
    """Return file names relative to `root`; `Path.relative_to` is too slow for a million of them."""
    start = 0 if root == Path() else len(os.path.join(root, ""))  # noqa: PTH118  # only this adds a trailing slash
    return [file.as_posix()[start:] for file in files]


def file_sha256(path: str | Path) -> str | None:
    """Return the SHA-256 of a file, or None if it can't be read or is a pipe or device."""
    if not Path(path).is_file():
        return None
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def sizes_and_mtimes(files: Sequence[str | Path]) -> NDArray[np.int64]:
    """Return size and modification time (ns) of every file, shape (files, 2); -1 for files that can't be accessed."""

    def stat(file: str | Path) -> tuple[int, int]:
        try:
            status = os.stat(file)  # noqa: PTH116  # making a Path takes longer than the call
        except OSError:
            return -1, -1
        return status.st_size, status.st_mtime_ns

    with ThreadPool(32) as pool:  # threads, as calls to network file systems have high latency
        return np.array(pool.map(stat, files, chunksize=1024), np.int64).reshape(-1, 2)
