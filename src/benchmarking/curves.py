"""Curves of how time and memory grow, from `src.benchmark`'s records, as small multiples on logarithmic axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from src.benchmarking.growth import PARALLEL, Series
from src.rendering.curves import LIGHT, Theme, encoded, paint

_MARKERS = "osD^vPX*<>"
_PANELS_IN_A_ROW = 2

_WHAT = {
    "forward": "forward",
    "training": "training step",
    "layer": "layer",
    "masks": "masks",
    "loading": "loading",
    "processes": "training over processes",
}


@dataclass(frozen=True)
class _Panel:
    title: str
    x_label: str
    lines: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def svg_growth(series: Sequence[Series], theme: Theme = LIGHT) -> bytes:
    """Draw as SVG, the same bytes for the same series."""
    return encoded(draw_growth(series, theme), "svg")


def draw_growth(series: Sequence[Series], theme: Theme = LIGHT) -> Figure:
    """A panel for time and one for memory of each kind and axis; along workers and processes for samples a second.

    Raises:
        ValueError: there is no series.
    """
    panels = _panels(series)
    if not panels:
        raise ValueError("there are no curves: nothing was measured at three places of an axis")
    rows = math.ceil(len(panels) / _PANELS_IN_A_ROW)
    figure = Figure(
        figsize=(11.7, 3.3 * rows),
        facecolor=theme.paper,
        layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.12),  # inches
    )
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    for position, panel in enumerate(panels):
        axes = figure.add_subplot(rows, _PANELS_IN_A_ROW, position + 1)
        paint(axes, theme)
        axes.set_title(panel.title, fontsize=10, color=theme.ink, loc="left")
        axes.set_xlabel(panel.x_label, fontsize=9, color=theme.ink)
        for name, (x, y) in panel.lines.items():
            index = names.index(name)  # a method looks the same in every panel
            axes.plot(
                x,
                y,
                "-" if index < len(theme.lines) else "--",
                marker=_MARKERS[index % len(_MARKERS)],
                ms=4,
                lw=1.5,
                color=theme.lines[index % len(theme.lines)],
                label=name,
            )
        axes.legend(
            frameon=False,
            labelcolor=theme.ink,
            fontsize=8,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            handlelength=1.8,
        )
        _scale(axes, panel)
    return figure


def _panels(series: Sequence[Series]) -> list[_Panel]:
    """Time and memory in turn, so that they lie side by side; then what has a time alone."""
    pairs, alone = [], []
    for what, against, at in dict.fromkeys((one.what, one.against, one.at) for one in series):
        chosen = [one for one in series if (one.what, one.against, one.at) == (what, against, at)]
        parallel = against in PARALLEL
        quantity = "samples a second" if parallel else "seconds"
        x_label = {"pixels": "side, px", "batch_size": "batch"}.get(against, against)
        places = {one.name: np.sqrt(one.x) if against == "pixels" else one.x for one in chosen}
        times = {one.name: (places[one.name], 1 / one.seconds if parallel else one.seconds) for one in chosen}
        memory = {one.name: (places[one.name], one.peak_bytes / 2**20) for one in chosen if one.peak_bytes is not None}
        where = f", {at}" if at else ""
        panel = _Panel(f"{_WHAT[what]}, {quantity}{where}", x_label, times)
        if memory:
            pairs += [panel, _Panel(f"{_WHAT[what]}, peak memory in MiB{where}", x_label, memory)]
        else:
            alone.append(panel)
    return pairs + alone


def _scale(axes: Axes, panel: _Panel) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    places = sorted({float(x) for xs, _ in panel.lines.values() for x in xs})
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    values = np.concatenate([y for _, y in panel.lines.values()])
    if values.max() < 20 * values.min():  # powers of ten would label one line or none
        steps = _round_values(values.min(), values.max())
        axes.set_ylim(0.95 * steps[0], 1.05 * steps[-1])
        axes.yaxis.set_major_locator(FixedLocator(steps))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}" if y >= 1000 else f"{y:g}"))


def _round_values(lowest: float, highest: float) -> list[float]:
    """1, 2, 5, 10 and so on, from the one below to the one above."""
    decades = range(math.floor(math.log10(lowest)), math.floor(math.log10(highest)) + 2)
    steps = [float(f"{factor}e{decade}") for decade in decades for factor in (1, 2, 5)]
    below, above = max(s for s in steps if s <= lowest), min(s for s in steps if s >= highest)
    return [step for step in steps if below <= step <= above]
