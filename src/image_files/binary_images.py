"""Read binary images: masks and edge maps."""

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from src.common.errors import InputError
from src.image_files.decoding import name_file_in_errors, read_pil
from src.image_files.reading import UInt8Array, to_upright

MIDTONE_LIMIT = 0.1
"""Largest fraction of grey pixels in a mask: antialiased borders stay below it, photographs far exceed it."""


def read_mask(path: Path, hole: Literal["white", "black"] = "white") -> UInt8Array:
    """Read a black-and-white mask file, in any format and bit depth of `read_image`; grey is thresholded at 128.

    Files with transparent pixels are rejected, because the hole could be the transparent or the painted part.

    Shapes:
        Returns (H, W) uint8, 1 = known, 0 = hole.
    Raises:
        InputError: as in `read_image`, or the file is not black and white.
    """
    _require_colour("hole", hole)  # before the file, whose name would begin the message
    with name_file_in_errors(path):
        return to_mask_array(read_pil(path), hole)


def to_mask_array(image: Image.Image, hole: Literal["white", "black"] = "white") -> UInt8Array:
    """Convert an 8-bit image to a mask, as described in `read_mask`."""
    _require_colour("hole", hole)
    image = to_upright(image)
    if image.has_transparency_data and np.array(image.convert("RGBA").getchannel("A")).min() < 255:
        raise InputError("has transparent pixels: save the mask in black and white without transparency")
    # By channel: reducing a trailing axis of 3 is several times slower in NumPy, and folders hold thousands of masks.
    planes = [np.asarray(plane) for plane in (image if image.mode == "L" else image.convert("RGB")).split()]
    darkest, brightest = np.minimum.reduce(planes), np.maximum.reduce(planes)
    if brightest.max() == 1:
        raise InputError("has the pixel values 0 and 1, which are both black: save the mask with 0 and 255")
    midtone_ratio = float(((brightest >= 64) & (darkest < 192)).mean())
    if midtone_ratio > MIDTONE_LIMIT:
        raise InputError(
            f"is not a mask: {midtone_ratio:.0%} of its pixels are neither black nor white"
            f" (the limit is {MIDTONE_LIMIT:.0%})"
        )
    white = np.array(image.convert("L")) >= 128
    return (white if hole == "black" else ~white).astype(np.uint8)


def read_edges(path: Path, lines: Literal["white", "black"] = "white") -> UInt8Array:
    """Read an edge map or a sketch, in any format and bit depth of `read_image`; grey is thresholded at 128.

    Transparent pixels contain no line, as in a sketch on a separate layer.

    Shapes:
        Returns (H, W) uint8, 1 on a line, 0 elsewhere.
    """
    _require_colour("lines", lines)
    with name_file_in_errors(path):
        return to_edge_array(read_pil(path), lines)


def to_edge_array(image: Image.Image, lines: Literal["white", "black"] = "white") -> UInt8Array:
    """Convert an 8-bit image to edges, as described in `read_edges`."""
    _require_colour("lines", lines)
    image = to_upright(image).convert("RGBA")
    background = Image.new("RGBA", image.size, "black" if lines == "white" else "white")
    white = np.array(Image.alpha_composite(background, image).convert("L")) >= 128
    return (white if lines == "white" else ~white).astype(np.uint8)


def _require_colour(option: str, colour: str) -> None:
    if colour not in ("white", "black"):
        raise InputError(f"{option} must be 'white' or 'black', got {colour!r}")
