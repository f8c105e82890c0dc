"""Tiled prediction for large images: overlapping tiles around the holes, blended into each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from src.common.errors import InputError
from src.prediction.sizes import Inputs, Predict, Reduced, Region, Span, Tile, holes_region, whole_image

MIN_KNOWN_RATIO = 0.25
"""A tile has enough context if at least this ratio of it is known, or half the known ratio of the whole image."""


@dataclass(frozen=True)
class Tiled:
    """Overlapping tiles at full resolution; memory is bounded by the tile size.

    Only holes are tiled. A hole that fits into a tile with a margin of `overlap_px` is filled in one tile, together
    with other holes nearby, so it has no seam. A larger hole gets several tiles, blended over the middle half of the
    overlap, because predictions are least reliable at tile borders. If a tile would contain too few known pixels, all
    tiles of this hole are made two, four, ... times as large and downscaled to `side_px`.

    Args:
        side_px: side of a tile, as the network sees it.
        overlap_px: minimum overlap of neighbouring tiles, and the margin around a hole that fits into one tile.
    """

    side_px: int = 512
    overlap_px: int = 64

    def __post_init__(self) -> None:
        if self.side_px < 1:
            raise InputError(f"side_px must be at least 1, got {self.side_px}")
        if not 0 <= self.overlap_px <= self.side_px / 2:
            raise InputError(f"overlap_px must be between 0 and half of side_px={self.side_px}, got {self.overlap_px}")

    def select_region(self, mask: Tensor, reach_px: int | None) -> Region:
        """Return the bounding box of all holes with a margin of four tiles, so that memory grows with the holes."""
        return holes_region(mask, 4 * self.side_px)

    def predict(self, predict: Predict, image: Tensor, mask: Tensor, edges: Tensor | None) -> Tensor:
        """Predict one tile after the other, image by image."""
        if max(image.shape[-2:]) <= self.side_px:
            return predict(image, mask, edges)
        predicted = torch.where(mask > 0, image, 0.0)
        for i in range(len(image)):
            for tile in self.tile_holes(mask[i, 0].cpu().numpy() > 0):
                part = (slice(i, i + 1), slice(None), slice(*tile.rows), slice(*tile.columns))
                result = Reduced(self.side_px).predict(
                    predict, image[part], mask[part], None if edges is None else edges[part]
                )
                predicted[part] += result * torch.from_numpy(tile.weights).to(image)
        return predicted

    def views(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> Iterator[tuple[Tile, Inputs]]:
        """Yield the whole image, downscaled to the size of a tile."""
        yield whole_image(image), Reduced(self.side_px).make_overview(image, mask, edges)

    def tile_holes(self, known: NDArray[np.bool_]) -> Iterator[Tile]:
        """Yield the tiles of one image, (H, W). Their weights sum to 1 at each hole pixel and to 0 elsewhere."""
        holes, _ = ndimage.label(~known, np.ones((3, 3)))
        boxes, counts = ndimage.find_objects(holes), known_counts(known)
        enough = min(MIN_KNOWN_RATIO, counts[-1, -1] / known.size / 2)
        for rows, columns, indices in group_boxes(boxes, self.side_px - 2 * self.overlap_px):
            hole = np.isin(holes[slice(*rows), slice(*columns)], [i + 1 for i in indices])
            scale = 1
            tiles = cover_box(known.shape, rows, columns, hole, self.side_px, self.overlap_px)
            while min(known_ratio(counts, tile) for tile in tiles) < enough and any(
                tile.weights.shape != known.shape for tile in tiles
            ):
                scale *= 2
                tiles = cover_box(known.shape, rows, columns, hole, scale * self.side_px, scale * self.overlap_px)
            yield from tiles


def group_boxes(boxes: Sequence[tuple[slice, slice]], room: int) -> Iterator[tuple[Span, Span, list[int]]]:
    """Yield the bounding box of each group of boxes that fits into a square of `room` pixels, and their indices."""
    groups: list[list[int]] = []
    bounds = np.empty((0, 4), np.int64)  # top, left, -bottom, -right: the union of two boxes is their minimum
    for index, (rows, columns) in enumerate(boxes):
        box = np.array([rows.start, columns.start, -rows.stop, -columns.stop])
        union = np.minimum(bounds, box)
        fits = np.flatnonzero((-union[:, 2:] - union[:, :2] <= room).all(axis=1))
        if len(fits):
            groups[fits[0]].append(index)
            bounds[fits[0]] = union[fits[0]]
        else:
            groups.append([index])
            bounds = np.vstack([bounds, box])
    for indices, (top, left, bottom, right) in zip(groups, bounds.tolist(), strict=True):
        yield (top, -bottom), (left, -right), indices


def cover_box(
    size: tuple[int, ...], rows: Span, columns: Span, hole: NDArray[np.bool_], side: int, overlap: int
) -> list[Tile]:
    """Cover a bounding box in an image with tiles; weights are 0 outside `hole`, which is as large as the box."""
    down, across = (_tile_axis(span, length, side, overlap) for span, length in zip((rows, columns), size, strict=True))
    tiles = []
    for tile_rows, row_weights in down:
        for tile_columns, column_weights in across:
            inside = np.zeros((tile_rows[1] - tile_rows[0], tile_columns[1] - tile_columns[0]), np.float32)
            spans = _intersect(tile_rows, rows), _intersect(tile_columns, columns)
            inside[spans[0][0], spans[1][0]] = hole[spans[0][1], spans[1][1]]
            weights = inside * row_weights[:, None] * column_weights
            if weights.any():
                tiles.append(Tile(tile_rows, tile_columns, weights))
    return tiles


def known_counts(known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the number of known pixels above and to the left of each pixel, from which `known_ratio` is looked up."""
    return np.pad(known.cumsum(0, dtype=np.int64).cumsum(1), ((1, 0), (1, 0)))


def known_ratio(counts: NDArray[np.int64], tile: Tile) -> float:
    """Return the ratio of known pixels in a tile of an image with these `known_counts`."""
    (top, bottom), (left, right) = tile.rows, tile.columns
    known = counts[bottom, right] - counts[top, right] - counts[bottom, left] + counts[top, left]
    return float(known / tile.weights.size)


def _tile_axis(span: Span, length: int, side: int, overlap: int) -> list[tuple[Span, NDArray[np.float32]]]:
    """Cover `span` and a margin of `overlap` along an axis of `length` pixels; the tiles' weights sum to 1."""
    side = min(side, length)
    low, high = max(0, span[0] - overlap), min(length, span[1] + overlap)
    if high - low <= side:
        start = min(max(0, (low + high - side) // 2), length - side)
        return [((start, start + side), np.ones(side, np.float32))]
    count = -(-(high - low - overlap) // (side - overlap))
    starts = np.linspace(low, high - side, count).round().astype(int)
    # Ramps from 0 to 1 over the middle half of each overlap. Weights are differences of ramps, so their sum is 1.
    middles = (starts[1:] + starts[:-1] + side) / 2
    pixels = np.arange(length) + 0.5
    ramps = ((pixels - middles[:, None]) / max(overlap / 2, 1e-6) + 0.5).clip(0, 1)
    steps = np.vstack([np.ones(length), ramps, np.zeros(length)])
    weights = (steps[:-1] - steps[1:]).astype(np.float32)
    rows = zip(starts.tolist(), weights, strict=True)
    return [((start, start + side), weight[start : start + side]) for start, weight in rows]


def _intersect(tile: Span, box: Span) -> tuple[slice, slice]:
    """Return the intersection of two spans, relative to the start of each."""
    first, last = max(tile[0], box[0]), max(tile[0], box[0], min(tile[1], box[1]))
    return slice(first - tile[0], last - tile[0]), slice(first - box[0], last - box[0])
