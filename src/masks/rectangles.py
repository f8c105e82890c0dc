"""Rectangular holes: drawn by area, drawn by sides, or fixed in the centre."""

import math
from dataclasses import dataclass

import numpy as np

from src.common.errors import InputError
from src.masks.generators import Mask, hole_pixels


@dataclass(frozen=True)
class Rectangles:
    """One rectangle of random area, proportions and position.

    The area is drawn uniformly from the range, then the proportions (uniform in log H) from those that the longest side
    allows, then the position, uniformly.
    Source: contextual attention (Yu et al. 2018): "a rectangle missing region sampled randomly" (Sec. 3), in 256x256
    "with largest hole size 128 x 128" (Sec. 5); the paper does not say how the sides are drawn.

    Args:
        max_side_ratio: longest side over the image's, along each axis. With 0.5 no hole exceeds a quarter of the
            image; a wider range of hole ratios is cut off there.
    """

    max_side_ratio: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.max_side_ratio <= 1:
            raise InputError(f"max_side_ratio must lie in (0, 1], got {self.max_side_ratio:g}")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw one mask; see `MaskGenerator`."""
        fewest, most = hole_pixels(size, hole_ratio)
        max_height, max_width = (math.floor(self.max_side_ratio * side) for side in size)
        most = min(most, max_height * max_width)
        heights = np.arange(1, max_height + 1)
        if not ((most // heights).clip(max=max_width) * heights >= fewest).any():
            raise InputError(
                f"no rectangle with sides of at most {self.max_side_ratio:g} of {size[0]}x{size[1]} has a hole ratio "
                f"in ({hole_ratio[0]:g}, {hole_ratio[1]:g}]: raise max_side_ratio or lower mask.hole_ratio"
            )
        fits = np.zeros(1, bool)
        while not fits.any():  # a narrow range may yield an area without a matching rectangle, e.g. a prime: draw again
            widths = np.rint(rng.integers(fewest, most + 1) / heights).astype(np.intp)
            areas = heights * widths
            fits = (widths >= 1) & (widths <= max_width) & (fewest <= areas) & (areas <= most)
        weight = np.cumsum(fits / heights)  # 1 / H: uniform in log H
        chosen = int(np.searchsorted(weight, rng.random() * weight[-1], side="right"))
        return _place_at_random(size, int(heights[chosen]), int(widths[chosen]), rng)


@dataclass(frozen=True)
class RectanglesBySides:
    """One rectangle with independent, uniformly distributed sides at a uniformly distributed position.

    All pairs of sides whose area lies in the requested range are equally likely.
    Source: contextual attention (Yu et al. 2018), Sec. 3: "a rectangle missing region sampled randomly". Its release
    draws a window of 128x128 px in 256x256 and removes 0 to 16 px from each side, so sides are 96 to 128 px.
    Departs from the release: sides may be odd, and all positions are equally likely, where the release's shrunken
    window never touches the border.

    Args:
        side_ratio: shortest and longest side over the image's, along each axis.
    """

    side_ratio: tuple[float, float] = (96 / 256, 128 / 256)

    def __post_init__(self) -> None:
        low, high = self.side_ratio
        if not 0 < low <= high <= 1:
            raise InputError(f"side_ratio must be two numbers with 0 < low <= high <= 1, got {low:g}, {high:g}")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw one mask; see `MaskGenerator`."""
        fewest, most = hole_pixels(size, hole_ratio)
        low, high = self.side_ratio
        heights, widths = (np.arange(max(1, math.ceil(low * side)), math.floor(high * side) + 1) for side in size)
        areas = heights[:, None] * widths
        fitting = np.flatnonzero((fewest <= areas) & (areas <= most))
        if not fitting.size:
            raise InputError(
                f"no rectangle with sides of {low:g} to {high:g} of {size[0]}x{size[1]} has a hole ratio in "
                f"({hole_ratio[0]:g}, {hole_ratio[1]:g}]: change mask.generator.side_ratio or mask.hole_ratio"
            )
        row, column = np.unravel_index(fitting[rng.integers(fitting.size)], areas.shape)
        return _place_at_random(size, int(heights[row]), int(widths[column]), rng)


@dataclass(frozen=True)
class CentredRectangle:
    """One rectangular hole in the centre of the image, identical in every draw.

    height = floor(side_ratio * H), width = floor(side_ratio * W), top = (H - height) // 2, left = (W - width) // 2
    Source: contextual attention (Yu et al. 2018), Table 1: its author names "a center mask with H/2 * W/2" in issue 295
    of the release's repository; the paper does not describe its test masks.

    Args:
        side_ratio: the hole's sides over the image's; 0.5 gives a hole ratio of 0.25.
    """

    side_ratio: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.side_ratio < 1:
            raise InputError(f"side_ratio must lie in (0, 1), got {self.side_ratio:g}")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Return the mask of this size; `rng` is not used. See `MaskGenerator`."""
        height, width = (int(self.side_ratio * side) for side in size)
        ratio = height * width / (size[0] * size[1])
        if not hole_ratio[0] < ratio <= hole_ratio[1]:
            raise InputError(
                f"the centred hole of {height}x{width} in {size[0]}x{size[1]} has a hole ratio of {ratio:.4g}, outside "
                f"({hole_ratio[0]:g}, {hole_ratio[1]:g}]: change mask.generator.side_ratio or mask.hole_ratio"
            )
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        return _rectangle(size, top, left, height, width)


def _place_at_random(size: tuple[int, int], height: int, width: int, rng: np.random.Generator) -> Mask:
    top, left = rng.integers(size[0] - height + 1), rng.integers(size[1] - width + 1)
    return _rectangle(size, int(top), int(left), height, width)


def _rectangle(size: tuple[int, int], top: int, left: int, height: int, width: int) -> Mask:
    mask = np.ones(size, np.uint8)
    mask[top : top + height, left : left + width] = 0
    return mask
