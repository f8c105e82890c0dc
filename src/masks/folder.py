"""Masks from files, drawn by their hole ratios."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.common.errors import InputError
from src.image_files.binary_images import read_mask
from src.image_files.reading import IMAGE_SUFFIXES
from src.masks.generators import Mask, hole_pixels

KEPT_BYTES = 2**30
"""Memory for a folder's masks, one bit per pixel: 32,768 masks of 512x512. Further masks are read at each draw."""


@dataclass(frozen=True)
class MaskFolder:
    """Masks from the files of a folder and its subfolders; those with a hole ratio in the range are equally likely.

    The first call reads every file and caches the masks and their hole ratios. The cache is pickled with the generator:
    draw one mask before starting worker processes, or each of them reads the folder.
    Source: written for the 12,000 irregular masks of Liu et al. (ECCV 2018).

    Args:
        root: the folder.
        hole: the colour of holes in the files.
        flips: flip masks horizontally and vertically at random.
    """

    root: str
    hole: Literal["white", "black"] = "white"
    flips: bool = True

    def __post_init__(self) -> None:
        if not self.root:
            raise InputError(
                "mask.root is not set: set it to a folder of mask files, such as the 12,000 of Liu et al. (ECCV 2018), "
                "or choose masks that need no files, such as mask=irregular"
            )
        if self.hole not in ("white", "black"):
            raise InputError(f"mask.hole must be white or black, got {self.hole}")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw one mask; see `MaskGenerator`."""
        fewest, most = hole_pixels(size, hole_ratio)
        low, high = hole_ratio
        ratios = self._masks.ratios
        in_range = np.flatnonzero((low < ratios) & (ratios <= high))
        for chosen in rng.permutation(len(in_range)):  # usually the first; resizing may move a mask out of the range
            mask = self._mask(int(in_range[chosen]))
            if mask.shape != tuple(size):
                mask = np.asarray(cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
            if fewest <= _count_holes(mask) <= most:
                if self.flips:
                    down, across = rng.integers(0, 2, 2) * 2 - 1
                    mask = np.ascontiguousarray(mask[::down, ::across])
                return mask
        raise InputError(
            f"mask folder {self.root}: none of its {len(ratios)} masks has a hole ratio in ({low:g}, {high:g}] "
            f"at {size[0]}x{size[1]} with hole={self.hole}"
        )

    @cached_property
    def _masks(self) -> "_Masks":
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise InputError(
                f"mask folder {root} does not exist: set mask.root to a folder of mask files, or choose masks that "
                "need no files, such as mask=irregular"
            )
        paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        if not paths:
            raise InputError(f"mask folder {root} contains no image files ({', '.join(sorted(IMAGE_SUFFIXES))})")

        def read(path: Path) -> tuple[float, tuple[int, ...], bytes]:
            mask = read_mask(path, self.hole)
            return _count_holes(mask) / mask.size, mask.shape, np.packbits(mask).tobytes()

        ratios, sizes, starts, bits = [], [], [], bytearray()
        with ThreadPoolExecutor() as readers:  # decoding, most of the work, releases the GIL
            for ratio, size, packed in readers.map(read, paths):
                kept = len(bits) + len(packed) <= KEPT_BYTES
                starts.append(len(bits) if kept else -1)
                bits += packed if kept else b""
                ratios.append(ratio)
                sizes.append(size)
        return _Masks(
            np.array([os.fsencode(path) for path in paths]),
            np.array(ratios),
            np.array(sizes),
            np.array(starts),
            torch.frombuffer(bits or bytearray(1), dtype=torch.uint8),
        )

    def _mask(self, number: int) -> Mask:
        masks = self._masks
        start, (height, width) = int(masks.starts[number]), masks.sizes[number].tolist()
        if start < 0:
            return read_mask(Path(os.fsdecode(masks.paths[number])), self.hole)
        bits = masks.bits.numpy()[start : start + -(-height * width // 8)]
        return np.unpackbits(bits, count=height * width).reshape(height, width)


@dataclass(frozen=True, eq=False)
class _Masks:
    """The masks of a folder sorted by path, in a few arrays that workers need not copy.

    Attributes:
        sizes: (masks, 2), H and W.
        starts: offset of each mask's bits; -1 for masks that are not cached.
        bits: pixels in row-major order, eight per byte; 1 = known, 0 = hole. A tensor, as torch passes tensors to
            spawned worker processes in shared memory.
    """

    paths: NDArray[np.bytes_]
    ratios: NDArray[np.float64]
    sizes: NDArray[np.int64]
    starts: NDArray[np.int64]
    bits: Tensor


def _count_holes(mask: Mask) -> int:
    return mask.size - cv2.countNonZero(mask)
