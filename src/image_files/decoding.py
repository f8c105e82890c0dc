"""Decode image files to 8-bit PIL images, or raise InputError with the file's name and the reason."""

import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError, features

from src.common.errors import InputError
from src.common.regular_files import is_pipe_or_device

STORED_BITS = "stored_bits"
"""Key in the `info` of an image whose file has more than 8 bits per channel: the number of bits."""

MAX_PIXELS = 256_000_000
"""Default limit of the number of pixels, above the 200 megapixels of phones; as 32-bit floats they take 3 GB."""

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit can't be raised for single files; `MAX_PIXELS` replaces it

HAS_HEIF = find_spec("pillow_heif") is not None
"""Whether the extra for HEIF, the images of phones, is installed."""

FORMATS = (
    *("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"),
    *(["AVIF"] if features.check("avif") else []),
    *(["HEIF"] if HAS_HEIF else []),
)
"""Pillow's names of the formats that are read."""

_NOTES = "notes"
"""Key in the `info` of an image: messages about parts of the file that are not read."""

_MAX_PROFILE_BYTES = 2**24

_NEW_SUBFILE_TYPE = 254

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

log = logging.getLogger(__name__)


@contextmanager
def name_file_in_errors(path: Path | str) -> Iterator[None]:
    """Turn every error of decoding and colour conversion into an InputError that begins with the file's name."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except UnidentifiedImageError:
        formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}".replace("WEBP", "WebP")
        reason = f"is not a {formats} image, or its header is corrupt or truncated"
        raise InputError(f"{path}: {reason}") from None
    except Exception as error:  # decoders raise almost any type on corrupt data
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: is corrupt or truncated: {reason}") from error


def read_pil(
    path: Path, shorter_side_px: int | None = None, *, max_pixels: int | None = None, keep_labels: bool = False
) -> Image.Image:
    """Read a file as an 8-bit image, as stored; see `decode_pil`. Parts of the file that are not read are logged."""
    try:
        if is_pipe_or_device(Path(path)):  # reading it may never end
            raise InputError("is a pipe or device, not a file")
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError("file not found") from None
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}") from error
    image = decode_pil(data, shorter_side_px, max_pixels=max_pixels, keep_labels=keep_labels)
    for note in image.info.pop(_NOTES, ()):
        _log_once(f"{path}: {note}")
    return image


@lru_cache(maxsize=10_000)
def _log_once(message: str) -> None:
    log.warning(message)


def decode_pil(
    data: bytes,
    shorter_side_px: int | None = None,
    *,
    max_pixels: int | None = None,
    keep_labels: bool = False,
) -> Image.Image:
    """Decode the content of a file to an 8-bit image, as stored; its `info` includes the colour profile.

    Args:
        shorter_side_px: a JPEG may be decoded at a reduced scale if its shorter side stays at least this long.
        max_pixels: images with more pixels are rejected from their header, without decoding; None for `MAX_PIXELS`.
        keep_labels: convert samples of more than 8 bits so that only 0 becomes 0.
    """
    max_pixels = MAX_PIXELS if max_pixels is None else max_pixels
    if not data:
        raise InputError("is empty")
    if data.startswith(_TIFF_STARTS):
        return _open_tiff(data, max_pixels, keep_labels)
    return _open_other(data, shorter_side_px, max_pixels, keep_labels)


def _require_max_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise InputError(
            f"is too large: it has {width * height / 1e6:.1f} megapixels ({width}x{height}), above the limit of "
            f"{max_pixels / 1e6:g}: resize it first, or raise max_megapixels"
        )


def _open_other(data: bytes, shorter_side_px: int | None, max_pixels: int, keep_labels: bool) -> Image.Image:
    try:
        image = _load(data, shorter_side_px, max_pixels)
    except ValueError as error:
        if "MAX_TEXT" not in str(error):  # Pillow's limit for compressed text and colour profiles
            raise
        data, found = _remove_text(data)
        image = _load(data, shorter_side_px, max_pixels)
        image.info.update(found)
    bit_depth_offset = 24  # in the header of a PNG
    if image.format != "PNG" or data[bit_depth_offset] != 16:
        return image
    # Pillow drops the low byte of 16-bit colour, and cannot read floating-point colour.
    deep = _from_samples(_decode_deep(data), keep_labels)
    deep.info |= {name: image.info[name] for name in ("icc_profile", "exif", "dpi", _NOTES) if name in image.info}
    deep.format = "PNG"
    if ExifTags.Base.Orientation in image.getexif():  # not necessarily stored in `info`
        deep.getexif()[ExifTags.Base.Orientation] = image.getexif()[ExifTags.Base.Orientation]
    return deep


def _load(data: bytes, shorter_side_px: int | None, max_pixels: int) -> Image.Image:
    if HAS_HEIF:
        _register_heif()
    image = Image.open(BytesIO(data), formats=FORMATS)
    _require_max_pixels(*image.size, max_pixels)
    # Files of phones may contain further images, MPO being a JPEG with some; the first one is the photograph.
    if getattr(image, "is_animated", False) and image.format not in ("MPO", "HEIF"):
        raise InputError("is an animation: a single image is expected")
    if shorter_side_px is not None:
        image.draft(None, (shorter_side_px, shorter_side_px))  # no effect on other formats
    image.load()
    return image


@cache  # on the first image, as most imports of this file read none
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)


def _remove_text(png: bytes) -> tuple[bytes, Any]:
    """Return a PNG without its text and colour profile, and an `info` with the profile and notes on what is lost."""
    kept, profile, at = [png[:8]], b"", 8
    notes: dict[str, None] = {}  # in order, without repetitions
    while at < len(png):
        length, name = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        body, end = at + 8, at + 12 + length
        if name in (b"tEXt", b"zTXt", b"iTXt"):
            notes["its text, which is too long, is left out"] = None
        elif name == b"iCCP":
            unpacking = zlib.decompressobj()
            profile = unpacking.decompress(png[body : end - 4].partition(b"\0")[2][1:], _MAX_PROFILE_BYTES)
            if not unpacking.eof:
                profile = b""
                notes["its colour profile, which is too large, is left out"] = None
        else:
            kept.append(png[at:end])
        at = end
    return b"".join(kept), {_NOTES: tuple(notes)} | ({"icc_profile": profile} if profile else {})


def _open_tiff(data: bytes, max_pixels: int, keep_labels: bool) -> Image.Image:
    is_big_tiff = 43 in data[2:4]
    tags: Any = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if is_big_tiff else 8])
    start, page_count = _find_page(tags, data)
    data = _move_first(data, start, is_big_tiff)
    stream = BytesIO(data)
    stream.seek(start)
    tags.load(stream)
    notes: Any = {_NOTES: (f"has {page_count} pages, of which only the first is read",)} if page_count > 1 else {}
    width, height = (tags.get(tag, 0) for tag in (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH))
    if type(width) is not int or type(height) is not int:
        raise InputError("is corrupt or truncated: its size is not an integer")
    _require_max_pixels(width, height, max_pixels)
    bits = set(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    if max(bits) <= 8:
        shallow = Image.open(stream, formats=("TIFF",))
        shallow.load()
        shallow.info.update(notes)
        return shallow
    count_bytes, entry_bytes = (8, 20) if is_big_tiff else (2, 12)
    count = int.from_bytes(data[start : start + count_bytes], "little" if data.startswith(b"II") else "big")
    entries = data[start + count_bytes :][: count * entry_bytes]
    numbers = [entries[at : at + 2] for at in range(0, len(entries), entry_bytes)]
    # Of a repeated tag Pillow reads the last one, OpenCV the first.
    if not (width > 0 < height) or len(set(numbers)) < len(numbers):
        raise InputError("is corrupt or truncated: its size is ambiguous")
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
    image = _from_samples(samples, keep_labels)  # upright: OpenCV applies the orientation of a TIFF
    image.info.update(notes)
    image.format = "TIFF"
    if TiffImagePlugin.ICCPROFILE in tags:
        image.info["icc_profile"] = tags[TiffImagePlugin.ICCPROFILE]
    return image


def _find_page(tags: Any, data: bytes) -> tuple[int, int]:
    """Return the offset of the page that viewers show, the first one of full size, and the number of such pages."""
    reduced_or_mask = 1 | 4  # bits of NewSubfileType
    first, full_size, seen = tags.next, [], set()
    stream = BytesIO(data)
    while tags.next and tags.next not in seen:
        seen.add(start := stream.seek(tags.next))
        try:
            tags.load(stream)
            if start == first or TiffImagePlugin.IMAGEWIDTH in tags:
                full_size += [start] if not tags.get(_NEW_SUBFILE_TYPE, 0) & reduced_or_mask else []
        except Exception:
            if start == first:
                raise
            break  # of corrupt pages behind the first only the first matters
    return (full_size or [first])[0], len(full_size)


def _move_first(data: bytes, start: int, is_big_tiff: bool) -> bytes:
    """Make a page of a TIFF its first one, as decoders read the first."""
    at = slice(8, 16) if is_big_tiff else slice(4, 8)
    offset = start.to_bytes(at.stop - at.start, "little" if data.startswith(b"II") else "big")
    return data if data[at] == offset else data[: at.start] + offset + data[at.stop :]


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


def uint16_to_uint8(samples: npt.NDArray[np.uint16], keep_labels: bool = False) -> npt.NDArray[np.uint8]:
    """Return v / 257, rounded; with `keep_labels`, at least 1 for v > 0."""
    rounded = ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return np.maximum(rounded, samples > 0) if keep_labels else rounded


def _from_samples(samples: npt.NDArray[Any], keep_labels: bool) -> Image.Image:
    """Convert 16-bit or floating-point samples (H, W) or (H, W, 3 or 4) in OpenCV's BGR order to 8 bits."""
    if samples.dtype == np.uint16:
        eight_bit = uint16_to_uint8(samples, keep_labels)
    else:
        if not (np.isfinite(samples).all() and samples.min() >= 0 and samples.max() <= 1):
            raise InputError("has floating-point samples outside [0, 1], so white is undefined: rescale it to [0, 1]")
        eight_bit = np.rint(samples * 255).astype(np.uint8)
    if eight_bit.ndim == 3:
        eight_bit = eight_bit[..., [2, 1, 0, 3][: eight_bit.shape[-1]]]
    image = Image.fromarray(np.ascontiguousarray(eight_bit))
    image.info[STORED_BITS] = samples.itemsize * 8
    return image
