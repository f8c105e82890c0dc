"""Training curves from the metrics.csv of Lightning's CSVLogger, as small multiples."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from src.common.errors import InputError

POINTS_PER_CURVE = 300
"""Maximum of points per curve; longer curves show means of neighbouring values, so that reports stay small."""

_NOT_CURVES = ("step", "epoch")


@dataclass(frozen=True)
class Theme:
    """Colours of a figure; runs take the line colours in order."""

    ink: str
    grid: str
    paper: str
    lines: tuple[str, ...]


# Okabe and Ito 2008, Color Universal Design: colour-blind readers can distinguish them. Without yellow, black.
LIGHT = Theme("#1c1d20", "#dddfe3", "#ffffff", ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"))
DARK = Theme("#e4e5e8", "#3a3d44", "#1b1d21", ("#56b4e9", "#e69f00", "#2bc49a", "#cc79a7", "#d55e00", "#7f9fd8"))


def read_metrics(path: Path) -> pd.DataFrame:
    """Read a metrics.csv: columns step, epoch and one per logged name, NaN where a row did not log it.

    Raises:
        InputError: the file is missing, is not a CSV with a step column, or has no rows.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; a run with logger=csv writes metrics.csv into its run directory.")
    try:
        metrics = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV file ({error}); give the metrics.csv of a run with logger=csv.") from error
    if "step" not in metrics or metrics.empty:
        raise InputError(f"{path}: no column `step` or no rows; give the metrics.csv of a run with logger=csv.")
    return metrics


def curve(metrics: pd.DataFrame, name: str) -> pd.Series:
    """Return the values logged under `name` by step; if a resumed run logged a step twice, the last value."""
    logged = metrics[["step", name]].dropna().drop_duplicates("step", keep="last")
    return logged.set_index("step")[name].sort_index()


def draw_curves(runs: Mapping[str, pd.DataFrame], theme: Theme = LIGHT) -> Figure:
    """Draw one panel per logged name with one line per run; validation comes first.

    Raises:
        ValueError: no run logged anything but its steps.
    """
    logged = {str(name): None for metrics in runs.values() for name in metrics if name not in _NOT_CURVES}
    names = sorted(
        (name for name in logged if any(name in m and m[name].notna().any() for m in runs.values())),
        key=lambda name: (not name.startswith("val"), name.partition("/")[0]),  # stable: as logged within each part
    )
    if not names:
        raise ValueError("the runs logged no values to draw")
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(
        figsize=(3.9 * columns, 2.4 * rows + 0.5),
        facecolor=theme.paper,
        layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.1),  # inches; less crowds titles against the panels above
    )
    for position, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, position + 1)
        _style(axes, theme)
        axes.set_title(name, fontsize=10, color=theme.ink, loc="left")
        for index, (run, metrics) in enumerate(runs.items()):
            if name in metrics:
                values = _thinned(curve(metrics, name))
                colour = theme.lines[index % len(theme.lines)]
                style = "-" if index < len(theme.lines) else "--"
                marker = "o" if len(values) <= 30 else ""  # a single point has no line
                axes.plot(values.index, values, style, marker=marker, ms=3, lw=1.5, color=colour, label=run)
        if position >= len(names) - columns:
            axes.set_xlabel("step", fontsize=9, color=theme.ink)
    handles = {str(line.get_label()): line for axes in figure.axes for line in axes.get_lines()}
    drawn = [run for run in runs if run in handles]
    lines = [handles[run] for run in drawn]
    figure.legend(lines, drawn, loc="outside upper left", ncols=6, frameon=False, labelcolor=theme.ink)
    return figure


def svg_curves(runs: Mapping[str, pd.DataFrame], theme: Theme) -> bytes:
    """Draw as SVG, the same bytes for the same curves."""
    figure = draw_curves(runs, theme)
    with mpl.rc_context({"svg.hashsalt": "curves"}):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()


def _thinned(values: "pd.Series[float]") -> "pd.Series[float]":
    if len(values) <= POINTS_PER_CURVE:
        return values
    means = values.reset_index().groupby(np.arange(len(values)) * POINTS_PER_CURVE // len(values)).mean()
    return means.set_index("step").iloc[:, 0]


def _style(axes: Axes, theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    axes.grid(color=theme.grid, lw=0.6)
    axes.tick_params(colors=theme.ink, labelsize=8, length=0)
    axes.spines[:].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.ticklabel_format(useOffset=False)
