"""PICNet's masks: many lines, discs and arcs, or a few rectangles."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from src.common.errors import InputError
from src.masks.generators import Mask
from src.masks.rejection import RejectionSampled

LINE, DISC = 0.6, 0.2
"""Probabilities of a line and of a disc; the other shapes are arcs."""


@dataclass(frozen=True)
class PICNetMasks(RejectionSampled):
    """Masks of PICNet (Zheng et al., CVPR 2019): lines, discs and arcs of ellipses, or several rectangles.

    A line joins two random points. Discs and arcs have a random centre; the axes, the direction and both ends of an
    arc are random, too.
    Source: numbers, probabilities, widths and radii of PICNet's release, in px at 256x256; here they grow with the
    image. Where no value is known, our choice: half-axes of an arc are at most a quarter of the image's side, the sides
    of a rectangle at most half of it, and rectangles lie within the image.

    Args:
        rectangle_probability: probability of rectangles instead of shapes.
        shapes, rectangles: fewest and most of them, inclusive.
        brush_ratio: bounds of the widths of lines and arcs and of the radii of discs, over sqrt(H * W).
    """

    rectangle_probability: float = 0.5
    shapes: tuple[int, int] = (16, 64)
    rectangles: tuple[int, int] = (1, 5)
    brush_ratio: tuple[float, float] = (4 / 256, 20 / 256)

    def __post_init__(self) -> None:
        if not 0 <= self.rectangle_probability <= 1:
            raise InputError(f"rectangle_probability must lie in [0, 1], got {self.rectangle_probability:g}")
        for name, least in {"shapes": 1, "rectangles": 1, "brush_ratio": 0}.items():
            low, high = getattr(self, name)
            if not least <= low <= high:
                raise InputError(f"{name} must be two numbers with {least} <= low <= high, got {low:g}, {high:g}")

    def draw(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw a mask with any hole ratio."""
        draws_rectangles = rng.random() < self.rectangle_probability
        low, high = self.rectangles if draws_rectangles else self.shapes
        mask = np.ones(size, np.uint8)
        for _ in range(rng.integers(low, high + 1)):
            if draws_rectangles:
                height, width = (1 + int(rng.integers(max(1, side // 2))) for side in size)
                top, left = rng.integers(size[0] - height + 1), rng.integers(size[1] - width + 1)
                mask[top : top + height, left : left + width] = 0
            else:
                self._draw_shape(mask, rng)
        return mask

    def _draw_shape(self, mask: Mask, rng: np.random.Generator) -> None:
        height, width = mask.shape
        kind, scale_px = rng.random(), math.sqrt(height * width)
        brush_px = max(1, round(rng.uniform(*self.brush_ratio) * scale_px))
        x, y = int(rng.integers(width)), int(rng.integers(height))
        if kind < LINE:
            end = int(rng.integers(width)), int(rng.integers(height))
            cv2.line(mask, (x, y), end, color=0, thickness=brush_px)
        elif kind < LINE + DISC:
            cv2.circle(mask, (x, y), brush_px, color=0, thickness=-1)
        else:
            half_axes = tuple(1 + int(rng.integers(max(1, side // 4))) for side in (width, height))
            turn, start, end_deg = (float(rng.uniform(0, 360)) for _ in range(3))
            cv2.ellipse(mask, (x, y), half_axes, turn, start, end_deg, color=0, thickness=brush_px)
