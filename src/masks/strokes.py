"""Free-form holes: strokes of a round brush."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from src.common.errors import InputError
from src.masks.generators import Mask, hole_pixels

Point = Sequence[int]
"""(x, y) in pixels, the order that OpenCV expects."""


@dataclass(frozen=True)
class BrushStrokes:
    """Free-form masks: strokes of a round brush that zigzags across the image.

    Each stroke has a random start, heading and brush width; its segments alternate between the left and the right of
    the heading. The number of hole pixels is drawn uniformly from the range, and strokes are added until the hole has
    exactly that many; the last stroke stops there, with a round end.

    Source: the free-form masks of gated convolution (Yu et al. 2019, arXiv:1806.03589); numbers from its release.
    Departs from the release: as many strokes as the hole ratio needs, not one to three; headings have any direction,
    not only those of the image axes; `lean_rad` has the same bounds for all strokes; a vertex outside the image is
    reflected into it, as clamping it would draw lines along the border; brush widths scale with the image, and equal
    the release's in pixels at 256x256.

    Args:
        segments: bounds of the number of segments per stroke, inclusive.
        lean_rad: bounds of the angle between a segment and the heading.
        length_ratio: mean segment length over sqrt(H * W); normally distributed, with half the mean as standard
            deviation, and clipped to [0, twice the mean].
        brush_width_ratio: bounds of the brush diameter over sqrt(H * W).
    """

    segments: tuple[int, int] = (4, 11)
    lean_rad: tuple[float, float] = (2 * math.pi * 4 / 30, 2 * math.pi * 8 / 30)
    length_ratio: float = math.sqrt(2) / 8
    brush_width_ratio: tuple[float, float] = (12 / 256, 40 / 256)

    def __post_init__(self) -> None:
        for name, minimum in {"segments": 1, "lean_rad": 0}.items():
            low, high = getattr(self, name)
            if not minimum <= low <= high:
                raise InputError(f"{name} must be two numbers with {minimum} <= low <= high, got {low:g}, {high:g}")
        if not self.length_ratio > 0:
            raise InputError(f"length_ratio must be above 0, got {self.length_ratio:g}")
        low, high = self.brush_width_ratio
        if not 0 < low <= high <= 1:
            raise InputError(f"brush_width_ratio must be two numbers with 0 < low <= high <= 1, got {low:g}, {high:g}")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw one mask; see `MaskGenerator`."""
        fewest, most = hole_pixels(size, hole_ratio)
        count = int(rng.integers(fewest, most + 1))
        hole = np.zeros(size, np.uint8)
        painted = 0
        while painted < count:
            before = hole.copy()
            segments, width_px = self._stroke(size, rng)
            for start, end in segments:
                cv2.line(hole, start, end, color=1, thickness=width_px)  # OpenCV draws round ends
            painted = int(np.count_nonzero(hole))
        if painted > count:
            hole = _paint_up_to(count, before, segments, width_px)
        return 1 - hole

    def _stroke(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[list[tuple[Point, Point]], int]:
        """Return the (start, end) points of a stroke's segments and the brush width in pixels."""
        scale_px = math.sqrt(size[0] * size[1])
        number = int(rng.integers(self.segments[0], self.segments[1] + 1))
        lean = rng.uniform(*self.lean_rad, number)
        lean[::2] *= -1
        angle = rng.uniform(0, 2 * math.pi) + lean
        length = rng.normal(self.length_ratio, self.length_ratio / 2, number).clip(0, 2 * self.length_ratio) * scale_px
        width_px = max(1, round(rng.uniform(*self.brush_width_ratio) * scale_px))

        last = np.array([size[1] - 1, size[0] - 1])
        path = np.empty((number + 1, 2))
        path[0] = rng.random(2) * last
        path[1:, 0] = length * np.cos(angle)
        path[1:, 1] = length * np.sin(angle)
        mirrored = last - np.abs(path.cumsum(axis=0) % np.maximum(2 * last, 1) - last)
        return list(pairwise(np.rint(mirrored.clip(0)).astype(int).tolist())), width_px


def _paint_up_to(count: int, hole: Mask, segments: list[tuple[Point, Point]], width_px: int) -> Mask:
    """Add segments to `hole` until it has `count` pixels; of the last one, the pixels that the brush reaches first."""
    for start, end in segments:
        longer = hole.copy()
        cv2.line(longer, start, end, color=1, thickness=width_px)
        if np.count_nonzero(longer) >= count:
            break
        hole = longer
    # Only around the segment: searching the whole image takes longer than drawing all strokes.
    left, top = (max(0, min(a, b) - width_px) for a, b in zip(start, end, strict=True))
    right, bottom = (max(a, b) + width_px + 1 for a, b in zip(start, end, strict=True))
    near = hole[top:bottom, left:right]
    y, x = np.nonzero(longer[top:bottom, left:right] != near)
    x_from_start, y_from_start = x + (left - start[0]), y + (top - start[1])
    squared_distance = x_from_start**2 + y_from_start**2
    length = max(math.dist(start, end), 1.0)
    along = (x_from_start * (end[0] - start[0]) + y_from_start * (end[1] - start[1])) / length
    radius = (width_px + 1) / 2
    # Distance the brush has travelled when it first covers the pixel; below 0, it covers the pixel at the start.
    met_at = along - np.sqrt(np.maximum(radius**2 - (squared_distance - along**2), 0))
    order = np.where(met_at > 0, met_at, squared_distance / (radius + 1) ** 2 - 1)
    first = np.argsort(order, kind="stable")[: count - np.count_nonzero(hole)]
    near[y[first], x[first]] = 1
    return hole
