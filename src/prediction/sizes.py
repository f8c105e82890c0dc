"""How images of any size are passed to a network: the whole image, or the whole image downscaled."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from src.common.errors import InputError
from src.networks.interface import InpaintingOutput, composite

Inputs = tuple[Tensor, Tensor, Tensor | None]
"""Image, mask and edges of a batch."""

Predict = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Call of a network with image (B, 3, H, W) in [0, 1], not read in the hole; mask (B, 1, H, W), 1 = known, 0 = hole;
and edges (B, 1, H, W) in [0, 1], read in the hole only, or None. Returns (B, 3, H, W) in [0, 1]."""


Region = tuple[slice, slice]
"""Rows and columns of an image."""

Span = tuple[int, int]
"""First row or column, and the one after the last."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of an image, with the weight in [0, 1] of its prediction at each pixel, 0 outside its holes."""

    rows: Span
    columns: Span
    weights: NDArray[np.float32]


def whole_image(image: Tensor) -> Tile:
    """Return a whole image as a tile."""
    height, width = image.shape[-2:]
    return Tile((0, height), (0, width), np.ones((height, width), np.float32))


class SizeStrategy(Protocol):
    """How images of any size are passed to a network."""

    def select_region(self, mask: Tensor, reach_px: int | None) -> Region:
        """Return the rows and columns that suffice to fill the holes; the rest is not passed to `predict`.

        `reach_px` is that of the network.
        """

    def predict(self, predict: Predict, image: Tensor, mask: Tensor, edges: Tensor | None) -> Tensor:
        """Call `predict` once or several times and return a prediction of the image's size; shapes as in `Predict`."""

    def views(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> Iterator[tuple[Tile, Inputs]]:
        """Yield inputs of the network and the parts of an image that they show, for figures of its layers and edges.

        The parts hold all holes. With tiles it is the whole image, downscaled.
        """


def holes_region(mask: Tensor, margin_px: int) -> Region:
    """Return the bounding box of all holes of a batch with a margin; the corner pixel if there is no hole."""

    def span(axis: int) -> slice:
        holes = torch.nonzero((mask == 0).any(dim=axis).any(dim=0).any(dim=0))
        if not len(holes):
            return slice(0, 1)
        # An even start keeps the rounding of the tiles' positions.
        return slice(max(0, int(holes[0]) - margin_px) // 2 * 2, int(holes[-1]) + 1 + margin_px)

    return span(-1), span(-2)


@dataclass(frozen=True)
class Whole:
    """The whole image at once, at full resolution: exact, but memory grows with the image.

    For methods that only read pixels near the holes, such as Telea's, the rest is left out: the result is the same.
    """

    def select_region(self, mask: Tensor, reach_px: int | None) -> Region:
        """Return the whole image, or the bounding box of all holes with a margin of `reach_px`."""
        return (slice(None), slice(None)) if reach_px is None else holes_region(mask, reach_px)

    def predict(self, predict: Predict, image: Tensor, mask: Tensor, edges: Tensor | None) -> Tensor:
        """Predict the image in one call."""
        return predict(image, mask, edges)

    def views(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> Iterator[tuple[Tile, Inputs]]:
        """Yield the inputs unchanged."""
        yield whole_image(image), (image, mask, edges)


@dataclass(frozen=True)
class Reduced:
    """The whole image, downscaled; the prediction is upscaled and therefore softer than its surroundings.

    A downscaled pixel is the mean of the known pixels it covers, and is known if at least half of them are. Lines of
    edge maps are kept. Images that are small enough are not resized.

    Args:
        side_px: longer side of the downscaled image.
    """

    side_px: int = 512

    def __post_init__(self) -> None:
        if self.side_px < 1:
            raise InputError(f"side_px must be at least 1, got {self.side_px}")

    def select_region(self, mask: Tensor, reach_px: int | None) -> Region:
        """Return the whole image."""
        return slice(None), slice(None)

    def predict(self, predict: Predict, image: Tensor, mask: Tensor, edges: Tensor | None) -> Tensor:
        """Predict the downscaled image in one call and upscale the result."""
        small, known, lines = self.make_overview(image, mask, edges)
        predicted = predict(small, known, lines)
        if small is image:
            return predicted
        # Upscale the composite, so that the prediction blends into the known pixels around it.
        filled = composite(small, known, InpaintingOutput(predicted))
        return F.interpolate(filled, size=image.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)

    def views(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> Iterator[tuple[Tile, Inputs]]:
        """Yield the downscaled inputs."""
        yield whole_image(image), self.make_overview(image, mask, edges)

    def make_overview(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> Inputs:
        """Return the downscaled inputs."""
        sides = image.shape[-2:]
        if max(sides) <= self.side_px:
            return image, mask, edges
        size = [max(1, round(side * self.side_px / max(sides))) for side in sides]

        def downscale(t: Tensor) -> Tensor:
            return F.interpolate(t, size=size, mode="bilinear", align_corners=False, antialias=True)

        known_ratio = downscale(mask)
        emptied = torch.where(mask > 0, image, 0.0)  # where, not a product: NaN * 0 is NaN
        known = (known_ratio >= 0.5).to(mask)
        small = torch.where(known > 0, (downscale(emptied) / known_ratio).clamp(0, 1), 0.0)
        return small, known, None if edges is None else F.adaptive_max_pool2d(edges, size)
