"""Picture, mask and edge files become arrays here: read right, or refused with the file's name and the reason."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, ImageOps, TiffImagePlugin, UnidentifiedImageError

from src.common.errors import InputError

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
"""Lower-case endings of the files that `read_image` reads."""

MIDTONE_SHARE_LIMIT = 0.1
"""A mask file may have this share of pixels between dark and bright: smoothed edges do, photos have far more."""

STORED_BITS = "stored_bits"
"""In the `info` of a picture whose file holds more than 8 bits a channel: how many."""

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_STRIP_PIXELS = 2**17
_SRGB = ImageCms.createProfile("sRGB")

UInt8Array = npt.NDArray[np.uint8]


def read_image(path: Path, shorter_side_px: int | None = None) -> UInt8Array:
    """Read a photo as 8-bit sRGB.

    PNG, JPEG, WebP, BMP and TIFF; grey, palette, CMYK, 1-bit, 16-bit (v / 257, rounded) and floating-point TIFF in
    [0, 1] (v * 255, rounded). It is turned upright as EXIF says; an embedded colour profile is applied, a broken one
    ignored; transparent pixels are laid over white, as a browser shows them. A TIFF's first page counts.

    Args:
        shorter_side_px: a JPEG whose shorter side is twice, four or eight times that or more comes at a half, a quarter
            or an eighth of its size: its decoder leaves each block's finest waves out, which saves time and memory.
    Shapes:
        Returns (H, W, 3) uint8.
    Raises:
        InputError: the file is missing, empty, damaged, cut off, too large to be meant, or of another kind.
    """
    with naming(path):
        return rgb_pixels(_decode(path, shorter_side_px))


def read_stored(path: Path) -> Image.Image:
    """Read a picture in the colours, with the transparency and the way round in which its file stores it, as 8 bits.

    Its `info` and `getexif()` are the file's; of a TIFF of more than 8 bits, which comes upright, the profile alone.

    Raises:
        InputError: as in `read_image`.
    """
    with naming(path):
        return _decode(path)


def stored_picture(content: bytes, name: str, most_pixels: int | None = None) -> Image.Image:
    """As `read_stored`, of a file's content in memory; messages call it `name`.

    Args:
        most_pixels: a file whose header tells of more is refused, and none of it decoded.
    """
    with naming(name):
        return _decoded(content, most_pixels=most_pixels)


def rgb_pixels(image: Image.Image) -> UInt8Array:
    """The upright sRGB pixels of a picture of 8 bits a channel, as `read_image` documents them: (H, W, 3)."""
    image = upright(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        colours, alpha = rgba.convert("RGB"), rgba.getchannel("A")
    else:
        colours, alpha = image, None
    rgb = _to_srgb(colours, image.info.get("icc_profile"))
    if alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    return _pixels(rgb)


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF says; itself, not a copy, where it stands upright, as most do."""
    stands = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    return image if stands else ImageOps.exif_transpose(image)


def read_mask(path: Path, hole: Literal["white", "black"] = "white") -> UInt8Array:
    """Read a mask file: black and white, in any of the formats and depths of `read_image`; grey splits at 128.

    Transparency never counts as a mask: a file with transparent pixels is refused, because its hole could be the
    transparent part as well as the painted one.

    Args:
        hole: which of the two colours marks the hole.
    Shapes:
        Returns (H, W) uint8, 1 = known, 0 = hole.
    Raises:
        InputError: as in `read_image`, or the file is not black and white.
    """
    _white_or_black("hole of a mask file is", hole)  # it is no fault of the file
    with naming(path):
        return mask_pixels(_decode(path), hole)


def mask_pixels(image: Image.Image, hole: Literal["white", "black"] = "white") -> UInt8Array:
    """What `read_mask` makes of a picture of 8 bits a channel.

    Raises:
        InputError: it is not black and white.
    """
    _white_or_black("hole of a mask file is", hole)
    image = upright(image)
    if image.has_transparency_data and np.array(image.convert("RGBA").getchannel("A")).min() < 255:
        raise InputError("has transparent pixels; save the mask as black and white without transparency")
    # Over planes: over a trailing axis of 3 numpy takes several times as long, and folders hold thousands.
    planes = [np.asarray(plane) for plane in (image if image.mode == "L" else image.convert("RGB")).split()]
    darkest, brightest = np.minimum.reduce(planes), np.maximum.reduce(planes)
    if brightest.max() == 1:
        raise InputError("holds the values 0 and 1, both black in a picture; save the mask as 0 and 255")
    midtone_share = float(((brightest >= 64) & (darkest < 192)).mean())
    if midtone_share > MIDTONE_SHARE_LIMIT:
        raise InputError(
            f"is not a mask: {midtone_share:.0%} of its pixels are neither black nor white"
            f" (at most {MIDTONE_SHARE_LIMIT:.0%} may be)"
        )
    white = np.array(image.convert("L")) >= 128
    return (white if hole == "black" else ~white).astype(np.uint8)


def read_edges(path: Path, lines: Literal["white", "black"] = "white") -> UInt8Array:
    """Read an edge map or a sketch, in any of the formats and depths of `read_image`; grey splits at 128.

    Transparent pixels hold no line, as a sketch on a layer of its own has none there.

    Args:
        lines: which of the two colours draws.
    Shapes:
        Returns (H, W) uint8, 1 on a line, else 0.
    Raises:
        InputError: as in `read_image`.
    """
    _white_or_black("lines of an edge picture are", lines)
    with naming(path):
        return edge_pixels(_decode(path), lines)


def edge_pixels(image: Image.Image, lines: Literal["white", "black"] = "white") -> UInt8Array:
    """What `read_edges` makes of a picture of 8 bits a channel."""
    _white_or_black("lines of an edge picture are", lines)
    image = upright(image).convert("RGBA")
    paper = Image.new("RGBA", image.size, "black" if lines == "white" else "white")
    white = np.array(Image.alpha_composite(paper, image).convert("L")) >= 128
    return (white if lines == "white" else ~white).astype(np.uint8)


def _white_or_black(what: str, colour: str) -> None:
    if colour not in ("white", "black"):
        raise InputError(f"the {what} 'white' or 'black', got {colour!r}")


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Whatever is wrong with a file, when it is decoded or when its colours are, becomes a sentence with its name."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except UnidentifiedImageError:
        reason = "is not a PNG, JPEG, WebP, BMP or TIFF picture, or its header is damaged or cut off"
        raise InputError(f"{path}: {reason}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path}: is too large to be a photo: {error}") from None
    except Exception as error:  # decoders of damaged data raise nearly anything
        if "MAX_TEXT" in str(error):  # Pillow's, of texts and colour profiles that are packed
            raise InputError(f"{path}: unpacks to far more text, or colour profile, than a photo has") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: is damaged or cut off: {reason}") from error


def _decode(path: Path, shorter_side_px: int | None = None) -> Image.Image:
    """The 8-bit picture in a file, as it was stored; `info` keeps its colour profile."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError("there is no such file") from None
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}") from error
    return _decoded(data, shorter_side_px)


def _decoded(data: bytes, shorter_side_px: int | None = None, most_pixels: int | None = None) -> Image.Image:
    if not data:
        raise InputError("is empty")
    # Pillow reads 16-bit colour by dropping the low byte and floating-point colour not at all.
    if data.startswith(_TIFF_STARTS):
        return _open_tiff(data, most_pixels)
    return _open_other(data, shorter_side_px, most_pixels)


def _refuse_many_pixels(width: int, height: int, most_pixels: int | None) -> None:
    if most_pixels is not None and width * height > most_pixels:
        raise InputError(
            f"has {width * height / 1e6:.1f} megapixels ({width} x {height}), and at most {most_pixels / 1e6:g} are "
            "taken: make it smaller first"
        )


def _open_other(data: bytes, shorter_side_px: int | None, most_pixels: int | None) -> Image.Image:
    try:
        image = Image.open(BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError:
        if most_pixels is None:
            raise
        raise InputError("is far larger than a photo is") from None
    _refuse_many_pixels(*image.size, most_pixels)
    # MPO is the JPEG of many phones: a second picture follows the first, and the first counts.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise InputError("is an animation; a single picture is expected")
    if shorter_side_px is not None:
        image.draft(None, (shorter_side_px, shorter_side_px))  # of no effect on other formats
    image.load()
    bit_depth_at = 24  # in a PNG's header
    if image.format != "PNG" or data[bit_depth_at] != 16:
        return image
    deep = _from_samples(_decode_deep(data))
    deep.info |= {name: image.info[name] for name in ("icc_profile", "exif", "dpi") if name in image.info}
    deep.format = "PNG"
    if ExifTags.Base.Orientation in image.getexif():  # which may stand elsewhere than in `info`
        deep.getexif()[ExifTags.Base.Orientation] = image.getexif()[ExifTags.Base.Orientation]
    return deep


def _open_tiff(data: bytes, most_pixels: int | None) -> Image.Image:
    tags: Any = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if data[2:3] == b"+" or data[3:4] == b"+" else 8])
    stream = BytesIO(data)
    start = stream.seek(tags.next)
    tags.load(stream)
    width, height = (tags.get(tag, 0) for tag in (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH))
    if type(width) is not int or type(height) is not int:
        raise InputError("is damaged or cut off: its size is no whole number")
    _refuse_many_pixels(width, height, most_pixels)
    bits = set(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    if max(bits) <= 8:
        shallow = Image.open(stream, formats=("TIFF",))
        shallow.load()
        return shallow
    if not (width > 0 < height) or _has_a_tag_twice(data, start):
        raise InputError("is damaged or cut off: its size is not to be told")  # OpenCV would know another
    if Image.MAX_IMAGE_PIXELS is not None and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"{width * height} pixels")
    black_is_zero, rgb, contiguous, straight_alpha = 1, 2, 1, 2
    sample_format = {16: 1, 32: 3, 64: 3}  # unsigned integers at 16 bits, floating point above
    understood = (
        len(bits) == 1
        and set(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))) == {sample_format.get(max(bits))}
        and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) in (black_is_zero, rgb)
        and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, contiguous) == contiguous
        and tuple(tags.get(TiffImagePlugin.EXTRASAMPLES, ())) in ((), (straight_alpha,))
    )
    samples = _decode_deep(data) if understood else None
    if samples is None or samples.dtype == np.uint8:  # OpenCV falls back to 8 bits on layouts it does not know
        raise InputError(
            f"is a {max(bits)}-bit TIFF of a kind that is not read: save it as RGB or grey, 16-bit unsigned or"
            " floating point, channels interleaved"
        )
    image = _from_samples(samples)  # upright already: OpenCV turns a TIFF as its orientation says
    image.format = "TIFF"
    if TiffImagePlugin.ICCPROFILE in tags:
        image.info["icc_profile"] = tags[TiffImagePlugin.ICCPROFILE]
    return image


def _has_a_tag_twice(data: bytes, start: int) -> bool:
    """Whether a TIFF's directory does: of two Pillow takes the last, and OpenCV the first."""
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    is_big_tiff = 43 in data[2:4]
    count_bytes, entry_bytes = (8, 20) if is_big_tiff else (2, 12)
    count = int.from_bytes(data[start : start + count_bytes], order)
    entries = data[start + count_bytes :][: count * entry_bytes]
    numbers = [entries[at : at + 2] for at in range(0, len(entries), entry_bytes)]
    return len(set(numbers)) < len(numbers)


def _decode_deep(data: bytes) -> npt.NDArray[Any]:
    spoken = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it would print, and we raise
    try:
        samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(spoken)
    if samples is None:
        raise InputError("is damaged or cut off")
    return samples


def _from_samples(samples: npt.NDArray[Any]) -> Image.Image:
    """8 bits of 16-bit or floating-point samples (H, W) or (H, W, 3 or 4) in OpenCV's order: blue, green, red."""
    if samples.dtype == np.uint16:
        # round(v / 257) in integers
        eight_bit = ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    else:
        if not (np.isfinite(samples).all() and samples.min() >= 0 and samples.max() <= 1):
            raise InputError("has floating-point samples outside [0, 1], whose white is unknown")
        eight_bit = np.rint(samples * 255).astype(np.uint8)
    if eight_bit.ndim == 3:
        eight_bit = eight_bit[..., [2, 1, 0, 3][: eight_bit.shape[-1]]]
    image = Image.fromarray(np.ascontiguousarray(eight_bit))
    image.info[STORED_BITS] = samples.itemsize * 8
    return image


def _to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    if image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    if not icc_profile:
        return image if image.mode == "RGB" else image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc_profile))
        colour_space = {"GRAY": "L"}.get(space := profile.profile.xcolor_space.strip(), space)
        if colour_space != image.mode or "sRGB" in (profile.profile.profile_description or ""):
            return image.convert("RGB")
        converted = ImageCms.profileToProfile(image, profile, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image.convert("RGB")
    assert converted is not None  # it is None only for conversions in place
    return converted


def _pixels(image: Image.Image) -> UInt8Array:
    """`np.array` of an RGB picture, strip by strip.

    Pillow copies what it is asked for several times. Of 3000 x 2000 pixels that takes longer than to decode them, as
    the system has to find new memory for each copy; strips fit into the memory of the strip before.
    """
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels
