"""Pictures as the page sends and gets them: files as base64 text, never a path."""

import base64
import binascii
import io
from dataclasses import dataclass
from typing import Any

from PIL import Image

from src.common.errors import InputError
from src.image_files.reading import decode_stored, to_rgb_array, to_upright

PREVIEW_PX = 1600
"""The longer side of what is painted over on the screen; the mask has the photo's own size."""

MEGA = 1_000_000


@dataclass(frozen=True)
class Limits:
    """The largest photo that is taken.

    Args:
        megabytes: of its file.
        megapixels: as it is decoded.
        hole_megapixels: of the hole at the working size, for a method that nobody can stop and that large holes slow.
    """

    megabytes: float
    megapixels: float
    hole_megapixels: float

    @property
    def request_bytes(self) -> int:
        """Of the largest request: a photo as base64, and its mask and edges, which hardly ever take a bit a pixel."""
        return round(MEGA * (self.megabytes * 4 / 3 + self.megapixels * 4 / 8 * 4 / 3)) + 2**20


def sent_picture(sent: Any, name: str, limits: Limits) -> Image.Image:
    """The upright picture of a request, with its transparency and colour profile.

    Args:
        name: what it is, for messages.
    Raises:
        InputError: it is none, of a kind that is not read, damaged, or too large.
    """
    if not isinstance(sent, str):
        raise InputError(f"there is no {name}")
    try:
        content = base64.b64decode(sent, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"the {name} was not sent as a picture: {error}") from error
    if len(content) > limits.megabytes * MEGA:
        raise InputError(
            f"the {name} has {len(content) / MEGA:.1f} MB, and at most {limits.megabytes:g} are taken: save it smaller"
        )
    try:
        return to_upright(decode_stored(content, f"the {name}", round(limits.megapixels * MEGA)))
    except InputError as error:
        raise InputError(str(error).replace(":", "", 1)) from error  # as of a file, "photo.jpg: is damaged"


def png_text(picture: Image.Image) -> str:
    """A picture as a PNG in base64, with its colour profile; without it, as sRGB, of modes that a PNG does not have."""
    if picture.mode not in ("L", "LA", "RGB", "RGBA"):
        picture = Image.fromarray(to_rgb_array(picture))
    return _text(picture, "PNG", compress_level=3)


def preview_text(picture: Image.Image) -> str:
    """A picture as the screen needs it: a JPEG in base64 of at most PREVIEW_PX; what is transparent is white."""
    small = picture.copy()
    small.thumbnail((PREVIEW_PX, PREVIEW_PX))
    return _text(small, "JPEG", quality=90)


def _text(picture: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
