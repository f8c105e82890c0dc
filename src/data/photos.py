"""Photos as a pipeline first needs them: read, and resized where that comes first; once for all samples of a photo."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import albumentations as A
import numpy as np

from src.data.transforms import resize_shorter_side, shorter_side_px
from src.image_files.reading import UInt8Array, read_image


@dataclass(frozen=True)
class PhotoReader:
    """Reads a photo and does to it what a pipeline begins with, if that is a resize.

    Attributes:
        shorter_side_px: of the resized photo; None leaves it as it is.
        reduced_decode: decode no more of a JPEG than that needs, as `read_image` can.
    """

    shorter_side_px: int | None
    reduced_decode: bool

    @classmethod
    def of(cls, transform: A.Compose, reduced_decode: bool) -> "PhotoReader":
        """For a pipeline. One that does not begin with a resize may look at any part closely, and gets photos whole."""
        side_px = shorter_side_px(transform)
        return cls(side_px, reduced_decode and side_px is not None)

    def __call__(self, path: Path) -> UInt8Array:
        """Read one, as `read_image` says."""
        if self.shorter_side_px is None:
            return read_image(path)
        return resize_shorter_side(
            read_image(path, self.shorter_side_px if self.reduced_decode else None), self.shorter_side_px
        )


class Photos:
    """Photos by number: from memory or from their files, with the same pixels.

    A photo stays in memory from its first use on, until the cache is full. Nothing is evicted: an epoch uses every
    photo once, so a cache of the latest ones would drop each before its next use.

    Args:
        cache_bytes: size of the cache, in bytes of pixels. The latest photo is kept as well: evaluation uses a photo
            several times in a row.
    Raises:
        InputError: on access, a file is missing or damaged.
    """

    def __init__(self, files: Sequence[Path], reader: PhotoReader, *, cache_bytes: int = 0) -> None:
        # One block of bytes: of a list of a million paths every worker would make its own copy, by counting references.
        self._files = np.array([os.fsencode(file) for file in files])
        self._reader, self._free_bytes = reader, cache_bytes
        self._cache: dict[int, UInt8Array] = {}
        self._latest: tuple[int, UInt8Array] | None = None

    def __len__(self) -> int:
        return len(self._files)

    def path(self, number: int) -> str:
        """Where the photo lies."""
        return os.fsdecode(self._files[number])

    def __getitem__(self, number: int) -> UInt8Array:
        """The photo, (H, W, 3); not to be written to."""
        if number in self._cache:
            return self._cache[number]
        if self._latest is not None and self._latest[0] == number:
            return self._latest[1]
        photo = self._reader(Path(self.path(number)))
        if photo.nbytes <= self._free_bytes:
            self._free_bytes -= photo.nbytes
            self._cache[number] = photo
        self._latest = number, photo
        return photo
