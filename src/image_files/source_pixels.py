"""Fill the hole of an image in its own mode, colour space, transparency and orientation."""

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from src.common.errors import InputError
from src.image_files.decoding import uint16_to_uint8
from src.image_files.reading import convert_profile

_FROM_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""Transposition from upright to the stored orientation, by EXIF orientation."""


def upright_size(stored: Image.Image) -> tuple[int, int]:
    """Return (H, W) after applying the EXIF orientation."""
    is_transposed = stored.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    return stored.size if is_transposed else (stored.height, stored.width)


def to_eight_bits(image: Image.Image, keep_labels: bool = False) -> Image.Image:
    """Convert an image to 8 bits per channel as the readers do; raises InputError if its mode defines no white."""
    image.load()  # makes Pillow apply the orientation of a TIFF
    if image.mode.startswith("I;16"):
        converted = Image.fromarray(uint16_to_uint8(np.asarray(image), keep_labels))
        converted.info = dict(image.info)
        return converted
    if image.mode in ("I", "F"):
        raise InputError(f"mode {image.mode} does not define the value of white: convert the image to L or RGB")
    return image


def fill_hole(stored: Image.Image, filled: NDArray[np.uint8], known: NDArray[np.bool_]) -> Image.Image:
    """Return the image with its hole filled; known pixels, transparency and `info` are unchanged.

    If part of the hole is fully transparent, for example because it was erased, the whole hole becomes opaque.
    Filled pixels are converted from sRGB to the colour space of the image. Semi-transparent ones get the colour that
    looks like `filled` over white, which is how methods see the image. Palette and 1-bit images cannot hold new colours
    and become RGB or grey, with identical known pixels.

    Shapes:
        filled (H, W, 3) sRGB and known (H, W), both upright.
    """
    image = _to_editable_mode(stored)
    orientation = stored.getexif().get(ExifTags.Base.Orientation, 1)
    patch, hole = Image.fromarray(filled), Image.fromarray(np.where(known, 0, 255).astype(np.uint8))
    if (turn := _FROM_UPRIGHT.get(orientation)) is not None:
        patch, hole = patch.transpose(turn), hole.transpose(turn)
        image.getexif()[ExifTags.Base.Orientation] = orientation  # not necessarily stored in `info`
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if alpha is not None:
        if (np.asarray(alpha)[np.asarray(hole) > 0] == 0).any():
            alpha.paste(255, mask=hole)
        patch = _remove_white_background(patch, alpha)
    mode = image.mode.removesuffix("A")
    colours = convert_profile(patch, mode, stored.info.get("icc_profile"), to_srgb=False) or patch.convert(mode)
    if alpha is not None:
        colours.putalpha(alpha)
    image.paste(colours, mask=hole)
    return image


def _to_editable_mode(stored: Image.Image) -> Image.Image:
    """Return a copy in mode L, LA, RGB, RGBA or CMYK with exactly the same colours."""
    if stored.mode in ("L", "LA", "RGB", "RGBA", "CMYK") and "transparency" not in stored.info:
        return stored.copy()
    if stored.has_transparency_data:
        editable = stored.convert("RGBA")
    else:
        editable = stored.convert("L" if stored.mode == "1" else "RGB")
    editable.info.pop("transparency", None)
    return editable


def _remove_white_background(patch: Image.Image, alpha: Image.Image) -> Image.Image:
    """Return the colours that, with `alpha`, look like `patch` over white; the nearest ones if no colour does."""
    opacity = np.asarray(alpha, np.float32)[..., None] / 255
    over_white = np.asarray(patch, np.float32)
    colours = np.divide(over_white - 255 * (1 - opacity), opacity, where=opacity > 0, out=over_white.copy())
    return Image.fromarray(np.rint(colours.clip(0, 255)).astype(np.uint8))
