"""Large pictures in parts: tiles around the holes, whose results lead over into each other."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from src.common.errors import InputError
from src.prediction.sizes import Paint, Reduced, Seen

KNOWN_SHARE = 0.25
"""A tile sees enough if so much of it is known, or half the share that is known of the whole picture."""

Span = tuple[int, int]
"""From the first pixel of a row or column to behind the last."""


@dataclass(frozen=True)
class Tile:
    """A part of a picture, and how much its result counts there.

    Shapes:
        weights (height, width) in [0, 1], 0 where nothing is asked of it.
    """

    rows: Span
    columns: Span
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Tiled:
    """Parts of the picture at its own size, no larger than a tile: the memory is that of a tile.

    Tiles are laid around holes, and where there is none is no tile. A hole that fits into a tile with `overlap_px`
    around it is filled in one piece, together with others near it: no seam can run through it. A larger one gets tiles
    that overlap, and between one and the next the result changes over half the overlap, in its middle, as at their
    own borders tiles know least. Where such tiles would see too little that is known, as deep in a large hole, all
    tiles of this hole are twice as large, or four times and so on, and seen reduced to `side_px`: a hole is filled at
    one scale.

    Args:
        side_px: of a tile, as the method sees it.
        overlap_px: of neighbouring tiles at least, and what a tile sees around a hole that fits in.
    Raises:
        InputError: a number is impossible.
    """

    side_px: int = 512
    overlap_px: int = 64

    def __post_init__(self) -> None:
        if self.side_px < 1 or not 0 <= self.overlap_px <= self.side_px / 2:
            raise InputError(
                f"side_px must be at least 1 and overlap_px lie in 0 ... side_px / 2, got {self.side_px} and "
                f"{self.overlap_px}"
            )

    def paint(self, paint: Paint, image: Tensor, mask: Tensor, drawn: Tensor | None) -> Tensor:
        """Fill tile by tile, one picture of the batch after the other."""
        if max(image.shape[-2:]) <= self.side_px:
            return paint(image, mask, drawn)
        painted = torch.where(mask > 0, image, 0.0)
        for i in range(len(image)):
            one = slice(i, i + 1)
            for tile in self.tiles(mask[i, 0].cpu().numpy() > 0):
                part = (one, slice(None), slice(*tile.rows), slice(*tile.columns))
                result = Reduced(self.side_px).paint(
                    paint, image[part], mask[part], None if drawn is None else drawn[part]
                )
                painted[part] += result * torch.from_numpy(tile.weights).to(image)
        return painted

    def overview(self, image: Tensor, mask: Tensor, drawn: Tensor | None) -> Seen:
        """The whole picture reduced to a tile."""
        return Reduced(self.side_px).overview(image, mask, drawn)

    def tiles(self, known: NDArray[np.bool_]) -> Iterator[Tile]:
        """The tiles of one picture: their weights sum to 1 in the hole, and to 0 elsewhere.

        Shapes:
            known (H, W).
        """
        holes, _ = ndimage.label(~known, np.ones((3, 3)))
        # How much is known above and to the left of each pixel: of any tile in four look-ups.
        counts = np.pad(known.cumsum(0, dtype=np.int64).cumsum(1), ((1, 0), (1, 0)))
        enough = min(KNOWN_SHARE, counts[-1, -1] / known.size / 2)
        for rows, columns, members in self._together(ndimage.find_objects(holes)):
            asked = np.isin(holes[slice(*rows), slice(*columns)], members)
            tiles = self._over(known.shape, rows, columns, asked, scale := 1)
            while min(_known_share(counts, tile) for tile in tiles) < enough and _is_part(tiles, known.shape):
                tiles = self._over(known.shape, rows, columns, asked, scale := 2 * scale)
            yield from tiles

    def _together(self, boxes: list[tuple[slice, slice]]) -> Iterator[tuple[Span, Span, list[int]]]:
        """Bounds of holes that share their tiles, and the holes' numbers from 1."""
        groups: list[list[int]] = []
        bounds = np.empty((0, 4), np.int64)  # top, left, -bottom, -right, so that all are least bounds
        room = self.side_px - 2 * self.overlap_px
        for number, (rows, columns) in enumerate(boxes, start=1):
            box = np.array([rows.start, columns.start, -rows.stop, -columns.stop])
            joint = np.minimum(bounds, box)
            fits = np.flatnonzero((-joint[:, 2:] - joint[:, :2] <= room).all(axis=1))
            if len(fits):
                groups[fits[0]].append(number)
                bounds[fits[0]] = joint[fits[0]]
            else:
                groups.append([number])
                bounds = np.vstack([bounds, box])
        for members, (top, left, bottom, right) in zip(groups, bounds.tolist(), strict=True):
            yield (top, -bottom), (left, -right), members

    def _over(
        self, size: tuple[int, ...], rows: Span, columns: Span, asked: NDArray[np.bool_], scale: int
    ) -> list[Tile]:
        """Tiles over a box of holes, `scale` times as large; `asked` (height, width of the box) says what is asked."""
        down, across = (
            _along(span, length, self.side_px * scale, self.overlap_px * scale)
            for span, length in zip((rows, columns), size, strict=True)
        )
        tiles = []
        for vertical, down_weights in down:
            for horizontal, across_weights in across:
                inside = np.zeros((vertical[1] - vertical[0], horizontal[1] - horizontal[0]), np.float32)
                (to_rows, of_rows), (to_columns, of_columns) = _shared(vertical, rows), _shared(horizontal, columns)
                inside[to_rows, to_columns] = asked[of_rows, of_columns]
                weights = inside * down_weights[:, None] * across_weights
                if weights.any():
                    tiles.append(Tile(vertical, horizontal, weights))
        return tiles


def _along(span: Span, length: int, side: int, overlap: int) -> list[tuple[Span, NDArray[np.float32]]]:
    """Tiles along one axis of `length` pixels, over `span` and `overlap` around it, and their weights, of sum 1."""
    side = min(side, length)
    low, high = max(0, span[0] - overlap), min(length, span[1] + overlap)
    if high - low <= side:
        start = min(max(0, (low + high - side) // 2), length - side)
        return [((start, start + side), np.ones(side, np.float32))]
    count = -(-(high - low - overlap) // (side - overlap))
    starts = np.linspace(low, high - side, count).round().astype(int)
    # From 0 to 1 around the middle of each overlap, over half of it; the weights are differences, so their sum is 1.
    middles = (starts[1:] + starts[:-1] + side) / 2
    pixels = np.arange(length) + 0.5
    rises = ((pixels - middles[:, None]) / max(overlap / 2, 1e-6) + 0.5).clip(0, 1)
    steps = np.vstack([np.ones(length), rises, np.zeros(length)])
    weights = (steps[:-1] - steps[1:]).astype(np.float32)
    return [
        ((start, start + side), weight[start : start + side])
        for start, weight in zip(starts.tolist(), weights, strict=True)
    ]


def _shared(tile: Span, box: Span) -> tuple[slice, slice]:
    """What two spans share, counted from the start of each."""
    first, last = max(tile[0], box[0]), max(tile[0], box[0], min(tile[1], box[1]))
    return slice(first - tile[0], last - tile[0]), slice(first - box[0], last - box[0])


def _known_share(counts: NDArray[np.int64], tile: Tile) -> float:
    (top, bottom), (left, right) = tile.rows, tile.columns
    known = counts[bottom, right] - counts[top, right] - counts[bottom, left] + counts[top, left]
    return float(known / tile.weights.size)


def _is_part(tiles: list[Tile], size: tuple[int, ...]) -> bool:
    return any(tile.weights.shape != size for tile in tiles)
