"""Read binary images: masks and edge maps."""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src.common.errors import InputError
from src.image_files.decoding import decode_pil, name_file_in_errors, read_pil
from src.image_files.reading import UInt8Array, to_upright

SOFT_LIMIT = 0.1
"""Largest fraction of pixels of a mask in neither black, white nor even colour; images of scenes far exceed it."""

Hole = Literal["white", "black", "transparent"]
"""How mask files show the hole."""

HOLES = ("white", "black", "transparent")

_FAINT = 32
"""Levels below this, next to white areas, may be compression noise."""

_INVISIBLE = 3
"""JPEGs may change a level by less than this everywhere."""

_FEW_LEVELS = 16
"""Images with more grey levels between black and white may show scenes, be blurred, or have compression noise."""

_WINDOW = np.ones((3, 3), np.uint8)


def read_mask(path: Path, hole: Hole = "white", max_pixels: int | None = None) -> UInt8Array:
    """Read a mask file, in any format and bit depth of `read_image`.

    With `hole="white"`, the known region is black, and areas of every other colour are hole: white, grey levels, label
    values such as 1 and 2, and the colours of segmentation masks. With "black", the known region is white. The grey of
    antialiased, blurred or JPEG-compressed borders is thresholded halfway between the region and the hole.
    With "transparent", the hole is where alpha is below 128, and colours are ignored.

    Args:
        max_pixels: as in `decode_pil`.
    Shapes:
        Returns (H, W) uint8, 1 = known, 0 = hole.
    Raises:
        InputError: as in `read_image`, or the file is not a mask; the message lists colours that can't be assigned.
    """
    _require_choice("hole", hole, HOLES)  # before the file, whose name would begin the message
    with name_file_in_errors(path):
        return to_mask_array(read_pil(path, max_pixels=max_pixels, keep_labels=True), hole)


def decode_mask(content: bytes, name: str, hole: Hole = "white", max_pixels: int | None = None) -> UInt8Array:
    """Decode the content of a mask file in memory, as `read_mask` does; `name` is for messages."""
    _require_choice("hole", hole, HOLES)
    with name_file_in_errors(name):
        return to_mask_array(decode_pil(content, max_pixels=max_pixels, keep_labels=True), hole)


def to_mask_array(image: Image.Image, hole: Hole = "white") -> UInt8Array:
    """Convert an 8-bit image to a mask, as described in `read_mask`."""
    _require_choice("hole", hole, HOLES)
    is_jpeg = image.format in ("JPEG", "MPO")
    image = to_upright(image)
    alpha = np.asarray(image.convert("RGBA").getchannel("A")) if image.has_transparency_data else None
    if hole == "transparent":
        if alpha is None:
            raise InputError("has no transparency, so hole=transparent finds no hole: use hole=white or hole=black")
        return (alpha >= 128).astype(np.uint8)
    if alpha is not None and alpha.min() < 255:
        raise InputError(
            "has transparent pixels: use hole=transparent if they are the hole, otherwise save the mask without "
            "transparency"
        )
    # By channel: reducing a trailing axis of 3 is several times slower in NumPy, and folders hold thousands of masks.
    planes = [np.asarray(plane) for plane in (image if image.mode == "L" else image.convert("RGB")).split()]
    darkest, brightest = np.minimum.reduce(planes), np.maximum.reduce(planes)
    is_grey = np.array_equal(darkest, brightest)
    if is_grey and len(levels := np.flatnonzero(_histogram(brightest))) == 2 and levels[0] == 0:
        brightest = darkest = np.where(brightest > 0, np.uint8(255), np.uint8(0))  # for example 0 and 1
    # The distance from the colour of the known region, and from its opposite.
    level, rest = (brightest, 255 - darkest) if hole == "white" else (255 - darkest, brightest)
    if 0 < (base := _known_level(level, is_jpeg)) < 64:  # for example 16, the black of videos
        level = np.maximum(level, np.uint8(base)) - np.uint8(base)
    if is_jpeg:
        _require_no_faint_labels(level)
    is_hole, soft = np.zeros(level.shape, np.bool_), np.zeros(level.shape, np.bool_)
    left, top, width, height = cv2.boundingRect(level)
    box = (slice(max(0, top - 2), top + height + 2), slice(max(0, left - 2), left + width + 2))
    is_hole[box], soft[box] = _find_hole(np.ascontiguousarray(level[box]), is_jpeg)
    soft &= rest > 63
    if (soft_ratio := float(soft.mean())) > SOFT_LIMIT:
        raise InputError(
            f"is not a mask: {soft_ratio:.0%} of its pixels are neither black nor white nor of one even colour (the "
            f"limit is {SOFT_LIMIT:.0%}); it has {_name_colours(planes, soft)}"
        )
    if is_hole.all() and (rest > 63).any():
        known = "black" if hole == "white" else "white"
        raise InputError(f"has no {known} pixels, so nothing is known; it has {_name_colours(planes, is_hole)}")
    return (~is_hole).astype(np.uint8)


def _find_hole(level: UInt8Array, is_jpeg: bool) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pixels are hole, and which belong to neither an even area nor the known region."""
    counts = _histogram(level)
    distinct = np.count_nonzero(counts[1:255])
    if distinct == 0:
        return level >= 128, np.zeros(level.shape, np.bool_)
    spread = _spread(level)
    even = cv2.dilate((spread == 0).astype(np.uint8), _WINDOW) > 0
    steps = spread[(level > 0) & (level < 255)]
    if distinct > _FEW_LEVELS and (steps > 0).mean() > 0.25 and np.median(steps[steps > 0]) <= 2:
        even[:] = False  # a gradient or a strongly blurred mask: every level fills small areas
    even_counts = _histogram(level, even)
    labels = np.flatnonzero((even_counts > 0) & (even_counts >= counts / 2))
    is_noisy = is_jpeg or (distinct > _FEW_LEVELS and even_counts[1:255].sum() < 0.7 * counts[1:255].sum())
    top = int(level.max())
    lowest = min((int(label) for label in labels if label >= (_FAINT if is_noisy else 1)), default=top)
    threshold = max(_FAINT // 2 if is_jpeg else 1, (min(lowest, 255) + 1) // 2)
    is_hole = level >= threshold
    # Thin objects of a fainter colour than the others, which have no even area.
    is_hole |= _components_without(is_hole, level >= (_FAINT if top >= 128 or is_jpeg else 1))
    return is_hole, ~even & (level >= threshold / 2)


def _require_no_faint_labels(level: UInt8Array) -> None:
    """Raise InputError if a JPEG has faint areas; a blurred mask may have some around its brighter ones."""
    spread = _spread(level)
    faint, is_blurred = level >= _INVISIBLE, 8 * int(spread.max()) < 3 * int(level.max())
    counts = _histogram(
        level, (_components_without(level >= 2 * _FAINT, faint) if is_blurred else faint) & (spread == 0)
    )
    if counts[:_FAINT].any() or 0 < level.max() < _FAINT:
        difference = counts[:_FAINT].argmax() or level.max()
        raise InputError(
            f"is a JPEG with areas that differ from the known region by only {difference} of 255 levels, which "
            "compression changes: save the mask as PNG"
        )


def _components_without(bright: NDArray[np.bool_], where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the connected components of `where` that have no bright pixel."""
    _, objects = cv2.connectedComponents(where.astype(np.uint8))
    has_bright = np.zeros(objects.max() + 1, np.bool_)
    has_bright[objects[bright]] = True
    return np.asarray((objects > 0) & ~has_bright[objects])


def _known_level(level: UInt8Array, is_jpeg: bool) -> int:
    """Return the lowest level; in a JPEG that of an even area, as noise of compression is lower."""
    lowest = level[_spread(level) == 0] if is_jpeg else level
    return int(lowest.min()) if lowest.size else 0


def _spread(level: UInt8Array) -> UInt8Array:
    """Return the difference between the highest and the lowest level around each pixel."""
    return np.asarray(cv2.subtract(cv2.dilate(level, _WINDOW), cv2.erode(level, _WINDOW)), np.uint8)


def _histogram(plane: UInt8Array, where: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    chosen = None if where is None else where.astype(np.uint8)
    return np.asarray(cv2.calcHist([plane], [0], chosen, [256], [0, 256]), np.float32).ravel()


def _name_colours(planes: list[UInt8Array], where: NDArray[np.bool_], count: int = 5) -> str:
    """Describe the most frequent colours of some pixels, sampled if there are many."""
    pixels = np.stack([plane[where] for plane in planes], axis=1)
    colours, counts = np.unique(pixels[:: 1 + len(pixels) // 100_000], axis=0, return_counts=True)
    common = [colours[i].tolist() for i in np.argsort(-counts, kind="stable")[:count]]
    named = ", ".join(
        str(colour[0]) if len(set(colour)) == 1 else "rgb({}, {}, {})".format(*colour) for colour in common
    )
    more = f" and {len(colours) - count} more" if len(colours) > count else ""
    return f"the colour{'s' if len(colours) > 1 else ''} {named}{more}"


def read_edges(path: Path, lines: Literal["white", "black"] = "white", max_pixels: int | None = None) -> UInt8Array:
    """Read an edge map or a sketch, in any format and bit depth of `read_image`; grey is thresholded at 128.

    Transparent pixels contain no line, as in a sketch on a separate layer.

    Shapes:
        Returns (H, W) uint8, 1 on a line, 0 elsewhere.
    """
    _require_choice("lines", lines, HOLES[:2])
    with name_file_in_errors(path):
        return to_edge_array(read_pil(path, max_pixels=max_pixels), lines)


def to_edge_array(image: Image.Image, lines: Literal["white", "black"] = "white") -> UInt8Array:
    """Convert an 8-bit image to edges, as described in `read_edges`."""
    _require_choice("lines", lines, HOLES[:2])
    image = to_upright(image).convert("RGBA")
    background = Image.new("RGBA", image.size, "black" if lines == "white" else "white")
    white = np.array(Image.alpha_composite(background, image).convert("L")) >= 128
    return (white if lines == "white" else ~white).astype(np.uint8)


def _require_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        listed = f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"
        raise InputError(f"{option} must be {listed}, got {value!r}")
