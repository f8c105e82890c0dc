"""A picture's own pixels, with their mode, transparency, colour space and orientation, filled from networks' sRGB."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from src.common.errors import InputError

_TURN_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""From upright to EXIF's orientation of this number."""

_SRGB = ImageCms.createProfile("sRGB")


def upright_size(stored: Image.Image) -> tuple[int, int]:
    """Height and width as viewers show it."""
    lies = stored.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    return stored.size if lies else (stored.height, stored.width)


def eight_bits(image: Image.Image) -> Image.Image:
    """A picture in memory with 8 bits a channel, as the readers make of files: 16-bit grey is v / 257, rounded.

    Raises:
        InputError: its mode does not say which of its values is white.
    """
    image.load()  # by which Pillow turns a TIFF upright
    if image.mode.startswith("I;16"):
        samples = np.asarray(image).astype(np.uint32)
        shallow = Image.fromarray(((samples * 255 + 32767) // 65535).astype(np.uint8))
        shallow.info = dict(image.info)
        return shallow
    if image.mode in ("I", "F"):
        raise InputError(f"an image of mode {image.mode} does not say what is white: convert it to L or RGB")
    return image


def with_filled(stored: Image.Image, filled: NDArray[np.uint8], known: NDArray[np.bool_]) -> Image.Image:
    """The picture with its hole filled: all else, known pixels, transparency and `info`, stays as it is.

    What is filled in is brought from sRGB to the picture's colour space and, where that is half transparent, made to
    look over white as it was painted, which is how methods see the picture. A palette and single bits have no room for
    new colours: such a picture becomes RGB or grey, known pixels of the same colours.

    Shapes:
        filled (H, W, 3) sRGB and known (H, W), both of the upright picture.
    """
    picture = _with_room(stored)
    orientation = stored.getexif().get(ExifTags.Base.Orientation, 1)
    patch, hole = Image.fromarray(filled), Image.fromarray(np.where(known, 0, 255).astype(np.uint8))
    if (turn := _TURN_BACK.get(orientation)) is not None:
        patch, hole = patch.transpose(turn), hole.transpose(turn)
        picture.getexif()[ExifTags.Base.Orientation] = orientation  # it may stand elsewhere than in `info`
    alpha = picture.getchannel("A") if picture.mode in ("LA", "RGBA") else None
    if alpha is not None:
        patch = _seen_over_white(patch, alpha)
    colours = _from_srgb(patch, picture.mode.removesuffix("A"), stored.info.get("icc_profile"))
    if alpha is not None:
        colours.putalpha(alpha)
    picture.paste(colours, mask=hole)
    return picture


def _with_room(stored: Image.Image) -> Image.Image:
    """A copy in one of the modes L, LA, RGB, RGBA and CMYK, that holds the picture's colours exactly."""
    if stored.mode in ("L", "LA", "RGB", "RGBA", "CMYK") and "transparency" not in stored.info:
        return stored.copy()
    if stored.has_transparency_data:
        roomy = stored.convert("RGBA")
    else:
        roomy = stored.convert("L" if stored.mode == "1" else "RGB")
    roomy.info.pop("transparency", None)
    return roomy


def _seen_over_white(patch: Image.Image, alpha: Image.Image) -> Image.Image:
    """The colours that, as transparent as `alpha`, are `patch` over white; the nearest where there are none."""
    share = np.asarray(alpha, np.float32)[..., None] / 255
    over_white = np.asarray(patch, np.float32)
    colours = np.divide(over_white - 255 * (1 - share), share, where=share > 0, out=over_white.copy())
    return Image.fromarray(np.rint(colours.clip(0, 255)).astype(np.uint8))


def _from_srgb(patch: Image.Image, mode: str, icc_profile: bytes | None) -> Image.Image:
    if icc_profile:
        try:
            profile = ImageCms.ImageCmsProfile(BytesIO(icc_profile))
            space = profile.profile.xcolor_space.strip()
            if {"GRAY": "L"}.get(space, space) == mode and "sRGB" not in (profile.profile.profile_description or ""):
                converted = ImageCms.profileToProfile(patch, _SRGB, profile, outputMode=mode)
                assert converted is not None  # it is None only for conversions in place
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a broken profile is ignored, as where the picture was read
    return patch if patch.mode == mode else patch.convert(mode)
