import pandas as pd
import pytest

from src.common.errors import InputError
from src.rendering.curves import (
    DARK,
    LIGHT,
    POINTS_PER_CURVE,
    curve,
    draw_curves,
    read_metrics,
    svg_curves,
)

# As CSVLogger writes it: rows of training and of validation, each empty where the other has values.
CSV = """epoch,step,train/l1,train/style,val/psnr,train/never
0,0,0.5,2.0,,
0,10,0.4,,,
0,10,,,20.5,
1,20,0.3,1.0,,
1,20,,,21.5,
1,10,0.45,1.5,,
"""


@pytest.fixture
def metrics(tmp_path) -> pd.DataFrame:
    path = tmp_path / "metrics.csv"
    path.write_text(CSV)
    return read_metrics(path)


def test_curve_skips_gaps_and_keeps_the_last_of_repeated_steps(metrics):
    assert curve(metrics, "train/l1").to_dict() == {0: 0.5, 10: 0.45, 20: 0.3}
    assert curve(metrics, "val/psnr").to_dict() == {10: 20.5, 20: 21.5}


def test_one_panel_per_logged_name_and_one_line_per_run(metrics):
    other = pd.DataFrame({"step": [0, 10], "epoch": [0, 0], "train/l1": [0.6, 0.5], "critic/penalty": [1.0, 2.0]})
    figure = draw_curves({"lbam": metrics, "pconv": other})
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(panels) == ["val/psnr", "critic/penalty", "train/l1", "train/style"]  # no panel for train/never
    assert [line.get_label() for line in panels["train/l1"].get_lines()] == ["lbam", "pconv"]
    assert panels["train/l1"].get_lines()[0].get_xydata().tolist() == [[0, 0.5], [10, 0.45], [20, 0.3]]


def test_run_has_the_same_colour_in_every_panel(metrics):
    other = metrics.drop(columns="val/psnr")
    figure = draw_curves({"first": other, "second": metrics})
    colours = {line.get_color() for axes in figure.axes for line in axes.get_lines() if line.get_label() == "second"}
    assert colours == {LIGHT.lines[1]}
    # In the order of runs, although the first panel, val/psnr, has only the second one.
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["first", "second"]


def test_long_curves_show_means_of_neighbours():
    steps = range(10 * POINTS_PER_CURVE)
    figure = draw_curves({"a": pd.DataFrame({"step": steps, "train/l1": [float(step) for step in steps]})})
    shown = figure.axes[0].get_lines()[0].get_xydata()
    assert shown.shape == (POINTS_PER_CURVE, 2)
    assert shown[0].tolist() == [4.5, 4.5]


def test_svg_is_reproducible_and_has_the_themes_background(metrics):
    assert svg_curves({"a": metrics}, DARK) == svg_curves({"a": metrics}, DARK)
    assert DARK.paper.encode() in svg_curves({"a": metrics}, DARK)
    assert LIGHT.paper.encode() in svg_curves({"a": metrics}, LIGHT)


@pytest.mark.parametrize("content", [None, "", "a,b\n1,2\n", "step,train/l1\n", "a\n1,2\n1,2,3,4\n", "\udcff"])
def test_rejects_files_that_are_not_metrics(tmp_path, content):
    path = tmp_path / "metrics.csv"
    if content is not None:
        path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"metrics\.csv: "):
        read_metrics(path)


def test_rejects_runs_that_logged_nothing():
    with pytest.raises(ValueError, match="no values to draw"):
        draw_curves({"a": pd.DataFrame({"step": [0], "epoch": [0]})})
