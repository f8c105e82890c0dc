"""Read images as sRGB arrays, or as their files store them."""

from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, ImageOps

from src.image_files.decoding import FORMATS, decode_pil, name_file_in_errors, read_pil

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
    | ({".avif"} if "AVIF" in FORMATS else set())
    | ({".heic", ".heif", ".hif"} if "HEIF" in FORMATS else set())
)
"""Lower-case suffixes of the files that `read_image` reads."""

_STRIP_PIXELS = 2**17
_SRGB = ImageCms.createProfile("sRGB")

UInt8Array = npt.NDArray[np.uint8]


def read_image(path: Path, shorter_side_px: int | None = None) -> UInt8Array:
    """Read an image as 8-bit sRGB.

    Supports PNG, JPEG, WebP, BMP, TIFF, GIF, AVIF if Pillow does, and HEIF (HEIC) with the extra `heic`; grey, palette,
    CMYK, 1-bit, 16-bit (v / 257, rounded) and floating-point TIFF in [0, 1] (v * 255, rounded). EXIF orientation and
    embedded colour profile are applied (a broken profile is ignored), and transparent pixels are composited over white.
    Of a TIFF with several pages, the first of full size is read, as by viewers.

    Args:
        shorter_side_px: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size if its shorter side stays at least this long.
    Shapes:
        Returns (H, W, 3) uint8.
    Raises:
        InputError: the file is missing, empty, corrupt, truncated, too large or of an unsupported format.
    """
    with name_file_in_errors(path):
        return to_rgb_array(read_pil(path, shorter_side_px))


def read_stored(path: Path, max_pixels: int | None = None) -> Image.Image:
    """Read an image with the colour space, transparency and orientation of its file, converted to 8 bits.

    `info` and `getexif()` are those of the file; a TIFF with more than 8 bits is upright and only keeps its profile.
    """
    with name_file_in_errors(path):
        return read_pil(path, max_pixels=max_pixels)


def decode_stored(content: bytes, name: str, max_pixels: int | None = None) -> Image.Image:
    """Decode the content of a file in memory, as `read_stored` does; `name` is for messages, limits as in `decode_pil`.

    Raises:
        InputError: as in `read_image`, or the image has too many pixels.
    """
    with name_file_in_errors(name):
        return decode_pil(content, max_pixels=max_pixels)


def to_rgb_array(image: Image.Image) -> UInt8Array:
    """Convert an 8-bit image to upright sRGB pixels (H, W, 3), as described in `read_image`."""
    image = to_upright(image)
    if not image.has_transparency_data:
        return _pixels(_to_srgb(image, image.info.get("icc_profile")))
    rgba = image.convert("RGBA")
    rgb = _to_srgb(rgba.convert("RGB"), image.info.get("icc_profile"))
    return _pixels(Image.composite(rgb, Image.new("RGB", rgb.size, "white"), rgba.getchannel("A")))


def to_upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; an image that is already upright is returned itself, not copied."""
    is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    return image if is_upright else ImageOps.exif_transpose(image)


def _to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    if image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    return convert_profile(image, image.mode, icc_profile, to_srgb=True) or image.convert("RGB")


def convert_profile(image: Image.Image, mode: str, icc_profile: bytes | None, *, to_srgb: bool) -> Image.Image | None:
    """Convert between sRGB and a profile for `mode`; None if there is no other valid profile for this mode."""
    if not icc_profile:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc_profile))
        space = profile.profile.xcolor_space.strip()
        if {"GRAY": "L"}.get(space, space) != mode or "sRGB" in (profile.profile.profile_description or ""):
            return None
        profiles = (profile, _SRGB) if to_srgb else (_SRGB, profile)
        return ImageCms.profileToProfile(image, profiles[0], profiles[1], outputMode="RGB" if to_srgb else mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _pixels(image: Image.Image) -> UInt8Array:
    """Return `np.array(image)` of an RGB image, copied in strips.

    Pillow makes several copies. Of large images they take longer than decoding; strips reuse the same memory.
    """
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels
