"""Packs: photos read once, and resized if that comes first, kept so that all processes map their bytes; for slow disks.

A pack is a folder of Arrow files (IPC format, uncompressed): 00000.arrow, 00001.arrow and so on. A row is a photo: its
path, what its file looked like, and its pixels with their checksum. What is written never changes. Photos that are new,
or whose files have changed, go into a file of their own, and of two rows of a path the later one counts; so a packing
that is interrupted goes on where it was, and one changed photo costs no copy of all others.
"""

import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock
from numpy.typing import NDArray
from rich.progress import Progress

from src.common.errors import InputError
from src.data.manifest import sizes_and_times
from src.image_files.reading import UInt8Array

PART_BYTES = 2**30
"""Of pixels, after which a file of a pack ends and the next one begins."""

TOGETHER = 16
"""So many photos are read side by side, and written as one record batch."""

_SETTINGS = b"prepared"
_ADVICE = "delete it, and what it held is packed anew"
_FIELDS = {
    "path": pa.binary(),
    "file_bytes": pa.int64(),
    "modified_ns": pa.int64(),
    "height": pa.int64(),
    "width": pa.int64(),
    "crc32": pa.int64(),
    "pixels": pa.large_binary(),
}

log = logging.getLogger(__name__)


class Pack:
    """The photos in a pack.

    Where the folder is not there yet, it holds none. To other processes it goes by its name, and they map it again.

    Args:
        folder: of this pack alone.
        settings: how its photos were prepared; it takes no others in.
    Raises:
        InputError: on access, a file of the pack is damaged, is something else, or was prepared otherwise.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = folder, dict(settings)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "settings": self.settings}

    def rows(self, files: Sequence[Path]) -> NDArray[np.int64]:
        """The row of each file's photo, -1 where there is none; whether the file has changed is not looked at."""
        paths = self._contents.paths
        last_first = paths.take(pa.array(np.arange(len(paths))[::-1]))
        found = pc.index_in(pa.array([_name(file) for file in files], pa.binary()), value_set=last_first)
        rows: NDArray[np.int64] = len(paths) - 1 - found.fill_null(len(paths)).to_numpy().astype(np.int64)
        return rows

    def photo(self, row: int) -> UInt8Array:
        """One of them, (H, W, 3) uint8: the pack's own bytes, not to be written to; the first time they are checked."""
        contents = self._contents
        batch = int(np.searchsorted(contents.starts, row, side="right")) - 1
        pixels = contents.batches[batch][row - int(contents.starts[batch])].as_buffer()
        if not contents.checked[row]:
            if zlib.crc32(pixels) != contents.checksums[row]:
                file = os.fsdecode(contents.paths[row].as_py())
                raise InputError(
                    f"{self._part_of(row)}: is damaged, the pixels of {file} are not those that were written: {_ADVICE}"
                )
            contents.checked[row] = True
        photo = np.frombuffer(pixels, np.uint8).reshape(contents.heights[row], contents.widths[row], 3)
        photo.flags.writeable = False  # Arrow does not say so, and to write would end the process
        return photo

    def update(self, files: Sequence[Path], read: Callable[[Path], UInt8Array], title: str) -> None:
        """Take in what is new or has changed, by size or time of the file; several processes may call it at once.

        Args:
            read: makes a photo of a file, as `settings` say.
            title: of the progress bar.
        Raises:
            InputError: a photo can't be read, or the pack not be written, as its disk lacks the space or otherwise.
        """
        wanted, _ = self._wanted(files)
        if not wanted:
            return  # and nothing was written: it may lie on a disk that can only be read
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                wanted, looks = self._wanted(wanted)  # another process may have packed them since
                if wanted:
                    written = self._write(wanted, looks, read, title)
                    log.info(
                        "%s: %d photos packed in %s, %.2f GiB, %.0f KiB each",
                        *(title, len(wanted), self.folder, written / 2**30, written / 2**10 / len(wanted)),
                    )
        except OSError as error:
            raise InputError(f"data.packed: {self.folder} can't be written: {error.strerror}") from error
        self.__dict__.pop("_contents", None)

    def _wanted(self, files: Sequence[Path]) -> tuple[list[Path], NDArray[np.int64]]:
        """Those files that are new or have changed, and their sizes and times; the pack is read anew."""
        self.__dict__.pop("_contents", None)
        looks = sizes_and_times(files)
        contents, rows = self._contents, self.rows(files)
        current = rows >= 0
        current[current] = (contents.looks[rows[current]] == looks[current]).all(axis=1)
        wanted = np.flatnonzero(~current)
        return [files[i] for i in wanted.tolist()], looks[wanted]

    def _write(
        self, files: Sequence[Path], looks: NDArray[np.int64], read: Callable[[Path], UInt8Array], title: str
    ) -> int:
        """Write parts; returns the bytes of pixels in them."""
        number = 1 + max((int(part.stem) for part in self._parts()), default=-1)
        total = done = 0
        with ThreadPoolExecutor() as readers:
            first = list(readers.map(read, files[:TOGETHER]))
        self._check_space(sum(photo.nbytes for photo in first) / len(first), len(files), title)
        with ThreadPoolExecutor() as readers, Progress(transient=True) as progress:
            bar = progress.add_task(title, total=len(files))
            while done < len(files):
                with self._part(number) as part:
                    in_part = 0
                    while done < len(files) and in_part < PART_BYTES:
                        chosen = slice(done, done + TOGETHER)
                        photos = list(readers.map(read, files[chosen])) if done else first
                        part.write_batch(_batch(files[chosen], looks[chosen], photos))
                        in_part += sum(photo.nbytes for photo in photos)
                        done += len(photos)
                        progress.update(bar, completed=done)
                total, number = total + in_part, number + 1
        return total

    def _check_space(self, photo_bytes: float, photos: int, title: str) -> None:
        needed, free = photo_bytes * photos / 2**30, shutil.disk_usage(self.folder).free / 2**30
        log.info("%s: %d photos to be packed in %s, about %.2f GiB", title, photos, self.folder, needed)
        if needed > free:
            raise InputError(
                f"data.packed: {self.folder} would grow by about {needed:.2f} GiB, and its disk has {free:.2f} GiB "
                "free: name a folder on a larger one, or set data.packed=null; photos are packed whole where the "
                "transform does not begin with a resize"
            )

    @contextmanager
    def _part(self, number: int) -> Iterator[Any]:
        """A writer of a file that is there only once it is whole."""
        part = self.folder / f"{number:05}.arrow"
        unfinished = part.with_name("unfinished")  # the lock is held: there is only one, perhaps of a killed process
        schema = pa.schema(_FIELDS, metadata={_SETTINGS: json.dumps(self.settings, sort_keys=True)})
        with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            yield writer
        unfinished.replace(part)

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("*.arrow"))

    def _part_of(self, row: int) -> Path:
        parts = self._parts()
        ends = np.cumsum([len(self._opened(part)) for part in parts])
        return parts[int(np.searchsorted(ends, row, side="right"))]

    @cached_property
    def _contents(self) -> "_Contents":
        parts = [self._opened(part) for part in self._parts()]
        return _Contents.of(pa.concat_tables(parts) if parts else pa.schema(_FIELDS).empty_table())

    def _opened(self, part: Path) -> pa.Table:
        try:
            int(part.stem)
            table = pa.ipc.open_file(pa.memory_map(str(part))).read_all()
            table.validate(full=True)
            settings = json.loads((table.schema.metadata or {}).get(_SETTINGS, b"null"))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(f"{part}: is no part of a pack of photos, or is damaged ({error}): {_ADVICE}") from error
        if settings is None:
            raise InputError(f"{part}: is no part of a pack of photos: name another folder as data.packed")
        if not table.schema.equals(pa.schema(_FIELDS)):
            raise InputError(f"{part}: was written by another version of this suite: {_ADVICE}")
        if settings != self.settings:
            raise InputError(f"{part}: its photos were prepared by {settings}, not {self.settings}: {_ADVICE}")
        sides = np.stack([table["height"].to_numpy(), table["width"].to_numpy()])
        no_sides = (sides < 1) | (sides > 2**30)  # beyond, the product would overflow
        if no_sides.any() or (pc.binary_length(table["pixels"]).to_numpy() != sides.prod(axis=0) * 3).any():
            raise InputError(f"{part}: is damaged, a photo has more or fewer pixels than its size says: {_ADVICE}")
        return table.replace_schema_metadata(None)


@dataclass(frozen=True)
class _Contents:
    """A pack's columns: all in memory but the pixels, which stay in the files.

    Attributes:
        looks: (rows, 2), as of `sizes_and_times`.
        batches: the pixels, and `starts`: the first row of each batch.
        checksums: of the pixels, and `checked`: of which photos they have been compared.
    """

    paths: Any
    looks: NDArray[np.int64]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    batches: list[Any]
    starts: NDArray[np.int64]
    checksums: NDArray[np.int64]
    checked: NDArray[np.bool_]

    @classmethod
    def of(cls, table: pa.Table) -> "_Contents":
        looks = np.stack([table["file_bytes"].to_numpy(), table["modified_ns"].to_numpy()], axis=1)
        batches = table["pixels"].chunks
        starts = np.cumsum([0, *(len(batch) for batch in batches)])[:-1]
        paths = pa.concat_arrays([pa.array([], pa.binary()), *table["path"].chunks])
        heights, widths, checksums = (table[name].to_numpy() for name in ("height", "width", "crc32"))
        return cls(paths, looks, heights, widths, batches, starts, checksums, np.zeros(len(table), bool))


def _name(file: Path) -> bytes:
    return os.fsencode(file.absolute())


def _batch(files: Sequence[Path], looks: NDArray[np.int64], photos: Sequence[UInt8Array]) -> pa.RecordBatch:
    pixels = [photo.tobytes() for photo in photos]
    columns = {
        "path": [_name(file) for file in files],
        "file_bytes": looks[:, 0],
        "modified_ns": looks[:, 1],
        "height": [photo.shape[0] for photo in photos],
        "width": [photo.shape[1] for photo in photos],
        "crc32": [zlib.crc32(photo) for photo in pixels],
        "pixels": pixels,
    }
    return pa.record_batch([pa.array(columns[name], kind) for name, kind in _FIELDS.items()], names=list(_FIELDS))
