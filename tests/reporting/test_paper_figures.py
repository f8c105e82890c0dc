"""Every figure of the papers, drawn with networks of smoke size; and what a drawing says and refuses."""

from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from src.experiments import FOLDER
from src.reporting.paper_figures import draw_figure
from src.reporting.papers import PaperFigure, read_paper_file

CONF = Path(__file__).parents[2] / "conf"
READ = {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in sorted(FOLDER.glob("*/*.yaml"))}
FIGURES = {name: made for name, path in READ.items() if isinstance(made := read_paper_file(path), PaperFigure)}


def batch(height=64, width=64):
    torch.manual_seed(0)
    image, mask = torch.rand(2, 3, height, width), torch.ones(2, 1, height, width)
    mask[0, :, 8:40, 16:48] = 0
    mask[1, :, :16, :16] = 0
    return image, mask


BUILT = {}
"""Networks by their configuration: rows of many figures are the same but for their data."""


@cache
def smoke_network(row):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"experiments={row}", "scale=smoke", "output_dir=x"])
    key = repr(OmegaConf.to_container(cfg.model.network, resolve=True))
    torch.manual_seed(0)
    return BUILT.setdefault(key, instantiate(cfg.model.network).eval())


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_the_papers_is_drawn(name):
    figure, paper = FIGURES[name], name.partition("/")[0]
    built = [row for row in figure.rows if row.row]
    drawn = draw_figure(figure, {row.row: smoke_network(f"{paper}/{row.row}") for row in built}, [batch()])
    if figure.shows == "comparison":
        (grid,) = drawn.grids.values()
        last = "truth" if figure.data else "picture"
        assert grid.columns == ("input", *(row.method for row in built), last)
        assert grid.caption == figure.title
    else:
        assert [grid.caption for grid in drawn.grids.values()] == [row.method for row in built]
        assert all(grid.columns[0] == "input" and len(grid.columns) > 1 for grid in drawn.grids.values())
    for grid in drawn.grids.values():
        assert len(grid.rows) == 2
        assert all(picture.pixels.std() > 0 for row in grid.rows for picture in row[:1])
    for row in figure.rows:
        assert any(note.startswith(f"{row.method} is not drawn") for note in drawn.notes) == (row.row is None)
    assert set(figure.notes) <= set(drawn.notes)
