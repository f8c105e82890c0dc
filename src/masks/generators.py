"""Where holes come from: generators of irregular shapes, brush strokes and rectangles, and mixtures of generators.

Each is a frozen dataclass called as `generator(size, rng, hole_ratio)`. What it draws is a function of its fields, its
arguments and the state of `rng` alone, so it may be pickled to any worker.

`RandomShapes`, `NoiseGrid` and `BrushStrokes` first draw the number of hole pixels, uniformly among the numbers in the
range, then make a hole of just that many pixels. Drawing until a mask happens to fit would instead favour the shares
that a generator makes easily: inside a bin, its masks would crowd at one edge.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from src.common.errors import InputError

Mask = NDArray[np.uint8]
"""(H, W); 1 = known, 0 = hole."""

Point = Sequence[int]
"""(x, y) in pixels, as OpenCV counts."""


class MaskGenerator(Protocol):
    """Draws a mask whose hole takes up a share in a wanted range."""

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw one mask.

        Args:
            size: (H, W) in pixels.
            hole_ratio: (low, high]; low < hole pixels / all pixels <= high.
        Shapes:
            Returns (H, W), 1 = known, 0 = hole; at least one pixel of either.
        Raises:
            InputError: no mask of this generator and size lies in the range.
        """
        ...


def hole_pixels(size: tuple[int, int], hole_ratio: tuple[float, float]) -> tuple[int, int]:
    """The fewest and the most hole pixels n with low < n / (H * W) <= high, in float64; at least one pixel stays known.

    Raises:
        InputError: no number of pixels is in the range.
    """
    (height, width), (low, high) = size, hole_ratio
    if height < 1 or width < 1:
        raise InputError(f"a mask's height and width must be at least 1, got {height} x {width}")
    if not 0 <= low < high <= 1:
        raise InputError(f"hole_ratio must be (low, high] with 0 <= low < high <= 1, got ({low:g}, {high:g}]")
    pixels = height * width
    # The products may round to the wrong side of a whole number; the quotients decide, as they do in the metrics' bins.
    fewest = next(n for n in range(math.floor(low * pixels), pixels + 2) if n / pixels > low)
    most = next(n for n in range(math.ceil(high * pixels), -1, -1) if n / pixels <= high)
    most = min(most, pixels - 1)
    if fewest > most:
        raise InputError(f"no mask of {height} x {width} pixels has a hole ratio in ({low:g}, {high:g}]")
    return fewest, most


@dataclass(frozen=True)
class RandomShapes:
    """Irregular blobs: smooth noise, whose highest pixels are the hole.

    hole = the n highest pixels of  b(coarse + roughness * fine),  b the cubic B-spline through a lattice of noise
    Source: LBAM (Xie et al. 2019, Sec. 4) says "18,000 masks with random shape" and no more; the noise is our choice.

    Heights are sums of whole numbers, which no processor rounds its own way: a mask is the same on all of them.

    Args:
        cell_share: the distance of the coarse noise's lattice points, drawn between these bounds (uniformly in its
            logarithm), as a share of the shorter side. A blob is one to two cells wide.
        roughness: the height of the fine noise over the coarse one's; 0 draws smooth blobs, 1 ragged ones.
        refinement: the number of fine cells in a coarse one.
    """

    cell_share: tuple[float, float] = (0.08, 0.25)
    roughness: float = 0.3
    refinement: int = 4

    def __post_init__(self) -> None:
        low, high = self.cell_share
        if not 0 < low <= high:
            raise InputError(f"cell_share must be two numbers with 0 < low <= high, got {low:g}, {high:g}")
        if not 0 <= self.roughness <= 1:
            raise InputError(f"roughness must lie in [0, 1], got {self.roughness:g}")
        if self.refinement < 1:
            raise InputError(f"refinement must be at least 1, got {self.refinement}")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw one mask, as `MaskGenerator` says."""
        fewest, most = hole_pixels(size, hole_ratio)
        count = int(rng.integers(fewest, most + 1))
        low, high = self.cell_share
        cell_px = min(size) * low * (high / low) ** rng.random() / self.refinement
        lattice = tuple(math.ceil(side / cell_px) + 4 for side in size)  # 3 beyond the spline's taps, 1 for the shift
        coarse = tuple(math.ceil(side / self.refinement) + 4 for side in lattice)

        noise = _spline(_noise(coarse, rng), lattice, 1 / self.refinement, rng.random(2)) >> 2 * _TAP_BITS
        noise += (_noise(lattice, rng) * round(256 * self.roughness)) >> 8
        return _highest_are_holes(_spline(noise, size, 1 / cell_px, rng.random(2)), count)


_NOISE_BITS, _TAP_BITS = 11, 8  # 12-bit sums of noise times two taps of 8 bits: 28 bits of an int32


def _noise(size: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int32]:
    return rng.integers(-(2**_NOISE_BITS), 2**_NOISE_BITS, size, dtype=np.int32)


def _spline(
    lattice: NDArray[np.int32], size: tuple[int, ...], cells_per_px: float, shift: NDArray[np.float64]
) -> NDArray[np.int32]:
    """The cubic B-spline surface over a lattice, at pixels (i, j) -> shift + (i, j) * cells_per_px.

    Shapes:
        lattice of at least size * cells_per_px + 4 each way; returns `size`, 2 ** (2 _TAP_BITS) times as high.
    """
    for side, start in ((size[1], shift[1]), (size[0], shift[0])):  # along the rows, which are the fewer yet
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
    """The mask whose hole is the `count` highest pixels; of equal ones at the edge, the last in reading order."""
    heights = surface.ravel()
    edge = np.partition(heights, -count)[-count]
    mask: Mask = (heights < edge).astype(np.uint8)
    still_known = heights.size - count - np.count_nonzero(mask)
    mask[np.flatnonzero(heights == edge)[:still_known]] = 1
    return mask.reshape(surface.shape)


@dataclass(frozen=True)
class NoiseGrid:
    """Smooth blobs: uniform noise on a coarse grid, enlarged bilinearly and cropped; its highest pixels are the hole.

    Source: LBAM's release, which enlarges a grid of 8 x 8 to 350 px, makes holes below a threshold of 0.25 and crops
    256 px; it aims at 20 to 30 % of the area, which is hole_ratio=(0.2, 0.3).
    Departs from the release: the threshold is the one that gives the hole its drawn number of pixels, whatever range is
    asked for. It keeps the highest pixels where the release keeps the lowest, which of uniform noise is the same. Other
    sizes than 256 x 256 have the same cells, as a share of the shorter side, and as many as they need.

    The values are integers, as those of `RandomShapes`: a mask is the same on all processors.

    Args:
        cells: of the grid, along the shorter side of what is enlarged.
        enlarged_share: the shorter side of what is enlarged over that of the mask, which is cropped from it at random.
    """

    cells: int = 8
    enlarged_share: float = 350 / 256

    def __post_init__(self) -> None:
        if self.cells < 2:
            raise InputError(f"cells must be at least 2, got {self.cells}")
        if not 1 <= self.enlarged_share < math.inf:
            raise InputError(f"enlarged_share must be at least 1, got {self.enlarged_share:g}")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw one mask, as `MaskGenerator` says."""
        fewest, most = hole_pixels(size, hole_ratio)
        count = int(rng.integers(fewest, most + 1))
        cell_px = min(size) * self.enlarged_share / self.cells
        grid = tuple(-(-side * self.cells // min(size)) for side in size)  # rounded up, without a floating-point error
        surface = _noise(grid, rng)
        for side, cells in ((size[1], grid[1]), (size[0], grid[0])):
            start_px = int(rng.integers(round(cells * cell_px - side) + 1))
            position = ((start_px + 0.5 + np.arange(side)) / cell_px - 0.5).clip(0, cells - 1)  # of cells' centres
            cell = np.minimum(position.astype(np.intp), cells - 2)
            weight = np.rint((position - cell) * 2**_TAP_BITS).astype(np.int32)[:, None]
            across = np.ascontiguousarray(surface.T)
            surface = across[cell] * (2**_TAP_BITS - weight) + across[cell + 1] * weight
        return _highest_are_holes(surface, count)


@dataclass(frozen=True)
class BrushStrokes:
    """Strokes of a round brush that zigzags across the picture: free-form masks.

    A stroke starts anywhere, with a heading and a brush width of its own; its segments lean to the left and to the
    right of the heading in turn. Strokes are added until the hole has the drawn number of pixels; the brush is lifted
    from the last one at just that pixel, so that its end is round as well.

    Source: the free-form masks of gated convolution (Yu et al. 2019, arXiv:1806.03589); numbers from its release.
    Departs from the release: as many strokes as the wanted share needs, not one to three; a stroke heads anywhere, not
    along an axis of the picture; the bounds of the lean are the same for all strokes; a vertex outside is mirrored back
    into the picture, where moving it to the border would draw lines along that; the brush's width follows the picture's
    size, of which 256 x 256 has the release's widths in pixels.

    Args:
        segments: the number of a stroke's segments, drawn between these, both included.
        lean_rad: the angle between a segment and the heading, drawn between these.
        length_share: mean of a segment's length over sqrt(H * W); normal with half of it as deviation, cut to
            [0, twice the mean].
        brush_width_share: the brush's diameter over sqrt(H * W), drawn between these.
    """

    segments: tuple[int, int] = (4, 11)
    lean_rad: tuple[float, float] = (2 * math.pi * 4 / 30, 2 * math.pi * 8 / 30)
    length_share: float = math.sqrt(2) / 8
    brush_width_share: tuple[float, float] = (12 / 256, 40 / 256)

    def __post_init__(self) -> None:
        fewest, most = self.segments
        if not 1 <= fewest <= most:
            raise InputError(f"segments must be two numbers with 1 <= low <= high, got {fewest}, {most}")
        low, high = self.lean_rad
        if not 0 <= low <= high:
            raise InputError(f"lean_rad must be two angles with 0 <= low <= high, got {low:g}, {high:g}")
        if not self.length_share > 0:
            raise InputError(f"length_share must be above 0, got {self.length_share:g}")
        low, high = self.brush_width_share
        if not 0 < low <= high <= 1:
            raise InputError(f"brush_width_share must be two numbers with 0 < low <= high <= 1, got {low:g}, {high:g}")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw one mask, as `MaskGenerator` says."""
        fewest, most = hole_pixels(size, hole_ratio)
        count = int(rng.integers(fewest, most + 1))
        hole = np.zeros(size, np.uint8)
        painted = 0
        while painted < count:
            before = hole.copy()
            segments, width_px = self._stroke(size, rng)
            for start, end in segments:
                cv2.line(hole, start, end, color=1, thickness=width_px)  # its ends are round
            painted = int(np.count_nonzero(hole))
        if painted > count:
            hole = _paint_up_to(count, before, segments, width_px)
        return 1 - hole

    def _stroke(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[list[tuple[Point, Point]], int]:
        """The segments of a stroke, from where to where, and the brush's width in pixels."""
        scale_px = math.sqrt(size[0] * size[1])
        number = int(rng.integers(self.segments[0], self.segments[1] + 1))
        lean = rng.uniform(*self.lean_rad, number)
        lean[::2] *= -1
        angle = rng.uniform(0, 2 * math.pi) + lean
        length = rng.normal(self.length_share, self.length_share / 2, number).clip(0, 2 * self.length_share) * scale_px
        width_px = max(1, round(rng.uniform(*self.brush_width_share) * scale_px))

        last = np.array([size[1] - 1, size[0] - 1])
        path = np.empty((number + 1, 2))
        path[0] = rng.random(2) * last
        path[1:, 0] = length * np.cos(angle)
        path[1:, 1] = length * np.sin(angle)
        mirrored = last - np.abs(path.cumsum(axis=0) % np.maximum(2 * last, 1) - last)
        return list(pairwise(np.rint(mirrored.clip(0)).astype(int).tolist())), width_px


def _paint_up_to(count: int, hole: Mask, segments: list[tuple[Point, Point]], width_px: int) -> Mask:
    """Add segments to `hole` until it has `count` pixels: of the last one, those that the brush meets first."""
    for start, end in segments:
        longer = hole.copy()
        cv2.line(longer, start, end, color=1, thickness=width_px)
        if np.count_nonzero(longer) >= count:
            break
        hole = longer
    # Around the segment alone: to look for new pixels in the whole picture takes longer than all the strokes.
    left, top = (max(0, min(a, b) - width_px) for a, b in zip(start, end, strict=True))
    right, bottom = (max(a, b) + width_px + 1 for a, b in zip(start, end, strict=True))
    near = hole[top:bottom, left:right]
    y, x = np.nonzero(longer[top:bottom, left:right] != near)
    x_from_start, y_from_start = x + (left - start[0]), y + (top - start[1])
    squared_distance = x_from_start**2 + y_from_start**2
    length = max(math.dist(start, end), 1.0)
    along = (x_from_start * (end[0] - start[0]) + y_from_start * (end[1] - start[1])) / length
    radius = (width_px + 1) / 2
    # The brush's centre, this far from the start, meets the pixel; below 0, the brush stands on it from the start.
    met_at = along - np.sqrt(np.maximum(radius**2 - (squared_distance - along**2), 0))
    order = np.where(met_at > 0, met_at, squared_distance / (radius + 1) ** 2 - 1)
    first = np.argsort(order, kind="stable")[: count - np.count_nonzero(hole)]
    near[y[first], x[first]] = 1
    return hole


@dataclass(frozen=True)
class Rectangles:
    """One rectangle at a random place.

    Its area is drawn uniformly from the range, then its proportions (log H uniform) from those that the largest side
    allows, then its place, uniformly.
    Source: contextual attention (Yu et al. 2018): "a rectangle missing region sampled randomly" (Sec. 3), in 256 x 256
    "with largest hole size 128 x 128" (Sec. 5); the paper does not say how the sides are drawn.

    Args:
        max_side_share: the longest side over the picture's, in either direction. With 0.5 no hole is larger than a
            quarter of the picture: of a range that goes beyond, only the part below is drawn.
    """

    max_side_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.max_side_share <= 1:
            raise InputError(f"max_side_share must lie in (0, 1], got {self.max_side_share:g}")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw one mask, as `MaskGenerator` says."""
        fewest, most = hole_pixels(size, hole_ratio)
        max_height, max_width = (math.floor(self.max_side_share * side) for side in size)
        most = min(most, max_height * max_width)
        heights = np.arange(1, max_height + 1)
        if not ((most // heights).clip(max=max_width) * heights >= fewest).any():
            raise InputError(
                f"no rectangle with sides of at most {self.max_side_share:g} of {size[0]} x {size[1]} has a hole ratio "
                f"in ({hole_ratio[0]:g}, {hole_ratio[1]:g}]; raise max_side_share or lower the range"
            )
        fits = np.zeros(1, bool)
        while not fits.any():  # a prime number of pixels, in a narrow range: draw another
            widths = np.rint(rng.integers(fewest, most + 1) / heights).astype(np.intp)
            areas = heights * widths
            fits = (widths >= 1) & (widths <= max_width) & (fewest <= areas) & (areas <= most)
        weight = np.cumsum(fits / heights)  # 1 / H: uniform in log H
        chosen = int(np.searchsorted(weight, rng.random() * weight[-1], side="right"))
        height, width = int(heights[chosen]), int(widths[chosen])
        top, left = rng.integers(size[0] - height + 1), rng.integers(size[1] - width + 1)
        mask = np.ones(size, np.uint8)
        mask[top : top + height, left : left + width] = 0
        return mask


@dataclass(frozen=True)
class Mixture:
    """Each mask from one of several generators, drawn by weight.

    Args:
        generators: by name.
        weights: of the same names; what counts is their proportion, 0 leaves a generator out.
    """

    generators: Mapping[str, MaskGenerator]
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        if set(self.generators) != set(self.weights):
            raise InputError(f"weights must be given for {sorted(self.generators)}, got {sorted(self.weights)}")
        if not all(0 <= weight < math.inf for weight in self.weights.values()) or not any(self.weights.values()):
            raise InputError(f"weights must be 0 or more and not all 0, got {dict(self.weights)}")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Draw one mask, as `MaskGenerator` says."""
        names = list(self.generators)
        edges = np.cumsum([self.weights[name] for name in names])
        chosen = int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))
        return self.generators[names[chosen]](size, rng, hole_ratio)
