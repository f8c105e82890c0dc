"""Manifests: the images of a dataset, the recorded facts about their files, and the split of each.

A manifest is a Parquet file with one row per image, in the order of its split. Images that belong to no split are
listed by name only, so that files added later are recognised as new. `python -m src.prepare` writes manifests, and
`DatasetFiles` reads them.
"""

import functools
import hashlib
import inspect
import json
import mmap
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import cached_property
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
from src.data.splits import Splits

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

FILES_PER_TASK = 1024

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

    name: str
    root: str
    split: dict[str, Any]
    sha256: str
    made: str


@dataclass(frozen=True)
class Manifest:
    """A manifest read from a file.

    Attributes:
        table: all or some of `COLUMNS`.
    """

    path: Path
    origin: Origin
    table: pa.Table

    @classmethod
    def read(cls, path: Path, columns: Sequence[str] | None = None) -> "Manifest":
        """Read all or some columns of a manifest.

        Raises:
            InputError: the file is missing, corrupt, or not a manifest.
        """
        advice, another = "delete it and run python -m src.prepare again", "set data.manifest=<a manifest>"
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                written = (file.schema_arrow.metadata or {}).get(_METADATA_KEY)
                if written is None:
                    raise InputError(f"{path} is a Parquet file, but not a manifest of src.prepare: {another}")
                origin = Origin(**json.loads(written))
                if not file.schema_arrow.equals(COLUMNS):
                    raise TypeError("it has other columns")
                return cls(path, origin, file.read(columns))
        except FileNotFoundError:
            raise InputError(
                f"data.manifest={path} does not exist: write it with python -m src.prepare, or set data.manifest=null"
            ) from None
        except PermissionError:
            raise InputError(f"{path} can't be read: permission denied") from None
        except InputError:
            raise
        except (TypeError, json.JSONDecodeError) as error:
            raise InputError(f"{path} was written by another version of this package ({error}): {advice}") from error
        except Exception as error:  # corrupt files raise unrelated types, some with messages of several lines
            reason = " ".join(str(error).split())
            if _contains_metadata_key(path):
                raise InputError(f"{path} is a corrupt manifest ({reason}): {advice}") from error
            raise InputError(f"{path} is not a manifest ({reason}): {another}") from error

    def names(self, split: str) -> list[str]:
        """Return the intact images of a split, in order."""
        return self._intact(split)["path"].to_pylist()  # type: ignore[no-any-return]

    @cached_property
    def corrupt(self) -> list[str]:
        """Images that are left out of the splits."""
        return self.table.filter(pc.is_valid(pc.field("corrupt")))["path"].to_pylist()  # type: ignore[no-any-return]

    def split_of(self) -> dict[str, str | None]:
        """Return the split of each image, corrupt or not; None for images that belong to no split."""
        return dict(zip(self.table["path"].to_pylist(), self.table["split"].to_pylist(), strict=True))

    def find_changes(self, root: Path, splits: Sequence[str], *, contents: bool) -> list[str]:
        """Describe each intact image of these splits that is now missing or different.

        Args:
            contents: read every file and compare hashes, instead of comparing sizes only.
        """
        found = []
        for split in splits:
            table = self._intact(split)
            names, sizes = table["path"].to_pylist(), table["bytes"].to_numpy()
            files = [f"{root}/{name}" for name in names]
            now = sizes_and_mtimes(files)[:, 0]
            for i in np.flatnonzero(now != sizes):
                found.append(
                    f"{names[i]} is missing" if now[i] < 0 else f"{names[i]} has {now[i]} bytes instead of {sizes[i]}"
                )
            if contents:
                same_size = np.flatnonzero(now == sizes)
                hashes = table["sha256"].to_pylist()
                with ThreadPoolExecutor() as readers:
                    read = readers.map(file_sha256, [files[i] for i in same_size])
                    digests = track(read, f"reading {split}", total=len(same_size), transient=True)
                    found += [
                        f"{names[i]} has other content"
                        for i, digest in zip(same_size, digests, strict=True)
                        if digest != hashes[i]
                    ]
        return found

    def _intact(self, split: str) -> pa.Table:
        return self.table.filter((pc.field("split") == split) & pc.is_null(pc.field("corrupt")))


def _contains_metadata_key(path: Path) -> bool:
    """Return whether an unreadable file was a manifest, so that no message advises to delete another file."""
    with (
        suppress(OSError, ValueError),  # an empty file can't be mapped
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(_METADATA_KEY) >= 0
    return False


def write_manifest(path: Path, table: pa.Table, *, name: str, root: Path, split: Callable[..., Any]) -> Origin:
    """Write a manifest atomically.

    Args:
        table: columns as in `COLUMNS`.
        split: the function that made the splits in `table`.
    Raises:
        InputError: the file can't be written.
    """
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


def describe_split(split: Callable[..., Any]) -> dict[str, Any]:
    """Return a split function's name and all its arguments, including defaults, as JSON values.

    Raises:
        InputError: the function does not have one of the arguments.
    """
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


def names_by_split(root: Path, splits: Splits) -> dict[str, list[str]]:
    """Return the `relative_names` of every split."""
    return {split: relative_names(root, splits[split]) for split in SPLITS}


def file_sha256(path: str | Path) -> str | None:
    """Return the SHA-256 of a file, or None if it can't be read."""
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

    def stat_all(some: Sequence[str | Path]) -> list[tuple[int, int]]:
        found = []
        for file in some:
            try:
                status = os.stat(file)  # noqa: PTH116  # making a Path takes longer than the call
                found.append((status.st_size, status.st_mtime_ns))
            except OSError:
                found.append((-1, -1))
        return found

    # Threads, as calls to network file systems have high latency.
    with ThreadPoolExecutor(32) as pool:
        parts = pool.map(stat_all, (files[i : i + FILES_PER_TASK] for i in range(0, len(files), FILES_PER_TASK)))
    return np.array([pair for part in parts for pair in part], np.int64).reshape(-1, 2)
