"""Each hole with its surroundings, at the size that the network was trained for: the default for networks."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from src.common.errors import InputError
from src.prediction.sizes import Inputs, Predict, Reduced, Region, Span, Tile, whole_image
from src.prediction.tiles import cover_box, group_boxes, known_counts, known_ratio

CONTEXT = 2
"""Ratio of a window's side to its hole's: the hole covers at most a quarter of it, in the middle of the ratios of the
training, and every side has known pixels of half the hole's width to continue."""

ELONGATED = 2
"""A hole that is longer than this many times its thickness gets several windows, so that it is less downscaled."""

MIN_KNOWN_RATIO = 0.4
"""A window is enlarged until this ratio of it is known, as other holes may lie in it: training ends at 60 % hole."""

GROWTH = 1.25
"""Factor by which a window is enlarged."""


@dataclass(frozen=True)
class AroundHoles:
    """Windows around the holes, downscaled to the training's size if they are larger; the rest is not passed on.

    A window is square and at least as large as the training's images, so small holes are filled at full resolution.
    For a larger hole it is `CONTEXT` times as wide as the hole, downscaled, and the prediction is upscaled and pasted.
    Small holes that fit into one window are filled in one; a long thin hole gets several windows, blended over their
    overlap. Other holes in a window stay holes. At the border of an image a window is shifted, or cropped if the image
    is smaller.

    Args:
        side_px: side of a window as the network sees it; None for the training's.
    """

    side_px: int | None = None

    def __post_init__(self) -> None:
        if self.side_px is not None and self.side_px < 1:
            raise InputError(f"side_px must be at least 1, or null for the training's size, got {self.side_px}")

    def with_default(self, side_px: int) -> "AroundHoles":
        """Return these windows with a side, `side_px` if they have none."""
        return replace(self, side_px=self.side_px or side_px)

    def select_region(self, mask: Tensor, reach_px: int | None) -> Region:
        """Return the bounding box of all windows."""
        tiles = [tile for known in _known_planes(mask) for tile in self.find_windows(known)]
        if not tiles:
            return slice(0, 1), slice(0, 1)
        spans = ([tile.rows for tile in tiles], [tile.columns for tile in tiles])
        # An even start keeps the rounding of the windows' positions.
        rows, columns = (slice(min(one)[0] // 2 * 2, max(end for _, end in one)) for one in spans)
        return rows, columns

    def predict(self, predict: Predict, image: Tensor, mask: Tensor, edges: Tensor | None) -> Tensor:
        """Predict one window after the other, image by image."""
        if max(image.shape[-2:]) <= self._side:
            return predict(image, mask, edges)
        predicted = torch.where(mask > 0, image, 0.0)
        for i, known in enumerate(_known_planes(mask)):
            for window in self.find_windows(known):
                part = (slice(i, i + 1), slice(None), slice(*window.rows), slice(*window.columns))
                result = Reduced(self._side).predict(
                    predict, image[part], mask[part], None if edges is None else edges[part]
                )
                predicted[part] += result * torch.from_numpy(window.weights).to(image)
        return predicted

    def views(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> Iterator[tuple[Tile, Inputs]]:
        """Yield each window of the first image with its inputs; the whole image, downscaled, if it has no hole."""
        for window in self.find_windows(_known_planes(mask)[0]) or [whole_image(image)]:
            part = (..., slice(*window.rows), slice(*window.columns))
            inputs = image[part], mask[part], None if edges is None else edges[part]
            yield window, Reduced(self._side).make_overview(*inputs)

    def find_windows(self, known: NDArray[np.bool_]) -> list[Tile]:
        """Return the windows of one image, (H, W), the largest first, then in the order of their holes.

        Their weights sum to 1 at each hole pixel and to 0 elsewhere.
        """
        labels, _ = ndimage.label(~known, np.ones((3, 3)))
        boxes = ndimage.find_objects(labels)
        depth = cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        counts, room = known_counts(known), self._side // CONTEXT
        extents = [max(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in boxes]
        small = [number for number, extent in enumerate(extents, start=1) if extent <= room]
        groups = group_boxes([boxes[number - 1] for number in small], room)
        found = [(self._side, rows, columns, [small[i] for i in chosen]) for rows, columns, chosen in groups]
        for number, (rows, columns) in enumerate(boxes, start=1):
            if (extent := extents[number - 1]) > room:
                thickness = 2 * float(depth[rows, columns][labels[rows, columns] == number].max())
                side = max(self._side, ceil(CONTEXT * min(extent, ELONGATED * thickness)))
                found.append((side, (rows.start, rows.stop), (columns.start, columns.stop), [number]))
        windows: list[Tile] = []
        for side, rows, columns, numbers in sorted(found, key=lambda one: (-one[0], one[3])):
            hole = np.isin(labels[slice(*rows), slice(*columns)], numbers)
            windows += _cover_with_context(counts, rows, columns, hole, side)
        return windows

    @property
    def _side(self) -> int:
        if self.side_px is None:
            raise InputError("AroundHoles() needs side_px= for a method whose training size is unknown")
        return self.side_px


def _known_planes(mask: Tensor) -> list[NDArray[np.bool_]]:
    return list(mask[:, 0].cpu().numpy() > 0)


def _cover_with_context(
    counts: NDArray[np.int64], rows: Span, columns: Span, hole: NDArray[np.bool_], side: int
) -> list[Tile]:
    """Cover a hole's bounding box with windows of a side, enlarged until enough of each is known."""
    size = (counts.shape[0] - 1, counts.shape[1] - 1)
    tiles = cover_box(size, rows, columns, hole, side, side // (2 * CONTEXT))
    while min(known_ratio(counts, tile) for tile in tiles) < MIN_KNOWN_RATIO and side < max(size):
        side = ceil(side * GROWTH)
        tiles = cover_box(size, rows, columns, hole, side, side // (2 * CONTEXT))
    return tiles
