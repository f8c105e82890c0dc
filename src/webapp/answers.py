"""What the server answers: a photo's preview, an example, edges, a filled photo and what a network did inside."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from src.common.errors import InputError
from src.image_files.reading import to_rgb_array
from src.networks.classical import Biharmonic
from src.prediction import Inpainter, Reduced, Size, Whole
from src.prediction.sizes import Paint, Seen
from src.rendering.grids import Grid
from src.webapp.examples import EXAMPLES
from src.webapp.methods import Methods
from src.webapp.pictures import MEGA, Limits, png_text, preview_text, sent_picture

Sent = Mapping[str, Any]
Answer = dict[str, Any]


class Answers:
    """Answers requests. Nothing of one is kept; every file in them is read by `src.image_files.reading`, from memory.

    Args:
        sides_px: the working sizes that the page offers, None for a photo's own.
        inside_side_px: what networks do inside is shown of the photo made so small.
    """

    def __init__(self, methods: Methods, limits: Limits, sides_px: tuple[int | None, ...], inside_side_px: int) -> None:
        self.methods, self.limits, self.sides_px, self.inside_side_px = methods, limits, sides_px, inside_side_px
        self._opening = threading.Lock()  # of photos at their full size no two are in the memory at once

    def open_photo(self, sent: Sent) -> Answer:
        """A photo's size and preview.

        Args:
            sent: `photo`.
        """
        with self._opening:
            return self._opened(sent_picture(sent.get("photo"), "photo", self.limits))

    def open_example(self, sent: Sent) -> Answer:
        """The `example` of a number: its photo, size, preview and mask."""
        number = sent.get("example")
        if type(number) is not int or not 0 <= number < len(EXAMPLES):
            raise InputError(f"there is no example {number!r}")
        photo = EXAMPLES[number].picture()
        return {**self._opened(photo), "photo": png_text(photo), "mask": png_text(EXAMPLES[number].mask())}

    def find_edges(self, sent: Sent) -> Answer:
        """What a method takes for edges, white on black.

        Args:
            sent: `user`, `method`, `photo`, `mask` and `side`.
        """
        size = self._size(sent)
        with self.methods.using(_text(sent, "method"), _text(sent, "user")) as inpaint:
            photo, mask, _ = self._pictures(sent)
            edges = _at(inpaint, size).edges(photo, mask)
        if edges is None:
            raise InputError(f"{sent['method']} takes no edges; an edge_lbam does")
        return {"edges": png_text(edges)}

    def fill(self, sent: Sent) -> Answer:
        """The photo with its hole filled, the seconds that took, and, if asked, what the network did inside.

        Args:
            sent: as of `find_edges`; `edges`, which methods without them never see; `inside`.
        """
        size = self._size(sent)
        with self.methods.using(_text(sent, "method"), _text(sent, "user")) as inpaint:
            photo, mask, edges = self._pictures(sent)  # while nobody else has any in the memory
            if isinstance(inpaint.network, Biharmonic):
                size = SmallHole(size, self.limits.hole_megapixels)
            drawn = edges if inpaint.network.takes_edges else None
            begun = time.perf_counter()
            filled = _at(inpaint, size)(photo, mask, drawn)
            seconds = time.perf_counter() - begun
            shown = _at(inpaint, Reduced(self.inside_side_px))
            figures = shown.figures(photo, mask, drawn) if sent.get("inside") is True else {}
        return {
            "model": inpaint.name,
            "seconds": seconds,
            "picture": png_text(filled),
            "takes_edges": inpaint.network.takes_edges,
            "drawn": drawn is not None,
            "inside": [_shown(name, grid) for name, grid in figures.items()],
        }

    def stop(self, sent: Sent) -> Answer:
        """End what a `user` has waiting or under way, which is answered by `stopped`."""
        self.methods.stop(_text(sent, "user"))
        return {}

    def _opened(self, photo: Image.Image) -> Answer:
        return {
            "width": photo.width,
            "height": photo.height,
            "preview": preview_text(Image.fromarray(to_rgb_array(photo))),
        }

    def _pictures(self, sent: Sent) -> tuple[Image.Image, Image.Image, NDArray[np.float32] | None]:
        photo, mask = (sent_picture(sent.get(name), name, self.limits) for name in ("photo", "mask"))
        if sent.get("edges") is None:
            return photo, mask, None
        edges = sent_picture(sent["edges"], "drawing of edges", self.limits)
        # Not as a picture, whose greys would be lines or none: what was predicted and left alone stays as it was.
        return photo, mask, np.asarray(edges.convert("L"), np.float32) / np.float32(255)

    def _size(self, sent: Sent) -> Size:
        side = sent.get("side")
        if side not in self.sides_px or isinstance(side, bool):
            raise InputError(f"there is no working size {side!r} here")
        return Whole() if side is None else Reduced(side)


@dataclass(frozen=True)
class SmallHole:
    """A size at which large holes are refused.

    Args:
        size: how pictures are brought to the method.
        megapixels: of the largest hole, as the method sees it.
    """

    size: Size
    megapixels: float

    def paint(self, paint: Paint, image: Tensor, mask: Tensor, drawn: Tensor | None) -> Tensor:
        """Fill, unless the hole is too large.

        Raises:
            InputError: it is.
        """

        def checked(image: Tensor, mask: Tensor, drawn: Tensor | None) -> Tensor:
            hole = int((mask == 0).sum())
            if hole > self.megapixels * MEGA:
                raise InputError(
                    f"at this working size the hole has {hole / MEGA:.3g} megapixels, and this method, which can't be "
                    f"stopped, takes at most {self.megapixels:g}: choose a smaller working size, or paint over less"
                )
            return paint(image, mask, drawn)

        return self.size.paint(checked, image, mask, drawn)

    def overview(self, image: Tensor, mask: Tensor, drawn: Tensor | None) -> Seen:
        """As of the size."""
        return self.size.overview(image, mask, drawn)


def _text(sent: Sent, key: str) -> str:
    if not isinstance(sent.get(key), str):
        raise InputError(f"a {key} is to be named")
    return str(sent[key])


def _at(inpaint: Inpainter, size: Size) -> Inpainter:
    return Inpainter(inpaint.name, inpaint.network, inpaint.device, size)


def _shown(name: str, grid: Grid) -> Answer:
    """A figure of one photo, its parts by themselves: the page lays them out, and shows the input already."""
    (row,) = grid.rows
    parts = [
        {"head": head, "png": png_text(Image.fromarray(picture.pixels))}
        for head, picture in zip(grid.columns[1:], row[1:], strict=True)
    ]
    return {"title": name.replace("_", " "), "pictures": parts}
