"""Example images, shipped with scikit-image, each with a painted mask."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage import data

THUMBNAIL_PX = 200
"""Longer side: 100 CSS pixels on a high-density screen."""

MASK_COLOUR = (255, 64, 84)
"""Colour of the mask on the page, as in painter.js."""

Stroke = tuple[int, tuple[tuple[int, int], ...]]
"""Brush width and the points (x, y) of its path, in pixels."""


@dataclass(frozen=True)
class Example:
    """An image, (H, W, 3) uint8, the brush strokes of its mask, and the name of the masked object."""

    title: str
    load: Callable[[], Any]
    strokes: tuple[Stroke, ...]

    def load_image(self) -> Image.Image:
        """Return the image."""
        return Image.fromarray(np.asarray(self.load()))

    def draw_mask(self) -> Image.Image:
        """Return the mask, white = hole."""
        mask = Image.new("L", self.load_image().size)
        draw = ImageDraw.Draw(mask)
        for width_px, points in self.strokes:
            radius = width_px / 2
            draw.line(points, fill=255, width=width_px, joint="curve")
            for x, y in points:  # round caps
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        return mask

    def make_thumbnail(self) -> NDArray[np.uint8]:
        """Return the image with its mask, as the page shows them, downscaled to `THUMBNAIL_PX`."""
        image = self.load_image()
        paint = Image.new("RGB", image.size, MASK_COLOUR)
        painted = Image.composite(paint, image, self.draw_mask().point(lambda level: level * 7 // 10))
        painted.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        return np.asarray(painted)


EXAMPLES = (
    Example("badge", data.astronaut, ((84, ((171, 382), (171, 390))),)),
    Example(
        "spoon",
        data.coffee,
        ((32, ((411, 78), (403, 132))), (96, ((366, 282), (366, 284))), (50, ((384, 222), (336, 250)))),
    ),
    Example("pylon", data.rocket, ((24, ((201, 120), (198, 200))), (38, ((198, 205), (194, 300), (190, 366))))),
    Example(
        "scratches",
        data.chelsea,
        (
            (12, ((20, 40), (120, 90), (210, 60), (330, 120), (430, 90))),
            (12, ((30, 240), (150, 190), (260, 230), (420, 170))),
        ),
    ),
)
