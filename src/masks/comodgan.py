"""Free-form masks of CoModGAN and MAT: rectangles of any size together with brush strokes."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from src.common.errors import InputError
from src.masks.generators import Mask
from src.masks.rejection import RejectionSampled

VERTICES = (4, 17)
"""Fewest and most segments of a stroke."""

ANGLE_RAD, ANGLE_SPREAD_RAD = 2 * math.pi / 5, 2 * math.pi / 15
WIDTH_PX = (12, 48)


@dataclass(frozen=True)
class CoModGANMasks(RejectionSampled):
    """Rectangles up to half the image's sides, rectangles up to its whole sides, and brush strokes, all in one mask.

    Each number is drawn uniformly from 0 to below its limit. For a hole ratio in (low, high] the limits are first
    multiplied by min(low + high, 1), as in the release, and rounded down to at least 1, or 2 for strokes. Rectangles
    may reach beyond the border; brush widths are in pixels, whatever the size.
    Source: CoModGAN (Zhao et al., ICLR 2021), `RandomMask` of its release; MAT (Li et al., CVPR 2022) uses the same
    function with lower limits, one set for each size and for "small" masks.
    Departs from the releases: images need not be square; the release fails if a limit is rounded down to 0, and never
    returns if all are rounded down to 1; a hole ratio of exactly `high` is accepted.

    Args:
        half_rectangles, whole_rectangles, strokes: limits of the three numbers, exclusive.
    """

    half_rectangles: int = 10
    whole_rectangles: int = 5
    strokes: int = 20

    def __post_init__(self) -> None:
        if min(self.half_rectangles, self.whole_rectangles, self.strokes) < 1:
            raise InputError(f"the limits of rectangles and strokes must be at least 1, got {self}")

    def draw(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw a mask whose number of shapes depends on the range; its hole ratio is not limited to it."""
        if min(size) < 4:
            raise InputError(f"masks need at least 4x4 px, got {size[0]}x{size[1]}")
        scale = min(sum(hole_ratio), 1.0)
        mask = 1 - self._strokes(size, rng, max(2, int(self.strokes * scale)))
        for limit, part in ((self.half_rectangles, 2), (self.whole_rectangles, 1)):
            for _ in range(rng.integers(max(1, int(limit * scale)))):
                height, width = (int(rng.integers(side // part)) for side in size)
                top = int(rng.integers(-(height // 2), size[0] - height + height // 2))
                left = int(rng.integers(-(width // 2), size[1] - width + width // 2))
                mask[max(top, 0) : top + height, max(left, 0) : left + width] = 0
        return mask

    def _strokes(self, size: tuple[int, int], rng: np.random.Generator, limit: int) -> Mask:
        """Return 1 on strokes: their directions alternate around the horizontal, and they lead to the right.

        The mask as a whole is flipped at random, as in the release; its flips of single strokes have no effect.
        """
        height, width = size
        mean_px = math.hypot(height, width) / 8
        canvas = Image.new("L", (width, height), 0)
        brush = ImageDraw.Draw(canvas)
        for _ in range(rng.integers(limit)):
            count = int(rng.integers(VERTICES[0], VERTICES[1] + 1))
            low, high = ANGLE_RAD - rng.uniform(0, ANGLE_SPREAD_RAD), ANGLE_RAD + rng.uniform(0, ANGLE_SPREAD_RAD)
            angles_rad = rng.uniform(low, high, count) * np.where(np.arange(count) % 2 == 0, -1, 1)
            lengths_px = rng.normal(mean_px, mean_px // 2, count).clip(0, 2 * mean_px)
            path = [(int(rng.integers(width)), int(rng.integers(height)))]
            for angle_rad, length_px in zip(angles_rad.tolist(), lengths_px.tolist(), strict=True):
                x, y = path[-1]
                end_x = min(max(x + length_px * math.cos(angle_rad), 0), width)
                end_y = min(max(y + length_px * math.sin(angle_rad), 0), height)
                path.append((int(end_x), int(end_y)))
            width_px = int(rng.uniform(*WIDTH_PX))
            brush.line(path, fill=1, width=width_px)
            reach = width_px // 2
            for x, y in path:
                brush.ellipse((x - reach, y - reach, x + reach, y + reach), fill=1)
        down, across = rng.integers(0, 2, 2) * 2 - 1
        strokes: Mask = np.ascontiguousarray(np.asarray(canvas, np.uint8)[::down, ::across])
        return strokes
