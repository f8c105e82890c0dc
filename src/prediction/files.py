"""Fill image files: read each, fill it with every method, and write the results, figures and comparison sheets."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from src.common.errors import IncompleteError, InputError
from src.image_files.binary_images import Hole, read_edges, read_mask
from src.image_files.reading import UInt8Array, read_stored, to_rgb_array
from src.image_files.source_pixels import upright_size
from src.image_files.writing import write_filled
from src.prediction.inpainter import Inpainter
from src.prediction.inputs import Colour
from src.prediction.matching import InputFiles
from src.prediction.outputs import OutputFiles
from src.prediction.sizes import Reduced
from src.rendering.grids import CaptionedImage, Grid, enlarge, hatch_hole, save_grid, save_sheet, to_rgb

MAX_HOLE_RATIO = 0.6
"""Hole ratio above which the mask may be inverted: the upper end of the last bin of the papers' protocols."""

MAX_LINE_RATIO = 0.5
"""Fraction of line pixels above which the edge map may be inverted."""

_OTHER = {"white": "black", "black": "white"}


def fill_files(
    inputs: Sequence[InputFiles],
    methods: Mapping[str, Inpainter],
    outputs: Sequence[OutputFiles],
    *,
    hole: Hole = "white",
    lines: Colour = "white",
    sheet_side_px: int = 512,
    max_pixels: int | None = None,
) -> list[Path]:
    """Fill every image with every method; an image that can't be filled is skipped. Warnings are printed to stderr.

    Args:
        methods: methods by name; edges are passed only to methods that take them.
        hole, lines: the hole in mask files, see `read_mask`, and the colour of the lines in edge files.
        sheet_side_px: longer side of the images on comparison sheets.
        max_pixels: limit of the images, see `decode_pil`.
    Returns:
        The filled files, image by image, in the order of the methods.
    Raises:
        IncompleteError: images were skipped; InputError, if there is only one image.
    """
    written: list[Path] = []
    skipped: list[str] = []
    rows: list[tuple[CaptionedImage, ...]] = []
    warned: set[str] = set()
    for i, (files, out) in enumerate(track(list(zip(inputs, outputs, strict=True)), description="filling")):
        try:
            image, known = _read_image_and_mask(files, hole, max_pixels)
            edge_map = None if files.edges is None else _read_edges(files.edges, lines, files.image, image, max_pixels)
            results = _fill(methods, image, known, edge_map, files, out, warned)
        except InputError as error:
            if len(inputs) == 1:
                raise
            skipped.append(str(error))
        else:
            written += out.filled.values()
            if out.sheet is not None:
                rows.append(make_sheet_row(files.label, image, known, results, sheet_side_px))
        if rows and (i + 1 == len(outputs) or outputs[i + 1].sheet != out.sheet):
            assert out.sheet is not None
            save_sheet(Grid(("input", *methods), tuple(rows)), out.sheet)
            rows.clear()
    if skipped:
        raise IncompleteError(f"filled {len(inputs) - len(skipped)} of {len(inputs)}", skipped)
    return written


def _fill(
    methods: Mapping[str, Inpainter],
    image: Image.Image,
    known: UInt8Array,
    edge_map: UInt8Array | None,
    files: InputFiles,
    out: OutputFiles,
    warned: set[str],
) -> dict[str, Image.Image]:
    """Fill one image with every method, write the results and figures, and return the results.

    Args:
        warned: methods that have met an unfamiliar image, of which only the first is reported; updated.
    """
    results = {}
    for name, method in methods.items():
        edges = edge_map if method.network.takes_edges else None
        unfamiliar: list[str] = []
        try:
            results[name] = method(image, known, edges, warn=unfamiliar.append)
            figures = method.draw_figures(image, known, edges) if out.figures else {}
        except InputError as error:
            raise InputError(f"{files.image}: {error}") from error
        for figure, grid in figures.items():
            save_grid(grid, out.figures[name][figure])
        if unfamiliar and name not in warned:
            warned.add(name)
            _warn(f"{files.image}: {unfamiliar[0]}: the result may be poor")
        for warning in write_filled(results[name], image, out.filled[name]):
            _warn(warning)
    return results


def make_sheet_row(
    label: str, image: Image.Image, known: UInt8Array, results: Mapping[str, Image.Image], side_px: int
) -> tuple[CaptionedImage, ...]:
    """Return the image with its hole hatched and the result of each method, upright, downscaled to `side_px`."""
    mask = torch.from_numpy(known)[None, None].float()

    def downscale(image: Image.Image, mask: Tensor) -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(to_rgb_array(image)).permute(2, 0, 1)[None].float() / 255
        small, small_mask, _ = Reduced(side_px).make_overview(pixels, mask, None)
        return enlarge(small[0]), enlarge(small_mask[0])

    hatched = CaptionedImage(to_rgb(hatch_hole(*downscale(image, mask))), f"{label}, hole {1 - known.mean():.0%}")
    shown = (downscale(result, torch.ones_like(mask))[0] for result in results.values())
    return hatched, *(CaptionedImage(to_rgb(result)) for result in shown)


def _read_image_and_mask(files: InputFiles, hole: Hole, max_pixels: int | None) -> tuple[Image.Image, UInt8Array]:
    image, known = read_stored(files.image, max_pixels), read_mask(files.mask, hole, max_pixels)
    _require_same_size(files.mask, known, files.image, image)
    ratio = 1 - known.mean()
    if ratio == 0:
        _warn(f"{files.mask} has no {hole} pixels, so {files.image} has no hole and stays unchanged")
    elif ratio > MAX_HOLE_RATIO:
        inverse = f"; if the mask is inverted, pass hole={_OTHER[hole]}" if hole in _OTHER else ""
        _warn(f"{files.mask}: the hole ({hole}) is {ratio:.1%} of the image{inverse}")
    return image, known


def _read_edges(path: Path, lines: Colour, image_path: Path, image: Image.Image, max_pixels: int | None) -> UInt8Array:
    edges = read_edges(path, lines, max_pixels)
    _require_same_size(path, edges, image_path, image)
    if edges.mean() > MAX_LINE_RATIO:
        inverse = f"if it is inverted, pass lines={_OTHER[lines]}"
        _warn(f"{path}: {edges.mean():.1%} of the pixels are lines ({lines}); {inverse}")
    return edges


def _require_same_size(path: Path, plane: UInt8Array, image_path: Path, image: Image.Image) -> None:
    (height, width), (image_height, image_width) = plane.shape, upright_size(image)
    if (height, width) != (image_height, image_width):
        raise InputError(
            f"{path} is {width}x{height} but {image_path} is {image_width}x{image_height} (width x height): resize one "
            "of them"
        )


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
