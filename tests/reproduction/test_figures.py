"""Every figure of the papers, drawn with networks of smoke scale; its notes and errors."""

from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from src.common.errors import InputError
from src.common.resolvers import FOLDER
from src.networks.classical import MeanColour
from src.reproduction.figures import draw_figure, write_figure
from src.reproduction.papers import PaperFigure, PaperRow, read_paper_file

CONF = Path(__file__).parents[2] / "conf"
READ = {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in sorted(FOLDER.glob("*/*.yaml"))}
INSIDE = {  # columns of at least one network, by what a figure shows
    "attention_maps": {"forward 1", "forward 2", "forward 3", "reverse 3", "reverse 2", "reverse 1"},
    "updated_masks": {"forward 1", "forward 2", "forward 3", "reverse 3", "reverse 2", "reverse 1"},
    "features": {"encoder features", "decoder features"},
    "edges": {"Canny edges of the whole image", "known edges and edges in the hole"},
    "attention": {"attention direction", "attended patches", "result"},
    "stages": {"coarse", "refined", "image"},
}
FIGURES = {name: made for name, path in READ.items() if isinstance(made := read_paper_file(path), PaperFigure)}


def batch(height=64, width=64):
    torch.manual_seed(0)
    image, mask = torch.rand(2, 3, height, width), torch.ones(2, 1, height, width)
    mask[0, :, 8:40, 16:48] = 0
    mask[1, :, :16, :16] = 0
    return image, mask


NETWORKS = {}
"""Networks by config: rows of many figures differ only in their data."""


@cache
def smoke_network(row):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"experiments={row}", "scale=smoke", "output_dir=x"])
    key = repr(OmegaConf.to_container(cfg.model.network, resolve=True))
    torch.manual_seed(0)
    return NETWORKS.setdefault(key, instantiate(cfg.model.network).eval())


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_the_papers_is_drawn(name):
    figure, paper = FIGURES[name], name.partition("/")[0]
    implemented = [row for row in figure.rows if row.row]
    drawn = draw_figure(figure, {row.row: smoke_network(f"{paper}/{row.row}") for row in implemented}, [batch()])
    if figure.shows == "comparison":
        (grid,) = drawn.grids.values()
        last = "truth" if figure.data else "image"
        assert grid.columns == ("input", *(row.method for row in implemented), last)
        assert grid.caption == figure.title
    else:
        assert [grid.caption for grid in drawn.grids.values()] == [row.method for row in implemented]
        assert all(grid.columns[0] == "input" and len(grid.columns) > 1 for grid in drawn.grids.values())
        assert {column for grid in drawn.grids.values() for column in grid.columns[1:]} == INSIDE[figure.shows]
    for grid in drawn.grids.values():
        assert len(grid.rows) == 2
        assert all(sample.pixels.shape == (192, 192, 3) for row in grid.rows for sample in row)
    for row in figure.rows:
        assert any(note.startswith(f"{row.method} is not drawn") for note in drawn.notes) == (row.row is None)
    assert set(figure.notes) <= set(drawn.notes)


def figure(shows="comparison", data="photos"):
    rows = (
        PaperRow("GL", None, why="GL is not implemented here"),
        PaperRow("B", "table2/b", description="not in the paper's figure"),
        PaperRow("A", "table1/a"),
    )
    return PaperFigure("A title", "A paper", "Fig. 3", "figure", data, None, shows, rows, ("a note",))


def test_notes_name_methods_that_are_not_drawn_and_why():
    drawn = draw_figure(figure(), {"table1/a": MeanColour()}, [batch()])
    assert drawn.grids["comparison"].columns == ("input", "A", "truth")
    assert drawn.notes == (
        "a note",
        "GL is not drawn: GL is not implemented here.",
        "B: not in the paper's figure.",
        "B is not drawn: no network for table2/b.",
    )


def test_batches_of_several_sizes_are_rows_of_one_grid():
    networks = {"table1/a": MeanColour(), "table2/b": MeanColour()}
    grid = draw_figure(figure(), networks, [batch(48, 64), batch()]).grids["comparison"]
    assert grid.columns == ("input", "B", "A", "truth")
    assert len(grid.rows) == 4
    assert {row[0].pixels.shape for row in grid.rows} == {(144, 192, 3), (192, 192, 3)}
    inside = draw_figure(FIGURES["lbam/fig8"], {"table2/full": smoke_network("lbam/table2/full")}, [batch(), batch()])
    assert len(inside.grids["table2_full"].rows) == 4


def test_removed_objects_have_no_ground_truth():
    drawn = draw_figure(figure(data=None), {"table1/a": MeanColour()}, [batch()])
    grid = drawn.grids["comparison"]
    assert grid.columns[-1] == "image"
    assert not any("dB" in sample.caption for row in grid.rows for sample in row)
    assert any("no ground truth to measure against" in note for note in drawn.notes)


@pytest.mark.parametrize(
    ("shows", "networks", "batches", "message"),
    [
        ("comparison", {}, [batch()], "Fig. 3: no network to draw, expected one of table2/b, table1/a"),
        ("comparison", {"table1/a": MeanColour()}, [], "Fig. 3: no test images"),
        ("stages", {"table1/a": MeanColour()}, [batch()], "Fig. 3 shows stages, which A does not have"),
    ],
)
def test_figures_that_cannot_be_drawn_raise_an_error(shows, networks, batches, message):
    with pytest.raises(InputError, match=message):
        draw_figure(figure(shows), networks, batches)


def test_one_png_per_grid_and_a_page_are_written(tmp_path):
    networks = {row.row: smoke_network(f"edge_lbam/{row.row}") for row in FIGURES["edge_lbam/fig9"].rows}
    drawn = draw_figure(FIGURES["edge_lbam/fig9"], networks, [batch()])
    page = write_figure(tmp_path / "fig9", FIGURES["edge_lbam/fig9"], drawn, notes=["at smoke scale"])
    names = ["table4_mecnet.png", "table4_mecnet_ml.png", "table4_mecnet_s.png"]
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["report.html", *names]
    with Image.open(tmp_path / "fig9" / names[0]) as image:
        assert image.width > 3 * 192
    text = page.read_text()
    assert "Edges that the variants of MECNet complete" in text
    assert "Fig. 9 (b), (d)-(f), p. 12." in text
    assert "at smoke scale" in text
    assert "Known edges are black" in text
    assert text.count("data:image/png") == 3 * 2 * 3
    assert "Inside the networks" in text
    compared = draw_figure(figure(), {"table1/a": MeanColour()}, [batch()])
    assert "Inside the networks" not in write_figure(tmp_path, figure(), compared).read_text()
