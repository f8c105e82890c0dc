"""Figures of the papers, drawn with networks of ours: what each shows, side by side or from inside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from src.common.errors import InputError
from src.common.provenance import Provenance
from src.evaluation.report import write_report
from src.networks.interface import InpaintingNetwork
from src.rendering.grids import Grid, comparison_grid, filled_samples, save_grid
from src.rendering.network_figures import inner_figures
from src.reproduction.papers import FigureRow, PaperFigure

COMPARISON = "comparison"


@dataclass(frozen=True)
class DrawnFigure:
    """Grids by the name of their file, and what is to be said about them."""

    grids: Mapping[str, Grid]
    notes: tuple[str, ...]


def draw_figure(
    figure: PaperFigure, networks: Mapping[str, InpaintingNetwork], batches: Sequence[tuple[Tensor, Tensor]]
) -> DrawnFigure:
    """A comparison as one grid, a column a method in the printed order; what a network did inside as a grid a row.

    Methods that are not built here, and rows without a network, are no columns: the notes name them.
    A figure without data (Edge-LBAM, Fig. 8) is of photos of one's own, from which objects are to be removed: there is
    no truth, and no PSNR.
    No edges are handed to networks, as when they are scored: those of a batch are found on the whole picture.

    Args:
        networks: by row, e.g. ``table2/full``, in evaluation mode.
        batches: images and masks as in `InpaintingNetwork.forward`; those of one batch have one size.
    Raises:
        InputError: there is no network of any row, or one has nothing of what the figure shows.
    """
    drawn, is_truth = [row for row in figure.rows if row.row in networks], figure.data is not None
    if not drawn:
        raise InputError(f"{figure.source}: there is no network of any row: {', '.join(_rows(figure))}")
    if not batches:
        raise InputError(f"{figure.source}: there are no pictures to draw it with")
    notes = [*figure.notes, *(note for row in figure.rows for note in _notes(row, row in drawn))]
    if not is_truth:
        notes.append("What a photo holds in the hole is to be removed, so nothing is measured against it.")
    if figure.shows == COMPARISON:
        by_method = {row.method: networks[str(row.row)] for row in drawn}
        samples = [
            sample for image, mask in batches for sample in filled_samples(by_method, image, mask, is_truth=is_truth)
        ]
        return DrawnFigure({COMPARISON: comparison_grid(samples, figure.title)}, tuple(notes))
    inside = {str(row.row).replace("/", "_"): _inside(figure, row, networks[str(row.row)], batches) for row in drawn}
    return DrawnFigure(inside, tuple(notes))


def _inside(
    figure: PaperFigure, row: FigureRow, network: InpaintingNetwork, batches: Sequence[tuple[Tensor, Tensor]]
) -> Grid:
    inside = [inner_figures(network, image, mask) for image, mask in batches]
    if any(figure.shows not in grids for grids in inside):
        has = ", ".join(inside[0]) or "nothing"
        raise InputError(f"{figure.source} shows {figure.shows}, of which {row.method} has none; it shows {has}")
    grids = [grids[figure.shows] for grids in inside]
    return replace(grids[0], rows=tuple(line for grid in grids for line in grid.rows), caption=row.method)


def _rows(figure: PaperFigure) -> list[str]:
    return [row.row for row in figure.rows if row.row is not None]


def _notes(row: FigureRow, is_drawn: bool) -> list[str]:
    notes = [] if row.description is None else [f"{row.method}: {row.description}."]
    if not is_drawn:
        notes.append(f"{row.method} is not drawn: {row.why or f'there is no network of {row.row}'}.")
    return notes


def write_figure(
    folder: Path,
    figure: PaperFigure,
    drawn: DrawnFigure,
    *,
    provenance: Mapping[str, Provenance] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """A PNG a grid, and all of them on one page with the figure's title, source and notes.

    Args:
        provenance: of the methods' numbers, as `write_report` takes it.
        notes: what else is to be said, e.g. at which scale the networks were trained.
    Returns:
        The path of the page.
    """
    for name, grid in drawn.grids.items():
        save_grid(grid, folder / f"{name}.png")
    compared = figure.shows == COMPARISON
    page = folder / "report.html"
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
