"""Images as the pipelines need them: read, resized if that is their first step, and cached in memory."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import albumentations as A
import numpy as np

from src.data.transforms import resize_shorter_side, shorter_side_px
from src.image_files.reading import UInt8Array, read_image


@dataclass(frozen=True)
class ImageReader:
    """Read an image and apply the first step of a pipeline if it is a resize.

    Attributes:
        shorter_side_px: length of the shorter side after the resize; None leaves the image as it is.
        reduced_decode: decode JPEGs no larger than the resize needs, see `read_image`.
    """

    shorter_side_px: int | None
    reduced_decode: bool

    @classmethod
    def of(cls, transform: A.Compose, reduced_decode: bool) -> "ImageReader":
        """Return the reader for a pipeline; if it does not begin with a resize, it needs full-size images."""
        side_px = shorter_side_px(transform)
        return cls(side_px, reduced_decode and side_px is not None)

    def __call__(self, path: Path) -> UInt8Array:
        """Return the image, (H, W, 3)."""
        if self.shorter_side_px is None:
            return read_image(path)
        image = read_image(path, self.shorter_side_px if self.reduced_decode else None)
        return resize_shorter_side(image, self.shorter_side_px)


class CachedImages:
    """Images by number. Images stay in memory from their first use until the cache is full.

    Nothing is evicted: an epoch uses every image once, so a least-recently-used cache would drop each one before its
    next use.

    Args:
        cache_bytes: size of the cache, in bytes of pixels. The latest image is kept as well, as evaluation uses each
            image several times in a row.
    Raises:
        InputError: on access, if a file is missing or corrupt.
    """

    def __init__(self, files: Sequence[Path], reader: ImageReader, *, cache_bytes: int = 0) -> None:
        # One block of bytes: every worker would copy a list of a million paths, as reference counts change.
        self._files = np.array([os.fsencode(file) for file in files])
        self._reader, self._free_bytes = reader, cache_bytes
        self._cache: dict[int, UInt8Array] = {}
        self._latest: tuple[int, UInt8Array] | None = None

    def __len__(self) -> int:
        return len(self._files)

    def path(self, number: int) -> str:
        """Return the path of an image."""
        return os.fsdecode(self._files[number])

    def __getitem__(self, number: int) -> UInt8Array:
        """Return an image, (H, W, 3); callers must not write to it."""
        if number in self._cache:
            return self._cache[number]
        if self._latest is not None and self._latest[0] == number:
            return self._latest[1]
        image = self._reader(Path(self.path(number)))
        if image.nbytes <= self._free_bytes:
            self._free_bytes -= image.nbytes
            self._cache[number] = image
        self._latest = number, image
        return image
