"""Rectangular holes whose sides, and not whose area, are drawn."""

import math
from dataclasses import dataclass

import numpy as np

from src.common.errors import InputError
from src.masks.generators import Mask, hole_pixels


@dataclass(frozen=True)
class RectanglesBySides:
    """One rectangle with independent, uniform sides at a uniform place.

    Of all pairs of sides those count whose area lies in the wanted range; each is as likely as another.
    Source: contextual attention (Yu et al. 2018), Sec. 3: "a rectangle missing region sampled randomly". Its release
    draws a window of 128 x 128 pixels in 256 x 256 and takes 0 to 16 pixels from each of two opposite sides: heights
    and widths of 96 to 128 pixels.
    Departs from the release: odd sides too, and every place is as likely as another, where the shrunken window never
    touches the border.

    Args:
        side_share: the shortest and the longest side over the image's, in either direction.
    """

    side_share: tuple[float, float] = (96 / 256, 128 / 256)

    def __post_init__(self) -> None:
        low, high = self.side_share
        if not 0 < low <= high <= 1:
            raise InputError(f"side_share must be two numbers with 0 < low <= high <= 1, got {low:g}, {high:g}")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw one mask, as `MaskGenerator` says."""
        fewest, most = hole_pixels(size, hole_ratio)
        low, high = self.side_share
        heights, widths = (np.arange(max(1, math.ceil(low * side)), math.floor(high * side) + 1) for side in size)
        areas = heights[:, None] * widths
        fitting = np.flatnonzero((fewest <= areas) & (areas <= most))
        if not fitting.size:
            raise InputError(
                f"no rectangle with sides of {low:g} to {high:g} of {size[0]} x {size[1]} has a hole ratio in "
                f"({hole_ratio[0]:g}, {hole_ratio[1]:g}]: change mask.generator.side_share or mask.hole_ratio"
            )
        row, column = np.unravel_index(fitting[rng.integers(fitting.size)], areas.shape)
        height, width = int(heights[row]), int(widths[column])
        top, left = rng.integers(size[0] - height + 1), rng.integers(size[1] - width + 1)
        mask = np.ones(size, np.uint8)
        mask[top : top + height, left : left + width] = 0
        return mask
