"""Filling pictures that are files, one after the other: read, asked about, filled by each method, written."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.progress import track

from src.common.errors import InputError
from src.image_files.binary_images import read_edges, read_mask
from src.image_files.reading import UInt8Array, read_stored
from src.image_files.source_pixels import upright_size
from src.image_files.writing import write_filled
from src.prediction.inpainter import Inpainter
from src.prediction.inputs import Colour
from src.prediction.matching import paired, pictures_at, told_apart
from src.prediction.output_paths import figure_path, labels
from src.prediction.sheets import Sheets, sheet_row
from src.rendering.grids import save_grid

MOSTLY_HOLE = 0.6
"""Above this hole ratio, the last bin of the papers' protocols, the polarity is worth a question."""

MOSTLY_LINES = 0.5
"""Above this share of lines, the colour of a sketch's lines is worth a question."""


@dataclass(frozen=True)
class Files:
    """A picture with its mask and, where they are drawn, its edges.

    Attributes:
        label: what files beside it are called after.
    """

    image: Path
    mask: Path
    edges: Path | None
    label: str

    def __iter__(self) -> Iterator[Path]:
        """All of them."""
        yield from (self.image, self.mask, *([] if self.edges is None else [self.edges]))


def find_files(image: str, mask: str, edges: str | None, *, one_mask_for_all: bool) -> list[Files]:
    """What belongs together of three files, folders or patterns, which may be one folder.

    Raises:
        InputError: there is none, or a picture lacks its mask or its edges.
    """
    images, masks = told_apart(pictures_at(image, "image"), pictures_at(mask, "mask"), "mask")
    drawn = [] if edges is None else pictures_at(edges, "edges")
    images, drawn = told_apart(images, drawn, "edges")
    mask_of = dict(paired(images, masks, "mask", one_mask_for_all))
    edges_of = dict(paired(images, drawn, "edges")) if edges is not None else {}
    return [
        Files(path, mask_of[path], edges_of.get(path), label)
        for path, label in zip(images, labels(images), strict=True)
    ]


def fill_files(
    files: Sequence[Files],
    methods: Mapping[str, Inpainter],
    outputs: Sequence[Mapping[str, Path]],
    *,
    hole: Colour = "white",
    lines: Colour = "white",
    figures: Path | None = None,
    sheets: Sheets | None = None,
    sheet_side_px: int = 512,
) -> list[Path]:
    """Fill every picture by every method; what is worth a question, or can't be kept, is said on stderr.

    Args:
        methods: by name; those that take no edges fill without.
        outputs: of every picture the files to write, by method.
        hole, lines: colours of masks' holes and of drawn lines.
        figures: a folder for what networks did inside, with one for each of several methods.
        sheets: for what the methods made of each picture, side by side.
        sheet_side_px: longer side of the pictures on them.
    Returns:
        The filled pictures written, in the order of the pictures, and of the methods within.
    Raises:
        InputError: a file can't be read or written, or does not fit its picture; the memory does not suffice.
    """
    written = []
    work = list(zip(files, outputs, strict=True))
    for one, places in track(work, description="filling"):
        image, known = _read(one.image, one.mask, hole)
        drawn = None if one.edges is None else _read_edges(one.edges, lines, one.image, image)
        shown = {}
        for name, method in methods.items():
            edges = drawn if method.network.takes_edges else None
            try:
                filled = method(image, known, edges)
                inside = {} if figures is None else method.figures(image, known, edges)
            except InputError as error:
                raise InputError(f"{one.image}: {error}") from error
            for figure, grid in inside.items():
                assert figures is not None
                save_grid(grid, figure_path(figures, one.label, figure, name, methods))
            for sentence in write_filled(filled, image, places[name]):
                _warn(sentence)
            written.append(places[name])
            if sheets is not None:
                shown[name] = filled
        if sheets is not None:
            sheets.add(one.label, sheet_row(one.label, image, known, shown, sheet_side_px))
    return written


def _read(image_path: Path, mask_path: Path, hole: Colour) -> tuple[Image.Image, UInt8Array]:
    image, known = read_stored(image_path), read_mask(mask_path, hole)
    _refuse_another_size(mask_path, known, image_path, image)
    share = 1 - known.mean()
    if share == 0:
        _warn(f"{mask_path} has no hole ({hole} is the hole): {image_path} stays as it is")
    elif share > MOSTLY_HOLE:
        other = "black" if hole == "white" else "white"
        _warn(f"{mask_path}: {share:.1%} of {image_path} is hole ({hole}); the other way round it is hole={other}")
    return image, known


def _read_edges(path: Path, lines: Colour, image_path: Path, image: Image.Image) -> UInt8Array:
    drawn = read_edges(path, lines)
    _refuse_another_size(path, drawn, image_path, image)
    if drawn.mean() > MOSTLY_LINES:
        other = "black" if lines == "white" else "white"
        _warn(f"{path}: {drawn.mean():.1%} of it is line ({lines}); the other way round it is lines={other}")
    return drawn


def _refuse_another_size(path: Path, read: UInt8Array, image_path: Path, image: Image.Image) -> None:
    if read.shape != upright_size(image):
        sizes = [f"{width}x{height}" for height, width in (read.shape, upright_size(image))]
        raise InputError(f"{path} is {sizes[0]}, {image_path} is {sizes[1]}: both must have the same size")


def _warn(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr)
