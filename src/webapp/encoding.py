"""Images in requests and responses: base64-encoded files, never paths."""

import base64
import binascii
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from src.common.errors import InputError
from src.image_files.binary_images import decode_mask
from src.image_files.reading import decode_stored, to_rgb_array, to_upright

PREVIEW_PX = 1600
"""Longer side of the image on the screen; masks have the image's full size."""

MEGA = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Size limits of an image file, of the decoded image, and of the hole for methods that can't be stopped."""

    megabytes: float
    megapixels: float
    hole_megapixels: float

    @property
    def request_bytes(self) -> int:
        """Size of the largest request: an image in base64, plus mask and edges at up to 4 bits per pixel in total."""
        return round(MEGA * (self.megabytes * 4 / 3 + self.megapixels * 4 / 8 * 4 / 3)) + 2**20


def decode_image(content: Any, name: str, limits: Limits) -> Image.Image:
    """Decode an image of a request, upright, with its transparency and colour profile; messages call it `name`.

    Raises:
        InputError: the image is missing, corrupt, too large or of an unsupported format.
    """
    data = _decode_base64(content, name, limits)
    with _without_colon():
        return to_upright(decode_stored(data, f"the {name}", round(limits.megapixels * MEGA)))


def decode_mask_file(content: Any, hole: Any, limits: Limits) -> Image.Image:
    """Decode a mask file of a request as `read_mask` does, and return it with a white hole on black."""
    data = _decode_base64(content, "mask", limits)
    with _without_colon():
        known = decode_mask(data, "the mask", hole, round(limits.megapixels * MEGA))
    return Image.fromarray((1 - known) * np.uint8(255))


def _decode_base64(content: Any, name: str, limits: Limits) -> bytes:
    if not isinstance(content, str):
        raise InputError(f"the {name} is missing from the request")
    try:
        data = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"the {name} is not valid base64: {error}") from error
    if len(data) > limits.megabytes * MEGA:
        raise InputError(
            f"the {name} has {len(data) / MEGA:.1f} MB, the limit is {limits.megabytes:g} MB: choose a smaller file"
        )
    return data


@contextmanager
def _without_colon() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(":", "", 1)) from error  # "the image: is corrupt", as for a file


def encode_png(image: Image.Image) -> str:
    """Encode an image as PNG in base64, with its colour profile; modes that PNG lacks are converted to sRGB."""
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = Image.fromarray(to_rgb_array(image))
    return _encode(image, "PNG", compress_level=3)


def encode_preview(image: Image.Image) -> str:
    """Encode an RGB image for the screen, as JPEG in base64 with a longer side of at most `PREVIEW_PX`."""
    small = image.copy()
    small.thumbnail((PREVIEW_PX, PREVIEW_PX))
    return _encode(small, "JPEG", quality=90)


def _encode(image: Image.Image, image_format: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
