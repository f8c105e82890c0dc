"""Write filled images with the EXIF data, colour profile and transparency of their originals."""

from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, JpegImagePlugin

from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.image_files.decoding import STORED_BITS
from src.image_files.reading import to_rgb_array, to_upright

JPEG_QUALITY = 95
"""Quality of images that were not JPEGs before; Pillow's default of 75 would visibly change known pixels."""

_MODES = {
    "PNG": ("L", "LA", "RGB", "RGBA"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("L", "LA", "RGB", "RGBA"),  # grey is stored as RGB with equal channels
    "BMP": ("L", "RGB"),
    "TIFF": ("L", "LA", "RGB", "RGBA", "CMYK"),
}
"""Modes that each format stores unchanged."""

_PARTS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
"""EXIF directories, besides the main one, that are preserved."""

_LOSSLESS_TIFF = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate")

_TIFF_LAYOUT = frozenset(
    {
        *(*range(254, 260), *range(262, 267), 273, *range(277, 282), 284, *range(290, 294), 301, *range(317, 326)),
        *(330, 332, 336, *range(338, 343), 347, *range(512, 522), *range(529, 533), 700, 33723, 34377, 34675, 37724),
    }
)
"""TIFF tags that are not copied: the pixel layout, the profile (passed separately) and blocks of other programs."""


def file_format(path: Path) -> str:
    """Return Pillow's name of the format for a file's suffix; raises InputError if it is not supported."""
    found = Image.registered_extensions().get(path.suffix.lower())
    if found not in _MODES:
        raise InputError(f"{path}: unknown suffix: use .png, .jpg, .webp, .bmp or .tif, or set format=png")
    return found


def write_filled(filled: Image.Image, stored: Image.Image, path: Path) -> list[str]:
    """Write the result of `fill_hole` in the format of the path's suffix; return messages about what was not preserved.

    PNG, WebP (lossless), BMP and TIFF keep every pixel. A JPEG is recompressed with its own quantization tables and
    subsampling, so that known blocks hardly change. Formats without transparency get the image over white; formats
    without CMYK or without colour profiles get sRGB. EXIF data is preserved except for the thumbnail, which would show
    the original. If the format changes, the image is written upright, as not every viewer reads EXIF in other formats.

    Args:
        stored: the original, as read from its file.
    """
    to = file_format(path)
    same = to == ("JPEG" if stored.format == "MPO" else stored.format)  # MPO: a JPEG with a second image, from phones
    messages = []
    exif = Image.Exif()
    try:
        exif = _exif(stored, keep_orientation=same)
    except Exception as error:  # nothing validates EXIF before, and Pillow raises almost any type
        messages.append(f"{path}: EXIF data dropped, as it is corrupt: {error}")
    image, profile = filled if same else to_upright(filled), stored.info.get("icc_profile")
    pixels_only = to == "BMP"  # for which Pillow writes neither a colour profile nor EXIF
    if pixels_only and len(exif):
        messages.append(f"{path}: EXIF data dropped, as {to} does not support it")
    if pixels_only and profile:
        messages.append(f"{path}: converted to sRGB, as {to} does not support colour profiles")
    if (pixels_only and profile) or image.mode not in _MODES[to]:
        if image.has_transparency_data:
            messages.append(f"{path}: composited over white, as {to} does not support transparency")
        grey = image.mode == "L"  # which every format supports
        image, profile = Image.fromarray(to_rgb_array(image)), None
        image = image.convert("L") if grey else image
    if stored.info.get(STORED_BITS):
        messages.append(f"{path}: reduced from {stored.info[STORED_BITS]} to 8 bits per channel")
    carried = {"icc_profile": profile, "dpi": stored.info.get("dpi"), "exif": exif if len(exif) else None}
    options = {name: value for name, value in carried.items() if value is not None}
    with atomic_write(path) as unfinished:
        try:
            image.save(unfinished, format=to, **options, **_compression(to, stored if same else None, exif))
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InputError(f"output={path} can't be written as {to}: {error}") from error  # e.g. a side is too long
    return messages


def _compression(to: str, before: Image.Image | None, exif: Image.Exif) -> dict[str, Any]:
    """Return Pillow's options; `before` is the original if it has the same format."""
    if to == "WEBP":
        return {"lossless": True, "exact": True}  # exact: also keeps colours under full transparency
    if to == "TIFF":
        if any(part in exif for part in _PARTS):
            return {"compression": "raw"}  # libtiff, which compresses for Pillow, can't write them
        compression = None if before is None else before.info.get("compression")
        return {"compression": compression if compression in _LOSSLESS_TIFF else "tiff_adobe_deflate"}
    if to != "JPEG":
        return {}
    if not isinstance(before, JpegImagePlugin.JpegImageFile):
        return {"quality": JPEG_QUALITY, "subsampling": 0}
    kept = {"qtables": before.quantization, "subsampling": JpegImagePlugin.get_sampling(before)}
    return kept | {"progressive": bool(before.info.get("progressive"))}


def _exif(stored: Image.Image, *, keep_orientation: bool) -> Image.Exif:
    read, kept, written = stored.getexif(), Image.Exif(), Image.Exif()
    excluded = _TIFF_LAYOUT if stored.format == "TIFF" else frozenset()
    kept.update({tag: value for tag, value in read.items() if tag not in excluded})
    if not keep_orientation:
        kept.pop(ExifTags.Base.Orientation, None)
    for part in _PARTS:
        if entries := dict(read.get_ifd(part)):
            if ExifTags.IFD.Interop in entries:
                entries[ExifTags.IFD.Interop] = dict(read.get_ifd(ExifTags.IFD.Interop))
            kept[part] = entries
        elif part in kept:
            del kept[part]
    if len(kept):
        written.load(kept.tobytes())
    return written
