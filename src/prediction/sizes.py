"""How much of a picture a network sees at once: all of it."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Paint(Protocol):
    """A method at work: what it makes of a picture, its known pixels too."""

    def __call__(self, image: Tensor, mask: Tensor, drawn: Tensor | None) -> Tensor:
        """Fill.

        Shapes:
            image (B, 3, H, W) in [0, 1], not read in the hole; mask (B, 1, H, W), 1 = known, 0 = hole; drawn edges
            (B, 1, H, W) in [0, 1], read in the hole alone, or None. Returns (B, 3, H, W) in [0, 1].
        """
        ...


class Size(Protocol):
    """How pictures of any size are brought to a method."""

    def paint(self, paint: Paint, image: Tensor, mask: Tensor, drawn: Tensor | None) -> Tensor:
        """Fill by `paint`; shapes as there."""
        ...

    def overview(self, image: Tensor, mask: Tensor, drawn: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """The whole picture with its mask and drawing, as small as a method sees it: what is shown of its inside."""
        ...


@dataclass(frozen=True)
class Whole:
    """The whole picture at once, at its own size: nothing is lost, and the memory grows with the picture."""

    def paint(self, paint: Paint, image: Tensor, mask: Tensor, drawn: Tensor | None) -> Tensor:
        """Fill all of it in one call."""
        return paint(image, mask, drawn)

    def overview(self, image: Tensor, mask: Tensor, drawn: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """The picture as it is."""
        return image, mask, drawn
