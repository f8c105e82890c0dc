"""A paper's table of times and sizes with our measurements, as data and as files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from src.metrics.metric import Metric
from src.rendering.spreadsheet import to_csv
from src.rendering.text_table import NO_VALUE, Cell, Heading, Section, Span, TextTable, write_texts
from src.reproduction.papers import PaperMetric, PaperRow, PaperTable

DIGITS = 3
"""Significant digits of our numbers: with the printed decimals, today's 0.01 s would be rounded to 0.0."""


@dataclass(frozen=True)
class TimedRow:
    """A method's printed number and ours in the printed unit; if one is missing, the reason is given.

    Attributes:
        quartiles: of our number if it is a time.
    """

    method: str
    printed: float | None
    ours: float | None = None
    quartiles: tuple[float, ...] = ()
    why_not_printed: str | None = None
    why_not_measured: str | None = None


@dataclass(frozen=True)
class TimedMetric:
    """The rows of one metric, and the device of our measurements if they are times."""

    metric: PaperMetric
    device: str | None
    rows: tuple[TimedRow, ...]

    @property
    def heading(self) -> str:
        """Name, unit, an arrow in the better direction, and the device of our times."""
        name, unit, higher = (
            self.metric.name.replace("_", " "),
            self.metric.unit or "",
            self.metric.direction == "higher",
        )
        heading = Metric("", name, unit, self.metric.decimals or 0, higher, formula="").heading
        return f"{heading}; ours on {self.device}" if self.device else heading


@dataclass(frozen=True)
class TimingTable:
    """A paper's table of times with our measurements.

    Args:
        how: sentences on how the printed and our numbers were measured.
    """

    caption: str
    metrics: tuple[TimedMetric, ...]
    how: tuple[str, ...]
    notes: tuple[str, ...]


Record = Mapping[str, Any]
"""The result of `src.benchmarking.forward.measure_forward`, and its device."""


def timing_table(
    table: PaperTable, measured: Mapping[tuple[str, str], Record], absent: Mapping[str, str], how: Sequence[str] = ()
) -> TimingTable:
    """Combine printed numbers with our measurements.

    Args:
        measured: records by metric and row.
        absent: reasons why metrics that we could measure have no records, by metric.
        how: sentences on how ours were measured.
    """
    reasons = {metric.name: metric.why or absent.get(metric.name) for metric in table.metrics}
    metrics = []
    for metric in table.metrics:
        records = {row: record for (name, row), record in measured.items() if name == metric.name}
        rows = tuple(_row(row, metric, records.get(str(row.row)), reasons[metric.name]) for row in table.rows)
        devices = [str(record["device"]) for record in records.values()]
        metrics.append(TimedMetric(metric, devices[0] if devices and metric.ours == "ms" else None, rows))
    flops = {row: record["flops"] for (_, row), record in measured.items() if record.get("flops")}
    work = [f"{row.method} {flops[row.row] / 1e9:,.1f}" for row in table.rows if row.row in flops]
    how = [
        f"Printed: {table.paper}; {table.source}, measured on: {table.protocol['hardware']}.",
        *how,
        *([f"GFLOPs per image, counting a multiply-add as two: {', '.join(work)}."] if work else []),
    ]
    notes = [
        *(f"{row.method}: {row.description}." for row in table.rows if row.description),
        *(f"{row.method} is not measured: {row.why}." for row in table.rows if row.why),
        *(f"{name.replace('_', ' ')} is not measured: {reason}." for name, reason in reasons.items() if reason),
        *(f"{row.method}, not printed: {row.unprinted}." for row in table.rows if row.unprinted),
        *(f"Not stated in the paper: {c.open}. Here: {c.choice} ({c.reason})." for c in table.choices),
        *table.notes,
    ]
    return TimingTable(table.title, tuple(metrics), tuple(how), tuple(notes))


def _row(row: PaperRow, metric: PaperMetric, record: Record | None, why: str | None) -> TimedRow:
    printed, measured, failure = row.values.get(metric.name, {}).get("all"), list[float](), None
    if record is not None and metric.ours == "parameters_m":
        measured = [metric.factor * record["parameters"] / 1e6]
    elif record is not None and "median_s" in record:
        parts = ("median", "lower_quartile", "upper_quartile")
        measured = [metric.factor * 1e3 * record[f"{part}_s"] for part in parts]
    elif record is not None:
        failure = record["failure"]
    return TimedRow(
        row.method,
        printed,
        measured[0] if measured else None,
        tuple(measured[1:]),
        why_not_printed=row.unprinted if printed is None else None,
        why_not_measured=row.why or why or failure,
    )


def printed_text(row: TimedRow, metric: PaperMetric) -> str:
    """Return the printed number with the metric's decimals, or with its own if they vary."""
    if row.printed is None:
        return NO_VALUE
    return str(row.printed) if metric.decimals is None else f"{row.printed:.{metric.decimals}f}"


def measured_texts(row: TimedRow) -> tuple[str, str]:
    """Return our value with `DIGITS` significant digits, and its quartiles in brackets with the same decimals."""
    if row.ours is None:
        return NO_VALUE, ""
    before_point = math.floor(math.log10(row.ours)) + 1 if row.ours > 0 else 1
    value, *quartiles = (f"{number:.{max(0, DIGITS - before_point)}f}" for number in (row.ours, *row.quartiles))
    return value, f"[{', '.join(quartiles)}]" if quartiles else ""


def text_table(table: TimingTable, *, reasons: bool = False) -> TextTable:
    """Return the table as text.

    Args:
        reasons: whether to add a column with the reasons for missing numbers, which the notes contain in any case.
    """
    sections = []
    for timed in table.metrics:
        rows: list[tuple[Cell, ...]] = []
        for row in timed.rows:
            value, quartiles = measured_texts(row)
            ours = (Span(value), Span(quartiles, small=True))
            reason = [row.why_not_measured or ""] if reasons else []
            rows.append((row.method, printed_text(row, timed.metric), ours, *reason))
        sections.append(Section(tuple(rows), timed.heading))
    headings = [Heading("Method", left=True), Heading("Printed"), Heading("Ours")]
    headings += [Heading("", left=True)] if reasons else []
    notes = table.how if reasons else (*table.how, *table.notes)
    return TextTable(table.caption, tuple(headings), tuple(sections), notes)


def write_timing(directory: Path, table: TimingTable) -> None:
    """Write table.md, table.tex and table.csv, which has one row per metric and method with unrounded numbers."""
    text = text_table(table)
    frame = pd.DataFrame(
        {
            "metric": timed.metric.name,
            "unit": timed.metric.unit,
            "method": row.method,
            "printed": row.printed,
            "ours": row.ours,
            "lower_quartile": row.quartiles[0] if row.quartiles else None,
            "upper_quartile": row.quartiles[1] if row.quartiles else None,
            "device": None if row.ours is None else timed.device,
            "why_not_printed": row.why_not_printed,
            "why_not_measured": row.why_not_measured,
        }
        for timed in table.metrics
        for row in timed.rows
    )
    texts = {"table.md": text.to_markdown(), "table.tex": text.to_latex(), "table.csv": to_csv(frame)}
    write_texts(directory, texts)
