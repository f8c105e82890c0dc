"""Masks from files, drawn by their hole ratios."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from src.common.errors import InputError
from src.image_files.binary_images import HOLES, Hole, read_mask
from src.image_files.reading import IMAGE_SUFFIXES
from src.image_files.search import find_images
from src.masks.bank import MaskBank
from src.masks.generators import Mask, hole_pixels
from src.masks.hole_ratios import Bin, bin_name


@dataclass(frozen=True)
class MaskFolder:
    """Masks from the files of a folder, its subfolders and linked folders.

    Those with a hole ratio in the range are equally likely. The first call reads every file and caches the masks, one
    bit per pixel: 12,000 masks of 512x512 take 400 MB. The cache is pickled with the generator: draw one mask before
    starting workers, or each of them reads the folder.

    Source: written for the 12,000 irregular masks of Liu et al. (ECCV 2018).

    Args:
        hole: how the files show the hole, see `read_mask`.
        flips: flip masks horizontally and vertically at random.
    """

    root: str
    hole: Hole = "white"
    flips: bool = True

    def __post_init__(self) -> None:
        if not self.root:
            raise InputError(
                "mask.root is not set: set it to a folder of mask files, such as the 12,000 of Liu et al. (ECCV 2018), "
                "or choose masks that need no files, such as mask=irregular"
            )
        if self.hole not in HOLES:
            raise InputError(f"mask.hole must be white, black or transparent, got {self.hole}")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw one mask; see `MaskGenerator`."""
        fewest, most = hole_pixels(size, hole_ratio)
        low, high = hole_ratio
        ratios, masks = self._masks
        in_range = np.flatnonzero((low < ratios) & (ratios <= high))
        for chosen in rng.permutation(len(in_range)):  # usually the first; resizing may move a mask out of the range
            stored_size, bits = masks[in_range[chosen]]
            mask = _unpack(stored_size, bits, size)
            if fewest <= _count_holes(mask) <= most:
                if self.flips:
                    down, across = rng.integers(0, 2, 2) * 2 - 1
                    mask = np.ascontiguousarray(mask[::down, ::across])
                return mask
        raise InputError(
            f"mask folder {self.root}: none of its {len(ratios)} masks has a hole ratio in ({low:g}, {high:g}] "
            f"at {size[0]}x{size[1]} with hole={self.hole}"
        )

    def bank(self, size: tuple[int, int], per_bin: int, bins: Sequence[Bin]) -> MaskBank:
        """Return a bank of the first `per_bin` masks of each bin in the order of their paths, without flips.

        A mask of another size is resized, and belongs to the bin of its new hole ratio.

        Raises:
            InputError: a bin has fewer masks.
        """
        chosen: dict[Bin, list[NDArray[np.uint8]]] = {bin_: [] for bin_ in bins}
        for stored_size, bits in self._masks[1]:
            mask = _unpack(stored_size, bits, size)
            ratio = _count_holes(mask) / mask.size
            for (low, high), found in chosen.items():
                if low < ratio <= high and len(found) < per_bin:
                    found.append(np.packbits(mask))
        for bin_, found in chosen.items():
            if len(found) < per_bin:
                raise InputError(
                    f"mask folder {self.root} has {len(found)} masks with a hole ratio in {bin_name(bin_)} at "
                    f"{size[0]}x{size[1]} with hole={self.hole}, expected at least {per_bin}"
                )
        recipe = {"generator": f"files with hole={self.hole}, by name", "size": list(size), "per_bin": per_bin}
        return MaskBank(np.array(list(chosen.values())), size, tuple(chosen), recipe)

    @cached_property
    def _masks(self) -> tuple[NDArray[np.float64], list[tuple[tuple[int, ...], bytes]]]:
        """The hole ratio, and the size and pixels, eight per byte, of each mask."""
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise InputError(
                f"mask folder {root} does not exist: set mask.root to a folder of mask files, or choose masks that "
                "need no files, such as mask=irregular"
            )
        try:
            paths = sorted(find_images(root, ["**/*"]))
        except InputError as error:
            raise InputError(f"mask folder {root} {error}") from None
        if not paths:
            raise InputError(f"mask folder {root} contains no image files ({', '.join(sorted(IMAGE_SUFFIXES))})")

        def read(path: Path) -> tuple[float, tuple[tuple[int, ...], bytes]]:
            mask = read_mask(path, self.hole)
            return _count_holes(mask) / mask.size, (mask.shape, np.packbits(mask).tobytes())

        with ThreadPoolExecutor() as readers:  # decoding, most of the work, releases the GIL
            ratios, masks = zip(*readers.map(read, paths), strict=True)
        return np.array(ratios), list(masks)


def _unpack(stored_size: tuple[int, ...], bits: bytes, size: tuple[int, int]) -> Mask:
    """Return a cached mask at a size."""
    mask = np.unpackbits(np.frombuffer(bits, np.uint8), count=math.prod(stored_size)).reshape(stored_size)
    if mask.shape == tuple(size):
        return mask
    return np.asarray(cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def _count_holes(mask: Mask) -> int:
    return mask.size - cv2.countNonZero(mask)
