"""Generators with a distribution of hole areas of their own: masks are drawn until one lies in the requested range."""

from abc import ABC, abstractmethod

import numpy as np

from src.common.errors import InputError
from src.masks.generators import Mask, hole_pixels

ATTEMPTS = 2000


class RejectionSampled(ABC):
    """Base of generators whose hole areas follow from the strokes and rectangles that they draw.

    Within the range the areas keep the generator's own distribution, unlike those of `noise` and `strokes`, which draw
    the area uniformly. With the range (0, 1] only empty and full masks are rejected.
    """

    @abstractmethod
    def draw(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw a mask with any hole ratio, also 0 and 1."""

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw one mask; see `MaskGenerator`."""
        fewest, most = hole_pixels(size, hole_ratio)
        for _ in range(ATTEMPTS):
            mask = self.draw(size, rng, hole_ratio)
            if fewest <= mask.size - np.count_nonzero(mask) <= most:
                return mask
        raise InputError(
            f"{type(self).__name__}: none of {ATTEMPTS} masks of {size[0]}x{size[1]} px has a hole ratio in "
            f"({hole_ratio[0]:g}, {hole_ratio[1]:g}]: its sizes are in pixels; choose another size or range"
        )
