"""LaMa's masks: polygonal lines of a wide brush, or a few rectangles."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from src.common.errors import InputError
from src.masks.generators import Mask
from src.masks.rejection import RejectionSampled

ANGLES = 4
"""Number of directions that a segment can have."""

SEGMENTS = 5
"""Most segments of a line."""

SHORTEST_PX, THINNEST_PX = 10, 5
"""Lowest length and width of a segment."""


@dataclass(frozen=True)
class Lines:
    """Polygonal lines of one mask.

    Args:
        count: fewest and most lines, inclusive. The release's generator adds one to its `max_times`; here the bounds
            are the effective ones.
        max_length_px: segments are 10 to 9 + `max_length_px` long.
        max_width_px: segments are 5 to 4 + `max_width_px` wide.
    """

    count: tuple[int, int]
    max_length_px: int
    max_width_px: int

    def __post_init__(self) -> None:
        _require_range("count", self.count, 1)
        if self.max_length_px < 1 or self.max_width_px < 1:
            raise InputError(f"max_length_px and max_width_px must be at least 1, got {self}")


@dataclass(frozen=True)
class Boxes:
    """Rectangles of one mask.

    Args:
        count: fewest and most rectangles, inclusive.
        side_px: shortest and longest side, inclusive.
        margin_px: distance from the border.
    """

    count: tuple[int, int]
    side_px: tuple[int, int]
    margin_px: int

    def __post_init__(self) -> None:
        _require_range("count", self.count, 1)
        _require_range("side_px", self.side_px, 1)
        if self.margin_px < 0:
            raise InputError(f"margin_px must be at least 0, got {self.margin_px}")


@dataclass(frozen=True)
class LamaMasks(RejectionSampled):
    """Masks of LaMa (Suvorov et al., WACV 2022): lines, or with a certain probability rectangles.

    A line begins anywhere and has 1 to 5 segments. A segment has the direction 0.01, 1.01, 2.01 or 3.01 rad, negated in
    every other line, a length and a width of its own, and ends inside the image; (x, y) moves by length * (sin, cos).
    The mask is drawn on a wider canvas, and the crop of the requested size begins at a column from the hole's last one
    minus the crop's width to its last one: a test crop that meets the hole, as `gen_mask_dataset.py` takes it.
    Source: the release's `make_random_irregular_mask`, `make_random_rectangle_mask` and `propose_random_square_crop`;
    all sizes are in pixels.
    Departs from the release: the canvas has fixed proportions, where the release draws on the image itself and crops
    the image with the mask, so that masks do not depend on images. With a square canvas the mean hole ratio of the thin
    masks at 256 px would be 0.29 instead of 0.25, of the medium ones 0.25 instead of 0.21.

    Args:
        boxes: null for lines only.
        box_probability: probability of rectangles instead of lines.
        canvas_aspect: width of the canvas over that of the crop, at least 1.
    """

    lines: Lines
    boxes: Boxes | None = None
    box_probability: float = 0.0
    canvas_aspect: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.box_probability <= 1 or (self.boxes is None) != (self.box_probability == 0):
            raise InputError(
                f"box_probability must lie in [0, 1], and be 0 exactly without boxes, got {self.box_probability:g}"
            )
        if not 1 <= self.canvas_aspect < math.inf:
            raise InputError(f"canvas_aspect must be at least 1, got {self.canvas_aspect:g}")

    def draw(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw a mask with any hole ratio."""
        canvas = size[0], round(size[1] * self.canvas_aspect)
        if self.boxes is not None and rng.random() < self.box_probability:
            mask = _draw_boxes(self.boxes, canvas, rng)
        else:
            mask = _draw_lines(self.lines, canvas, rng)
        spare_px, last = canvas[1] - size[1], int(np.flatnonzero((mask == 0).any(axis=0))[-1])
        first_left = max(0, min(spare_px - 1, last - size[1]))
        left = int(rng.integers(first_left, max(first_left + 1, min(spare_px, last))))
        return np.ascontiguousarray(mask[:, left : left + size[1]])


def _draw_lines(lines: Lines, size: tuple[int, int], rng: np.random.Generator) -> Mask:
    height, width = size
    mask = np.ones(size, np.uint8)
    for number in range(rng.integers(lines.count[0], lines.count[1] + 1)):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        for _ in range(rng.integers(1, SEGMENTS + 1)):
            angle_rad = 0.01 + int(rng.integers(ANGLES))
            if number % 2 == 0:
                angle_rad = -angle_rad
            length_px = SHORTEST_PX + int(rng.integers(lines.max_length_px))
            width_px = THINNEST_PX + int(rng.integers(lines.max_width_px))
            end_x = min(max(int(x + length_px * math.sin(angle_rad)), 0), width)
            end_y = min(max(int(y + length_px * math.cos(angle_rad)), 0), height)
            cv2.line(mask, (x, y), (end_x, end_y), color=0, thickness=width_px)
            x, y = end_x, end_y
    return mask


def _draw_boxes(boxes: Boxes, size: tuple[int, int], rng: np.random.Generator) -> Mask:
    (height, width), margin_px = size, boxes.margin_px
    shortest = boxes.side_px[0]
    longest = min(boxes.side_px[1], height - 2 * margin_px - 1, width - 2 * margin_px - 1)
    if longest < shortest:
        raise InputError(f"{height}x{width} px are too few for rectangles of {shortest} px with margins of {margin_px}")
    mask = np.ones(size, np.uint8)
    for _ in range(rng.integers(boxes.count[0], boxes.count[1] + 1)):
        box_width, box_height = rng.integers(shortest, longest + 1, 2)
        left = rng.integers(margin_px, width - margin_px - box_width + 1)
        top = rng.integers(margin_px, height - margin_px - box_height + 1)
        mask[top : top + box_height, left : left + box_width] = 0
    return mask


def _require_range(name: str, bounds: tuple[int, int], least: int) -> None:
    low, high = bounds
    if not least <= low <= high:
        raise InputError(f"{name} must be two integers with {least} <= low <= high, got {low}, {high}")
