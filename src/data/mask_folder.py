"""Masks from files, drawn by their hole shares."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from src.data.masks import Mask, hole_pixels
from src.data.readers import PICTURE_SUFFIXES, read_mask
from src.errors import InputError


@dataclass(frozen=True)
class MaskFolder:
    """Masks from files: those of a folder and its subfolders whose hole share is in the range, each as likely.

    The first call reads every file once for its hole share. The shares are pickled along: draw a mask, or ask for
    `shares`, before the generator goes to worker processes, or each of them reads the folder.
    Source: made for the 12,000 irregular masks of Liu et al. (ECCV 2018).

    Args:
        root: the folder.
        hole: what the files paint over the hole.
        flips: turn a mask over left to right, top to bottom or both, at random.
    """

    root: str
    hole: Literal["white", "black"] = "white"
    flips: bool = True

    def __post_init__(self) -> None:
        if not self.root:
            raise InputError("mask.root is not set: give the folder of mask files")
        if self.hole not in ("white", "black"):
            raise InputError(f"hole must be white or black, got {self.hole}")

    @cached_property
    def shares(self) -> tuple[tuple[Path, float], ...]:
        """Every mask file, in the order of names, with its hole share."""
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise InputError(f"mask folder {root} is not there: set mask.root to a folder of mask files")
        paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
        if not paths:
            raise InputError(f"mask folder {root} holds no picture file ({', '.join(sorted(PICTURE_SUFFIXES))})")
        with ThreadPoolExecutor() as readers:  # most of reading is decoding, which does not hold the interpreter's lock
            masks = readers.map(lambda path: read_mask(path, self.hole), paths)
            return tuple((path, _count_holes(mask) / mask.size) for path, mask in zip(paths, masks, strict=True))

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_share: tuple[float, float]) -> Mask:
        """Draw one mask, as `MaskGenerator` says."""
        fewest, most = hole_pixels(size, hole_share)
        low, high = hole_share
        in_range = [path for path, share in self.shares if low < share <= high]
        for chosen in rng.permutation(len(in_range)):  # the first one, but where resizing moves it out of the range
            mask = read_mask(in_range[chosen], self.hole)
            if mask.shape != tuple(size):
                mask = np.asarray(cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
            if fewest <= _count_holes(mask) <= most:
                if self.flips:
                    down, across = rng.integers(0, 2, 2) * 2 - 1
                    mask = np.ascontiguousarray(mask[::down, ::across])
                return mask
        raise InputError(
            f"mask folder {self.root}: none of its {len(self.shares)} masks has a hole share in ({low:g}, {high:g}] "
            f"at {size[0]} x {size[1]} with hole={self.hole}"
        )


def _count_holes(mask: Mask) -> int:
    return mask.size - cv2.countNonZero(mask)
