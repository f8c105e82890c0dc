"""Filled pictures become files: with the EXIF, colour profile and transparency of the pictures they were."""

from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, JpegImagePlugin

from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.image_files.reading import STORED_BITS, rgb_pixels, upright

JPEG_QUALITY = 95
"""Of JPEGs that were something else; Pillow's own 75 would be seen in the known pixels."""

_MODES = {
    "PNG": ("L", "LA", "RGB", "RGBA"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("L", "LA", "RGB", "RGBA"),  # grey as RGB of equal parts
    "BMP": ("L", "RGB"),
    "TIFF": ("L", "LA", "RGB", "RGBA", "CMYK"),
}
"""What each format stores without change."""

_PIXELS_ONLY = ("BMP",)
"""Formats that store neither a colour profile nor EXIF, or whose Pillow writer does not."""

_PARTS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
"""Of EXIF, beside what describes the picture itself."""

_LOSSLESS_TIFF = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate")

_TIFF_LAYOUT = frozenset(
    {
        *(*range(254, 260), *range(262, 267), 273, *range(277, 282), 284, *range(290, 294), 301, *range(317, 326)),
        *(330, 332, 336, *range(338, 343), 347, *range(512, 522), *range(529, 533), 700, 33723, 34377, 34675, 37724),
    }
)
"""How a TIFF's pixels lie in its file; its profile, which goes its own way; and other programs' blocks."""


def file_format(path: Path) -> str:
    """Pillow's name of the format that a file's suffix asks for.

    Raises:
        InputError: pictures are not written so.
    """
    found = Image.registered_extensions().get(path.suffix.lower())
    if found not in _MODES:
        raise InputError(f"{path}: pictures are written as PNG, JPEG, WebP, BMP and TIFF; format=png takes the first")
    return found


def is_lossy(path: Path) -> bool:
    """Whether known pixels change when they are written to this file."""
    return file_format(path) == "JPEG"


def write_filled(filled: Image.Image, stored: Image.Image, path: Path) -> list[str]:
    """Write what `with_filled` made of `stored`, which a file was read as, in the format of the path's suffix.

    PNG, WebP, BMP and TIFF keep every pixel: WebP is its lossless kind, TIFF keeps a compression that loses nothing, if
    it has no EXIF.
    JPEG is compressed anew: what was one before with its own tables and subsampling, by which known blocks hardly
    change, others at quality 95 and with full colour. A format without transparency gets the picture over white, one
    without CMYK, or without a colour profile where there is one, gets sRGB.

    EXIF stays, but for the thumbnail, which shows what was there before. In its own format a picture also stays turned
    as it was; in another it is turned upright, as not every viewer looks for EXIF there.

    Returns:
        Sentences on what could not be kept.
    Raises:
        InputError: the file can't be written.
    """
    to = file_format(path)
    same = to == ("JPEG" if stored.format == "MPO" else stored.format)  # MPO: a phone's JPEG, and a second picture
    lost = []
    exif = Image.Exif()
    try:
        exif = _exif(stored, turned=same)
    except Exception as error:  # what EXIF holds is looked at by nobody before, and Pillow raises nearly anything
        lost.append(f"{path} is without the EXIF of its picture, which is damaged: {error}")
    picture, profile = filled if same else upright(filled), stored.info.get("icc_profile")
    if to in _PIXELS_ONLY and len(exif):
        lost.append(f"{path}: {to} has no EXIF, its picture has")
    unmanaged = to in _PIXELS_ONLY and profile
    if unmanaged:
        lost.append(f"{path}: {to} has no colour profile, so its colours are sRGB")
    if unmanaged or picture.mode not in _MODES[to]:
        if picture.has_transparency_data:
            lost.append(f"{path}: {to} has no transparency, so the picture lies over white")
        grey = picture.mode == "L"  # which every format has
        picture, profile = Image.fromarray(rgb_pixels(picture)), None
        picture = picture.convert("L") if grey else picture
    if stored.info.get(STORED_BITS):
        lost.append(f"{path} has 8 bits a channel, its picture {stored.info[STORED_BITS]}")
    carried = {"icc_profile": profile, "dpi": stored.info.get("dpi"), "exif": exif if len(exif) else None}
    options = {name: value for name, value in carried.items() if value is not None}
    with atomic_write(path) as unfinished:
        try:
            picture.save(unfinished, format=to, **options, **_compression(to, stored if same else None, exif))
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InputError(f"output={path} can't be written as {to}: {error}") from error  # a side too long
    return lost


def _compression(to: str, before: Image.Image | None, exif: Image.Exif) -> dict[str, Any]:
    """Pillow's options; `before` is the picture as it was in this format, if it was."""
    if to == "WEBP":
        return {"lossless": True, "exact": True}  # exact: colours under full transparency too
    if to == "TIFF":
        if any(part in exif for part in _PARTS):
            return {"compression": "raw"}  # libtiff, which Pillow compresses by, can't write them
        compression = None if before is None else before.info.get("compression")
        return {"compression": compression if compression in _LOSSLESS_TIFF else "tiff_adobe_deflate"}
    if to != "JPEG":
        return {}
    if not isinstance(before, JpegImagePlugin.JpegImageFile):
        return {"quality": JPEG_QUALITY, "subsampling": 0}
    progressive = bool(before.info.get("progressive"))
    subsampling = JpegImagePlugin.get_sampling(before)
    return {"qtables": before.quantization, "subsampling": subsampling, "progressive": progressive}


def _exif(stored: Image.Image, *, turned: bool) -> Image.Exif:
    read, kept, written = stored.getexif(), Image.Exif(), Image.Exif()
    left_out = _TIFF_LAYOUT if stored.format == "TIFF" else frozenset()
    for tag, value in read.items():
        if tag not in left_out and (turned or tag != ExifTags.Base.Orientation):
            kept[tag] = value
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
