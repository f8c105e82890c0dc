"""Decode image files to 8-bit PIL images, or raise InputError with the file's name and the reason."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from src.common.errors import InputError

STORED_BITS = "stored_bits"
"""Key in the `info` of an image whose file has more than 8 bits per channel: the number of bits."""

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@contextmanager
def name_file_in_errors(path: Path | str) -> Iterator[None]:
    """Turn every error of decoding and colour conversion into an InputError that begins with the file's name."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except UnidentifiedImageError:
        reason = "is not a PNG, JPEG, WebP, BMP or TIFF image, or its header is corrupt or truncated"
        raise InputError(f"{path}: {reason}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path}: is too large: {error}") from None
    except Exception as error:  # decoders raise almost any type on corrupt data
        if "MAX_TEXT" in str(error):  # Pillow's limit for compressed text and colour profiles
            raise InputError(f"{path}: its text or colour profile decompresses to an implausible size") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: is corrupt or truncated: {reason}") from error


def read_pil(path: Path, shorter_side_px: int | None = None) -> Image.Image:
    """Read a file as an 8-bit image, as stored; see `decode_pil`."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError("file not found") from None
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}") from error
    return decode_pil(data, shorter_side_px)


def decode_pil(data: bytes, shorter_side_px: int | None = None, max_pixels: int | None = None) -> Image.Image:
    """Decode the content of a file to an 8-bit image, as stored; its `info` includes the colour profile.

    Args:
        shorter_side_px: a JPEG may be decoded at a reduced scale if its shorter side stays at least this long.
        max_pixels: images with more pixels are rejected from their header, without decoding.
    """
    if not data:
        raise InputError("is empty")
    if data.startswith(_TIFF_STARTS):
        return _open_tiff(data, max_pixels)
    return _open_other(data, shorter_side_px, max_pixels)


def _require_max_pixels(width: int, height: int, max_pixels: int | None) -> None:
    if max_pixels is not None and width * height > max_pixels:
        raise InputError(
            f"has {width * height / 1e6:.1f} megapixels ({width}x{height}), above the limit of {max_pixels / 1e6:g}: "
            "resize it first"
        )


def _open_other(data: bytes, shorter_side_px: int | None, max_pixels: int | None) -> Image.Image:
    try:
        image = Image.open(BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError:
        if max_pixels is None:
            raise
        raise InputError(f"is far above the limit of {max_pixels / 1e6:g} megapixels: resize it first") from None
    _require_max_pixels(*image.size, max_pixels)
    # MPO, which many phones write, is a JPEG followed by further images; the first one is the photograph.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise InputError("is an animation: a single image is expected")
    if shorter_side_px is not None:
        image.draft(None, (shorter_side_px, shorter_side_px))  # no effect on other formats
    image.load()
    bit_depth_offset = 24  # in the header of a PNG
    if image.format != "PNG" or data[bit_depth_offset] != 16:
        return image
    # Pillow drops the low byte of 16-bit colour, and cannot read floating-point colour.
    deep = _from_samples(_decode_deep(data))
    deep.info |= {name: image.info[name] for name in ("icc_profile", "exif", "dpi") if name in image.info}
    deep.format = "PNG"
    if ExifTags.Base.Orientation in image.getexif():  # not necessarily stored in `info`
        deep.getexif()[ExifTags.Base.Orientation] = image.getexif()[ExifTags.Base.Orientation]
    return deep


def _open_tiff(data: bytes, max_pixels: int | None) -> Image.Image:
    is_big_tiff = 43 in data[2:4]
    tags: Any = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if is_big_tiff else 8])
    stream = BytesIO(data)
    start = stream.seek(tags.next)
    tags.load(stream)
    width, height = (tags.get(tag, 0) for tag in (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH))
    if type(width) is not int or type(height) is not int:
        raise InputError("is corrupt or truncated: its size is not an integer")
    _require_max_pixels(width, height, max_pixels)
    bits = set(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    if max(bits) <= 8:
        shallow = Image.open(stream, formats=("TIFF",))
        shallow.load()
        return shallow
    count_bytes, entry_bytes = (8, 20) if is_big_tiff else (2, 12)
    count = int.from_bytes(data[start : start + count_bytes], "little" if data.startswith(b"II") else "big")
    entries = data[start + count_bytes :][: count * entry_bytes]
    numbers = [entries[at : at + 2] for at in range(0, len(entries), entry_bytes)]
    # Of a repeated tag Pillow reads the last one, OpenCV the first.
    if not (width > 0 < height) or len(set(numbers)) < len(numbers):
        raise InputError("is corrupt or truncated: its size is ambiguous")
    if Image.MAX_IMAGE_PIXELS is not None and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"{width * height} pixels")
    black_is_zero, rgb, contiguous, straight_alpha = 1, 2, 1, 2
    sample_format = {16: 1, 32: 3, 64: 3}  # unsigned integers at 16 bits, floating point above
    supported = (
        len(bits) == 1
        and set(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))) == {sample_format.get(max(bits))}
        and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) in (black_is_zero, rgb)
        and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, contiguous) == contiguous
        and tuple(tags.get(TiffImagePlugin.EXTRASAMPLES, ())) in ((), (straight_alpha,))
    )
    samples = _decode_deep(data) if supported else None
    if samples is None or samples.dtype == np.uint8:  # OpenCV falls back to 8 bits for unknown layouts
        raise InputError(
            f"is an unsupported {max(bits)}-bit TIFF: save it as RGB or grey with 16-bit unsigned or floating-point"
            " samples and interleaved channels"
        )
    image = _from_samples(samples)  # upright: OpenCV applies the orientation of a TIFF
    image.format = "TIFF"
    if TiffImagePlugin.ICCPROFILE in tags:
        image.info["icc_profile"] = tags[TiffImagePlugin.ICCPROFILE]
    return image


def _decode_deep(data: bytes) -> npt.NDArray[Any]:
    log_level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # OpenCV prints errors, which are raised below
    try:
        samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(log_level)
    if samples is None:
        raise InputError("is corrupt or truncated")
    return samples


def uint16_to_uint8(samples: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Return v / 257, rounded."""
    return ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _from_samples(samples: npt.NDArray[Any]) -> Image.Image:
    """Convert 16-bit or floating-point samples (H, W) or (H, W, 3 or 4) in OpenCV's BGR order to 8 bits."""
    if samples.dtype == np.uint16:
        eight_bit = uint16_to_uint8(samples)
    else:
        if not (np.isfinite(samples).all() and samples.min() >= 0 and samples.max() <= 1):
            raise InputError("has floating-point samples outside [0, 1], so white is undefined: rescale it to [0, 1]")
        eight_bit = np.rint(samples * 255).astype(np.uint8)
    if eight_bit.ndim == 3:
        eight_bit = eight_bit[..., [2, 1, 0, 3][: eight_bit.shape[-1]]]
    image = Image.fromarray(np.ascontiguousarray(eight_bit))
    image.info[STORED_BITS] = samples.itemsize * 8
    return image
