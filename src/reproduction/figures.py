"""Figures of the papers, drawn with our networks: results side by side, or a network's internals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from src.common.errors import InputError
from src.common.provenance import Provenance
from src.evaluation.report import write_report
from src.networks.interface import InpaintingNetwork
from src.rendering.grids import Grid, comparison_grid, fill_samples, save_grid
from src.rendering.network_figures import draw_internals
from src.reproduction.papers import PaperFigure, PaperRow

COMPARISON = "comparison"


@dataclass(frozen=True)
class DrawnFigure:
    """Grids by file name, and notes on them."""

    grids: Mapping[str, Grid]
    notes: tuple[str, ...]


def draw_figure(
    figure: PaperFigure, networks: Mapping[str, InpaintingNetwork], batches: Sequence[tuple[Tensor, Tensor]]
) -> DrawnFigure:
    """Draw a comparison as one grid with one column per method, or the internals of each network as a grid of its own.

    Methods without a network have no column; the notes name them. A figure without data (Edge-LBAM, Fig. 8) removes
    objects from the user's own images, so there is no ground truth and no PSNR. Networks get no edges, as in scoring:
    the edges of a batch are computed from the whole image.

    Args:
        networks: networks in evaluation mode, by row, such as ``table2/full``.
        batches: images and masks as in `InpaintingNetwork.forward`.
    Raises:
        InputError: no row has a network, there are no images, or a network has no maps of the figure's kind.
    """
    drawn, is_truth = [row for row in figure.rows if row.row in networks], figure.data is not None
    if not drawn:
        rows = ", ".join(row.row for row in figure.rows if row.row is not None)
        raise InputError(f"{figure.source}: no network to draw, expected one of {rows}: train one of these rows")
    if not batches:
        raise InputError(f"{figure.source}: no test images to draw: the dataset's test split is empty")
    notes = list(figure.notes)
    for row in figure.rows:
        notes += [] if row.description is None else [f"{row.method}: {row.description}."]
        if row not in drawn:
            notes.append(f"{row.method} is not drawn: {row.why or f'no network for {row.row}'}.")
    if not is_truth:
        notes.append("The holes cover objects to be removed, so there is no ground truth to measure against.")
    if figure.shows == COMPARISON:
        by_method = {row.method: networks[str(row.row)] for row in drawn}
        samples = [
            sample for image, mask in batches for sample in fill_samples(by_method, image, mask, is_truth=is_truth)
        ]
        return DrawnFigure({COMPARISON: comparison_grid(samples, figure.title)}, tuple(notes))
    inside = {str(row.row).replace("/", "_"): _inside(figure, row, networks[str(row.row)], batches) for row in drawn}
    return DrawnFigure(inside, tuple(notes))


def _inside(
    figure: PaperFigure, row: PaperRow, network: InpaintingNetwork, batches: Sequence[tuple[Tensor, Tensor]]
) -> Grid:
    inside = [draw_internals(network, image, mask) for image, mask in batches]
    if any(figure.shows not in grids for grids in inside):
        has = ", ".join(inside[0]) or "nothing"
        raise InputError(f"{figure.source} shows {figure.shows}, which {row.method} does not have; available: {has}")
    grids = [grids[figure.shows] for grids in inside]
    return replace(grids[0], rows=tuple(samples for grid in grids for samples in grid.rows), caption=row.method)


def write_figure(
    directory: Path,
    figure: PaperFigure,
    drawn: DrawnFigure,
    *,
    provenance: Mapping[str, Provenance] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write one PNG per grid, and a page with all grids, the figure's title, source and notes.

    Args:
        provenance: provenance of the methods' scores, as in `write_report`.
        notes: further notes, such as the scale that the networks were trained at.
    Returns:
        The path of the page.
    """
    for name, grid in drawn.grids.items():
        save_grid(grid, directory / f"{name}.png")
    compared = figure.shows == COMPARISON
    page = directory / "report.html"
    write_report(
        page,
        figure.title,
        tables=[],
        provenance=provenance or {},
        grids=list(drawn.grids.values()) if compared else [],
        figures=[] if compared else list(drawn.grids.values()),
        notes=[f"{figure.paper}. {figure.source}.", *notes, *drawn.notes],
    )
    return page
