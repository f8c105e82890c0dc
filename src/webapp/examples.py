"""Photos that scikit-image ships, each with something painted over: a first result is one click away."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage import data

THUMBNAIL_PX = 200
"""The longer side: 100 CSS pixels on a fine screen."""

Stroke = tuple[int, tuple[tuple[int, int], ...]]
"""The brush's width and the points (x, y) it goes through, both in pixels."""


@dataclass(frozen=True)
class Example:
    """A photo and strokes of a brush over it.

    Args:
        title: what is painted over.
        photo: gives (H, W, 3) uint8.
    """

    title: str
    photo: Callable[[], Any]
    strokes: tuple[Stroke, ...]

    def picture(self) -> Image.Image:
        """The photo."""
        return Image.fromarray(np.asarray(self.photo()))

    def mask(self) -> Image.Image:
        """What is painted over, white on black."""
        mask = Image.new("L", self.picture().size)
        draw = ImageDraw.Draw(mask)
        for width_px, points in self.strokes:
            radius = width_px / 2
            draw.line(points, fill=255, width=width_px, joint="curve")
            for x, y in points:  # round ends
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        return mask

    def thumbnail(self) -> NDArray[np.uint8]:
        """The photo with its hole in the page's colour of paint, small."""
        paint = Image.new("RGB", self.picture().size, (255, 64, 84))
        painted = Image.composite(paint, self.picture(), self.mask().point(lambda level: level * 7 // 10))
        painted.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        return np.asarray(painted)


EXAMPLES = (
    Example("the badge", data.astronaut, ((84, ((171, 382), (171, 390))),)),
    Example(
        "the spoon",
        data.coffee,
        ((32, ((411, 78), (403, 132))), (96, ((366, 282), (366, 284))), (50, ((384, 222), (336, 250)))),
    ),
    Example("a pylon", data.rocket, ((24, ((201, 120), (198, 200))), (38, ((198, 205), (194, 300), (190, 366))))),
    Example(
        "scratches",
        data.chelsea,
        (
            (12, ((20, 40), (120, 90), (210, 60), (330, 120), (430, 90))),
            (12, ((30, 240), (150, 190), (260, 230), (420, 170))),
        ),
    ),
)
