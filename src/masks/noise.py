"""Irregular holes from thresholded noise.

A generator first draws the number of hole pixels uniformly from the range, then makes a hole of exactly that size.
Rejection sampling would favour the ratios that a generator produces easily: masks would crowd at one edge of a bin.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.common.errors import InputError
from src.masks.generators import Mask, hole_pixels


@dataclass(frozen=True)
class RandomShapes:
    """Irregular blobs: the highest pixels of smooth noise are the hole.

    hole = the n highest pixels of  b(coarse + roughness * fine),  b the cubic B-spline through a lattice of noise
    Source: LBAM (Xie et al. 2019, Sec. 4) says only "18,000 masks with random shape"; the noise is our choice.

    Heights are computed in integers, so a mask is identical on all processors.

    Args:
        cell_ratio: bounds of the coarse lattice spacing over the shorter side; the spacing is drawn log-uniformly. A
            blob is one to two cells wide.
        roughness: amplitude of the fine noise over that of the coarse noise; 0 gives smooth edges, 1 ragged ones.
        refinement: number of fine cells per coarse cell, along each axis.
    """

    cell_ratio: tuple[float, float] = (0.08, 0.25)
    roughness: float = 0.3
    refinement: int = 4

    def __post_init__(self) -> None:
        low, high = self.cell_ratio
        if not 0 < low <= high:
            raise InputError(f"cell_ratio must be two numbers with 0 < low <= high, got {low:g}, {high:g}")
        if not 0 <= self.roughness <= 1:
            raise InputError(f"roughness must lie in [0, 1], got {self.roughness:g}")
        if self.refinement < 1:
            raise InputError(f"refinement must be at least 1, got {self.refinement}")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw one mask; see `MaskGenerator`."""
        fewest, most = hole_pixels(size, hole_ratio)
        count = int(rng.integers(fewest, most + 1))
        low, high = self.cell_ratio
        cell_px = min(size) * low * (high / low) ** rng.random() / self.refinement
        lattice = tuple(math.ceil(side / cell_px) + 4 for side in size)  # 3 for the spline's taps, 1 for the shift
        coarse = tuple(math.ceil(side / self.refinement) + 4 for side in lattice)

        noise = _spline(_noise(coarse, rng), lattice, 1 / self.refinement, rng.random(2)) >> 2 * _TAP_BITS
        noise += (_noise(lattice, rng) * round(256 * self.roughness)) >> 8
        return _highest_are_holes(_spline(noise, size, 1 / cell_px, rng.random(2)), count)


_NOISE_BITS, _TAP_BITS = 11, 8  # 12-bit sums of noise times two 8-bit taps use 28 bits of an int32


def _noise(size: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int32]:
    return rng.integers(-(2**_NOISE_BITS), 2**_NOISE_BITS, size, dtype=np.int32)


def _spline(
    lattice: NDArray[np.int32], size: tuple[int, ...], cells_per_px: float, shift: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Evaluate the cubic B-spline surface over a lattice; pixel (i, j) lies at shift + (i, j) * cells_per_px.

    Shapes:
        lattice: at least size * cells_per_px + 4 along each axis; returns `size`, scaled by 2 ** (2 * _TAP_BITS).
    """
    for side, start in ((size[1], shift[1]), (size[0], shift[0])):  # rows first, as there are fewer at this point
        position = start + np.arange(side) * cells_per_px
        cell = position.astype(np.intp)
        t = (position - cell)[:, None]
        cube = t * t * t
        taps = ((1 - t) * (1 - t) * (1 - t), 3 * cube - 6 * t * t + 4, 3 * (t + t * t - cube) + 1, cube)
        weights = [np.rint(tap * (2**_TAP_BITS / 6)).astype(np.int32) for tap in taps]
        across = np.ascontiguousarray(lattice.T)
        lattice = across[cell] * weights[0]
        for k in (1, 2, 3):
            lattice += across[cell + k] * weights[k]
    return lattice


def _highest_are_holes(surface: NDArray[np.int32], count: int) -> Mask:
    """Return the mask whose hole is the `count` highest pixels; among ties, the last in reading order."""
    heights = surface.ravel()
    edge = np.partition(heights, -count)[-count]
    mask: Mask = (heights < edge).astype(np.uint8)
    still_known = heights.size - count - np.count_nonzero(mask)
    mask[np.flatnonzero(heights == edge)[:still_known]] = 1
    return mask.reshape(surface.shape)


@dataclass(frozen=True)
class NoiseGrid:
    """Smooth blobs: the highest pixels of uniform noise on a coarse grid, enlarged and cropped, are the hole.

    Source: LBAM's release, which enlarges an 8x8 grid to 350 px, makes holes below a threshold of 0.25 and crops
    256 px; it targets 20 to 30 % of the area, i.e. hole_ratio=(0.2, 0.3).
    Departs from the release: the threshold is chosen so that the hole has the drawn number of pixels, for any range.
    The highest pixels are the hole instead of the lowest, which is equivalent for uniform noise. At other sizes than
    256x256, cells have the same size relative to the shorter side, and the grid has as many as needed.

    Args:
        cells: cells of the grid along the shorter side of the enlarged noise.
        enlarged_ratio: shorter side of the enlarged noise over that of the mask, a random crop of it.
    """

    cells: int = 8
    enlarged_ratio: float = 350 / 256

    def __post_init__(self) -> None:
        if self.cells < 2:
            raise InputError(f"cells must be at least 2, got {self.cells}")
        if not 1 <= self.enlarged_ratio < math.inf:
            raise InputError(f"enlarged_ratio must be at least 1, got {self.enlarged_ratio:g}")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw one mask; see `MaskGenerator`."""
        fewest, most = hole_pixels(size, hole_ratio)
        count = int(rng.integers(fewest, most + 1))
        cell_px = min(size) * self.enlarged_ratio / self.cells
        grid = tuple(-(-side * self.cells // min(size)) for side in size)  # rounded up in integers
        surface = _noise(grid, rng)
        for side, cells in ((size[1], grid[1]), (size[0], grid[0])):
            start_px = int(rng.integers(round(cells * cell_px - side) + 1))
            # In units of cells, from the first cell's centre.
            position = ((start_px + 0.5 + np.arange(side)) / cell_px - 0.5).clip(0, cells - 1)
            cell = np.minimum(position.astype(np.intp), cells - 2)
            weight = np.rint((position - cell) * 2**_TAP_BITS).astype(np.int32)[:, None]
            across = np.ascontiguousarray(surface.T)
            surface = across[cell] * (2**_TAP_BITS - weight) + across[cell + 1] * weight
        return _highest_are_holes(surface, count)
