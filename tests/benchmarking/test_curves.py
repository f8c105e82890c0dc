import numpy as np
import pytest

from src.benchmarking.curves import draw_growth, svg_growth
from src.benchmarking.growth import Series
from src.rendering.curves import DARK

SIDES = np.array([128.0, 256.0, 512.0])


def series(name="lbam", at="batch 1", memory=True, **changed):
    peak = 3e6 * SIDES if memory else None
    return Series(
        **{"what": "forward", "name": name, "against": "pixels", "at": at} | changed,
        x=SIDES**2,
        seconds=SIDES / 1e3,
        peak_bytes=peak,
    )


def test_time_and_memory_lie_side_by_side_and_a_method_has_one_colour():
    figure = draw_growth([series("lbam"), series("pconv"), series("lbam", "batch 8")])
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "forward, seconds, batch 1",
        "forward, peak memory in MiB, batch 1",
        "forward, seconds, batch 8",
        "forward, peak memory in MiB, batch 8",
    ]
    lines = [{line.get_label(): line for line in axes.get_lines()} for axes in figure.axes]
    assert [list(of_panel) for of_panel in lines] == [["lbam", "pconv"]] * 2 + [["lbam"]] * 2
    assert len({of_panel["lbam"].get_color() for of_panel in lines}) == 1
    assert lines[0]["lbam"].get_color() != lines[0]["pconv"].get_color()
    assert lines[0]["lbam"].get_xdata().tolist() == SIDES.tolist()  # drawn by side, though pixels are what counts
    assert lines[1]["lbam"].get_ydata().tolist() == (3e6 * SIDES / 2**20).tolist()


def test_workers_are_drawn_by_samples_a_second_and_labelled_on_the_axis():
    (axes,) = draw_growth([series(what="loading", against="workers", memory=False)]).axes
    assert axes.get_title(loc="left") == "loading, samples a second, batch 1"
    (line,) = axes.get_lines()
    assert line.get_ydata().tolist() == (1e3 / SIDES).tolist()
    low, high = axes.get_ylim()
    assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 2


def test_pages_get_the_same_bytes_for_the_same_numbers():
    assert svg_growth([series()]) == svg_growth([series()])
    assert svg_growth([series()]) != svg_growth([series()], DARK)


def test_no_series_is_no_figure():
    with pytest.raises(ValueError, match="there are no curves"):
        draw_growth([])
