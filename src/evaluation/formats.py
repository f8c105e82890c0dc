"""Scores as text: numbers, intervals, and the table of a comparison as a text table and as a data frame."""

import math

import pandas as pd

from src.evaluation.bootstrap import Estimate
from src.evaluation.tables import ALL, ScoreTable, is_best
from src.metrics.metric import Metric
from src.metrics.set_scores import SET_METRICS
from src.rendering.text_table import NO_VALUE, Cell, Heading, Section, Span, TextTable

HOW_TO_READ = (
    "Means over n pairs of image and mask, by hole ratio. The best value of each column is bold; ↑ higher is better, "
    "↓ lower is better."
)


def number(value: float, metric: Metric) -> str:
    """Return a value with the metric's decimals; a dash for NaN, ∞ for infinity."""
    if math.isnan(value):
        return NO_VALUE
    return f"{value:.{metric.decimals}f}" if math.isfinite(value) else f"{'-' if value < 0 else ''}∞"


def interval_text(estimate: Estimate | None, metric: Metric) -> str:
    """Return the interval of an estimate as ``[low, high]``; an empty string if it has none."""
    if estimate is None or estimate.interval is None:
        return ""
    return f"[{', '.join(number(bound, metric) for bound in estimate.interval)}]"


def text_table(table: ScoreTable, *, intervals: bool = True) -> TextTable:
    """Return a table of scores as text, with the best values in bold.

    Without `intervals`, and the notes on reading the table, seven columns fit into 80 characters.
    """
    sections = []
    for group in table.groups:
        best = [is_best(values, group.metric) for values in zip(*(row.means for row in group.rows), strict=True)]
        rows: list[tuple[Cell, ...]] = []
        for row, bold in zip(group.rows, zip(*best, strict=True), strict=True):
            cells = [
                (
                    Span(number(estimate.mean, group.metric), bold=is_bold),
                    Span(interval_text(estimate, group.metric) if intervals else "", small=True),
                )
                for estimate, is_bold in zip(row.estimates, bold, strict=True)
            ]
            rows.append((row.method, *cells))
        sections.append(Section(tuple(rows), group.metric.heading))
    return TextTable(
        table.caption,
        (Heading("Method", left=True), *(Heading(column.label, f"n={column.count}") for column in table.columns)),
        tuple(sections),
        (HOW_TO_READ, *table.notes, *filter(None, [table.interval_note])) if intervals else table.notes,
    )


def to_frame(table: ScoreTable) -> pd.DataFrame:
    """Return one row per metric, method and column, with unrounded means and their intervals."""
    return pd.DataFrame(
        [
            {
                "method": row.method,
                "metric": group.metric.label,
                "unit": group.metric.unit,
                "better": "higher" if group.metric.higher_is_better else "lower",
                "hole ratio": column.label,
                "n": column.count,
                "mean": estimate.mean,
                **dict(zip(("low", "high"), estimate.interval or (None, None), strict=True)),
            }
            for group in table.groups
            for row in group.rows
            for column, estimate in zip(table.columns, row.estimates, strict=True)
        ]
    )


def mean_by_name(table: ScoreTable) -> dict[str, float]:
    """Return the means of the first method, for loggers: ``<score>`` over all images, and ``<score>/<bin>``.

    Set scores without a value, such as FID by hole ratio, are left out.
    """
    return {
        f"{group.metric.name}{'' if column.label == ALL else f'/{column.label}'}": estimate.mean
        for group in table.groups
        for column, estimate in zip(table.columns, group.rows[0].estimates, strict=True)
        if not (group.metric.name in SET_METRICS and math.isnan(estimate.mean))
    }
