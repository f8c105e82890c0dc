"""The interface of mask generators, and mixtures of them.

A generator is a frozen dataclass called as `generator(size, rng, hole_ratio)`. The mask depends only on its fields, its
arguments and the state of `rng`, so a generator can be pickled to any worker.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from src.common.errors import InputError

Mask = NDArray[np.uint8]
"""(H, W); 1 = known, 0 = hole."""


class MaskGenerator(Protocol):
    """Callable that draws a mask whose hole ratio lies in a requested range."""

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw a mask of (H, W) = `size` px with at least one known and one hole pixel, and low < ratio <= high.

        Raises:
            InputError: the generator cannot produce a mask of this size in the range.
        """


def hole_pixels(size: tuple[int, int], hole_ratio: tuple[float, float]) -> tuple[int, int]:
    """Return the smallest and largest n with low < n / (H * W) <= high in float64; at least one pixel stays known."""
    (height, width), (low, high) = size, hole_ratio
    if height < 1 or width < 1:
        raise InputError(f"mask height and width must be at least 1, got {height}x{width}")
    if not 0 <= low < high <= 1:
        raise InputError(f"hole_ratio must be (low, high] with 0 <= low < high <= 1, got ({low:g}, {high:g}]")
    pixels = height * width
    # The products may round to the wrong side of an integer, so the quotients decide, as in the bins of the metrics.
    fewest = next(n for n in range(math.floor(low * pixels), pixels + 2) if n / pixels > low)
    most = next(n for n in range(math.ceil(high * pixels), -1, -1) if n / pixels <= high)
    most = min(most, pixels - 1)
    if fewest > most:
        raise InputError(f"no mask of {height}x{width} pixels has a hole ratio in ({low:g}, {high:g}]")
    return fewest, most


@dataclass(frozen=True)
class Mixture:
    """A mixture: each mask comes from one of several generators, chosen at random by weight.

    Args:
        generators: the generators by name.
        weights: relative weights with the same names; 0 disables a generator.
    """

    generators: Mapping[str, MaskGenerator]
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        if set(self.generators) != set(self.weights):
            raise InputError(f"weights must have the keys {sorted(self.generators)}, got {sorted(self.weights)}")
        if not all(0 <= weight < math.inf for weight in self.weights.values()) or not any(self.weights.values()):
            raise InputError(f"weights must be finite, at least 0 and not all 0, got {dict(self.weights)}")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw one mask; see `MaskGenerator`."""
        names = list(self.generators)
        edges = np.cumsum([self.weights[name] for name in names])
        chosen = int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))
        return self.generators[names[chosen]](size, rng, hole_ratio)
