"""Manifests: which pictures a data set had when it was checked, what was in their files, and the split of each.

A manifest is a Parquet file, a row a picture, in the order of its split. Pictures that no split takes stand in it by
name alone, so that others which come later are known to be new. `python -m src.prepare` writes it; `PictureFiles` reads
it.
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
        "damaged": pa.string(),
    }
)
"""What is known of a file: `path` relative to the data set's folder; `width` and `height` of the upright picture;
`mode` and `format` as Pillow names them; `damaged` says why it can't be used, and is null of most."""

COLUMNS = FACTS.insert(1, pa.field("split", pa.string()))
"""Of a manifest; `split` is null for pictures that no split takes."""

TOGETHER = 1024
"""So many files are asked about by one thread at a time."""

_METADATA_KEY = b"inpainting_suite.manifest"


@dataclass(frozen=True)
class Origin:
    """Where a manifest comes from.

    Attributes:
        name: of the data set.
        root: its folder when it was checked. Paths are relative, so it may lie elsewhere since.
        split: the function that split it and its arguments, as of `described`.
        sha256: of the path, the split and the content of every picture that a split takes: alike for two copies of a
            data set, whatever their folders and dates.
        made: ISO 8601, with a time zone.
    """

    name: str
    root: str
    split: dict[str, Any]
    sha256: str
    made: str


@dataclass(frozen=True)
class Manifest:
    """A manifest that was read.

    Attributes:
        table: as of `COLUMNS`, or some of them.
    """

    path: Path
    origin: Origin
    table: pa.Table

    @classmethod
    def read(cls, path: Path, columns: Sequence[str] | None = None) -> "Manifest":
        """Read what `write_manifest` wrote, all columns or some.

        Raises:
            InputError: the file is missing, damaged, or no manifest.
        """
        advice, another = "delete it, and make it anew by python -m src.prepare", "give data.manifest=<file>"
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                written = (file.schema_arrow.metadata or {}).get(_METADATA_KEY)
                if written is None:
                    raise InputError(f"{path}: a Parquet file, but no manifest of python -m src.prepare: {another}")
                origin = Origin(**json.loads(written))
                if not file.schema_arrow.equals(COLUMNS):
                    raise TypeError("its columns are others")
                return cls(path, origin, file.read(columns))
        except FileNotFoundError:
            raise InputError(f"{path}: there is no such manifest; python -m src.prepare writes one") from None
        except PermissionError:
            raise InputError(f"{path} can't be read: permission denied") from None
        except InputError:
            raise
        except (TypeError, json.JSONDecodeError) as error:
            raise InputError(f"{path}: was written by another version of this suite ({error}): {advice}") from error
        except Exception as error:  # what damaged files raise has no common ancestor, and may have several lines
            reason = " ".join(str(error).split())
            if _was_manifest(path):
                raise InputError(f"{path}: is a damaged manifest ({reason}): {advice}") from error
            raise InputError(f"{path}: is no manifest ({reason}): {another}") from error

    def names(self, split: str) -> list[str]:
        """The sound pictures of a split, in order."""
        return self._sound(split)["path"].to_pylist()  # type: ignore[no-any-return]

    @cached_property
    def damaged(self) -> list[str]:
        """Pictures that the splits leave out."""
        return self.table.filter(pc.is_valid(pc.field("damaged")))["path"].to_pylist()  # type: ignore[no-any-return]

    def split_of(self) -> dict[str, str | None]:
        """The split of each picture, damaged or not; None of those that no split takes."""
        return dict(zip(self.table["path"].to_pylist(), self.table["split"].to_pylist(), strict=True))

    def changes(self, root: Path, splits: Sequence[str], *, contents: bool) -> list[str]:
        """What is not as it was of the sound pictures of some splits, a few words with its name each.

        Args:
            contents: read them all and compare their hashes; else their sizes alone.
        """
        found = []
        for split in splits:
            table = self._sound(split)
            names, sizes = table["path"].to_pylist(), table["bytes"].to_numpy()
            files = [f"{root}/{name}" for name in names]
            now = sizes_and_times(files)[:, 0]
            for i in np.flatnonzero(now != sizes):
                found.append(
                    f"{names[i]} is missing" if now[i] < 0 else f"{names[i]} has {now[i]} bytes, not {sizes[i]}"
                )
            if contents:
                same_size = np.flatnonzero(now == sizes)
                hashes = table["sha256"].to_pylist()
                with ThreadPoolExecutor() as readers:
                    read = readers.map(hash_of, [files[i] for i in same_size])
                    digests = track(read, f"reading {split}", total=len(same_size), transient=True)
                    found += [
                        f"{names[i]} has another content"
                        for i, digest in zip(same_size, digests, strict=True)
                        if digest != hashes[i]
                    ]
        return found

    def _sound(self, split: str) -> pa.Table:
        return self.table.filter((pc.field("split") == split) & pc.is_null(pc.field("damaged")))


def _was_manifest(path: Path) -> bool:
    """Whether our mark is in a file that can't be read as Parquet: of others nobody is told to delete them."""
    with (
        suppress(OSError, ValueError),  # an empty file can't be mapped
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(_METADATA_KEY) >= 0
    return False


def write_manifest(path: Path, table: pa.Table, *, name: str, root: Path, split: Callable[..., Any]) -> Origin:
    """Write one; a file of that name is replaced only once the new one is whole.

    Args:
        table: as of `COLUMNS`.
        split: made `table`'s splits.
    Raises:
        InputError: the place can't be written to.
    """
    taken = table.filter(pc.is_valid(pc.field("split")))
    digest = hashlib.sha256()
    for row in zip(*(taken[column].to_pylist() for column in ("path", "split", "sha256")), strict=True):
        digest.update(json.dumps(row).encode())
    origin = Origin(
        name=name,
        root=str(root.absolute()),
        split=described(split),
        sha256=digest.hexdigest(),
        made=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    table = table.replace_schema_metadata({_METADATA_KEY: json.dumps(asdict(origin))})
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
    return origin


def described(split: Callable[..., Any]) -> dict[str, Any]:
    """A split function's name and all its arguments, those that were left to their defaults too, as JSON has them.

    Raises:
        InputError: it has no such argument.
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
    """The names of files below a folder, relative to it; quicker than `Path.relative_to`, for a million of them."""
    start = 0 if root == Path() else len(os.path.join(root, ""))  # noqa: PTH118  # it alone ends with a slash
    return [file.as_posix()[start:] for file in files]


def names_by_split(root: Path, splits: Splits) -> dict[str, list[str]]:
    """`relative_names` of every split."""
    return {split: relative_names(root, splits[split]) for split in SPLITS}


def hash_of(path: str | Path) -> str | None:
    """The SHA-256 of a file; None if it can't be read."""
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def sizes_and_times(files: Sequence[str | Path]) -> NDArray[np.int64]:
    """The size and the time of change of every file, (files, 2); -1 where there is none, whose reading says so."""

    def look(some: Sequence[str | Path]) -> list[tuple[int, int]]:
        found = []
        for file in some:
            try:
                status = os.stat(file)  # noqa: PTH116  # to make a Path of each takes longer than to ask
                found.append((status.st_size, status.st_mtime_ns))
            except OSError:
                found.append((-1, -1))
        return found

    # On a network's disk an answer takes a while: many are waited for at once.
    with ThreadPoolExecutor(32) as lookers:
        parts = lookers.map(look, (files[i : i + TOGETHER] for i in range(0, len(files), TOGETHER)))
    return np.array([pair for part in parts for pair in part], np.int64).reshape(-1, 2)
