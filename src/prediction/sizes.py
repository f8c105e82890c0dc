"""How much of a picture a method sees at once: all of it, or all of it made smaller."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from src.common.errors import InputError
from src.networks.interface import InpaintingOutput, composite


class Paint(Protocol):
    """A method at work: what it makes of a picture, its known pixels too."""

    def __call__(self, image: Tensor, mask: Tensor, drawn: Tensor | None) -> Tensor:
        """Fill.

        Shapes:
            image (B, 3, H, W) in [0, 1], not read in the hole; mask (B, 1, H, W), 1 = known, 0 = hole; drawn edges
            (B, 1, H, W) in [0, 1], read in the hole alone, or None. Returns (B, 3, H, W) in [0, 1].
        """
        ...


Seen = tuple[Tensor, Tensor, Tensor | None]
"""Image, mask and drawn edges."""


class Size(Protocol):
    """How pictures of any size are brought to a method."""

    def paint(self, paint: Paint, image: Tensor, mask: Tensor, drawn: Tensor | None) -> Tensor:
        """Fill by `paint`; shapes as there."""
        ...

    def overview(self, image: Tensor, mask: Tensor, drawn: Tensor | None) -> Seen:
        """The whole picture as small as a method sees pictures: of it is shown what the method does inside."""
        ...


@dataclass(frozen=True)
class Whole:
    """The whole picture at once, at its own size: nothing is lost, and the memory grows with the picture."""

    def paint(self, paint: Paint, image: Tensor, mask: Tensor, drawn: Tensor | None) -> Tensor:
        """Fill all of it in one call."""
        return paint(image, mask, drawn)

    def overview(self, image: Tensor, mask: Tensor, drawn: Tensor | None) -> Seen:
        """The picture as it is."""
        return image, mask, drawn


@dataclass(frozen=True)
class Reduced:
    """The whole picture made smaller, filled, and what was filled enlarged again: softer than what surrounds it.

    A pixel of the smaller picture is the mean of the known ones that it stands for; it is known if half of them are.
    Edges that are drawn keep their lines. Pictures that are no larger stay as they are.

    Args:
        side_px: the longer side of the smaller picture.
    Raises:
        InputError: it is less than 1.
    """

    side_px: int = 512

    def __post_init__(self) -> None:
        if self.side_px < 1:
            raise InputError(f"side_px must be at least 1, got {self.side_px}")

    def paint(self, paint: Paint, image: Tensor, mask: Tensor, drawn: Tensor | None) -> Tensor:
        """Fill the smaller picture in one call."""
        seen, known, lines = self.overview(image, mask, drawn)
        painted = paint(seen, known, lines)
        if seen is image:
            return painted
        filled = composite(seen, known, InpaintingOutput(painted))  # what is known leads over into what surrounds it
        return F.interpolate(filled, size=image.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)

    def overview(self, image: Tensor, mask: Tensor, drawn: Tensor | None) -> Seen:
        """The smaller picture."""
        sides = image.shape[-2:]
        if max(sides) <= self.side_px:
            return image, mask, drawn
        size = [max(1, round(side * self.side_px / max(sides))) for side in sides]

        def mean(t: Tensor) -> Tensor:
            return F.interpolate(t, size=size, mode="bilinear", align_corners=False, antialias=True)

        known_share = mean(mask)
        emptied = torch.where(mask > 0, image, 0.0)  # where, not a product: NaN * 0 is NaN
        known = (known_share >= 0.5).to(mask)
        seen = torch.where(known > 0, (mean(emptied) / known_share).clamp(0, 1), 0.0)
        return seen, known, None if drawn is None else F.adaptive_max_pool2d(drawn, size)
