"""Images as the pipelines need them: read, resized if that is their first step, and cached in memory."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.data.transforms import resize_shorter_side
from src.image_files.reading import UInt8Array, read_image


class CachedImages:
    """Images by number. Images stay in memory from their first use until the cache of `cache_bytes` is full.

    Nothing is evicted: an epoch uses every image once, so a least-recently-used cache would drop each one before its
    next use. The latest image is kept as well, as evaluation uses each image several times in a row.

    Args:
        shorter_side_px: length of the shorter side after the resize; None leaves images as they are.
        reduced_decode: decode JPEGs no larger than the resize needs, see `read_image`.
    """

    def __init__(
        self, files: Sequence[Path], shorter_side_px: int | None, *, reduced_decode: bool = False, cache_bytes: int = 0
    ) -> None:
        # One block of bytes: every worker would copy a list of a million paths, as reference counts change.
        self._files = np.array([os.fsencode(file) for file in files])
        self._shorter_side_px, self._reduced_decode = shorter_side_px, reduced_decode
        self._free_bytes = cache_bytes
        self._cache: dict[int, UInt8Array] = {}
        self._latest: dict[int, UInt8Array] = {}

    def __len__(self) -> int:
        return len(self._files)

    def path(self, number: int) -> str:
        """Return the path of an image."""
        return os.fsdecode(self._files[number])

    def __getitem__(self, number: int) -> UInt8Array:
        """Return an image, (H, W, 3); callers must not write to it."""
        if number in self._cache:
            return self._cache[number]
        if number not in self._latest:
            image = read_image(Path(self.path(number)), self._shorter_side_px if self._reduced_decode else None)
            if self._shorter_side_px is not None:
                image = resize_shorter_side(image, self._shorter_side_px)
            self._latest = {number: image}
            if image.nbytes <= self._free_bytes:
                self._free_bytes -= image.nbytes
                self._cache[number] = image
        return self._latest[number]
