"""A paper's table of times and sizes, ours beside the printed numbers: as data, and written down."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich import table as rich_table
from rich.text import Text

from src.common.atomic_files import atomic_write
from src.evaluation.formats import NO_VALUE, escape_latex, escape_markdown
from src.reproduction.papers import Metric, PaperTable, Row

DIGITS = 3
"""Of our numbers, which printed decimals would round to nothing: a GPU of today needs 0.01 s where 0.2 is printed."""


@dataclass(frozen=True)
class Measured:
    """A number of ours in the printed unit, and if it is a time the quartiles around it."""

    value: float
    quartiles: tuple[float, float] | None = None


@dataclass(frozen=True)
class Line:
    """A method's printed number and ours; where one is not there, the reason is."""

    method: str
    printed: float | None
    ours: Measured | None
    why_not_printed: str | None
    why_not_measured: str | None


@dataclass(frozen=True)
class Group:
    """The lines of one metric, and the processor of ours if they are times."""

    metric: Metric
    device: str | None
    lines: tuple[Line, ...]

    @property
    def heading(self) -> str:
        """Name, unit, an arrow that points to the better side, and where ours were timed."""
        unit = f" ({self.metric.unit})" if self.metric.unit else ""
        arrow = "↓" if self.metric.direction == "lower" else "↑"
        device = f"; ours on {self.device}" if self.device else ""
        return f"{self.metric.name.replace('_', ' ')}{unit} {arrow}{device}"


@dataclass(frozen=True)
class TimingTable:
    """All metrics of a table, with a caption above and notes below; `how` says what printed numbers and ours are of."""

    caption: str
    groups: tuple[Group, ...]
    how: tuple[str, ...]
    notes: tuple[str, ...]


Record = Mapping[str, Any]
"""As `src.benchmarking.forward.measure_forward` returns it, and its device."""


def timing_table(
    table: PaperTable,
    measured: Mapping[tuple[str, str], Record],
    absent: Mapping[str, str],
    how: Sequence[str] = (),
) -> TimingTable:
    """The printed numbers with ours beside them.

    Args:
        measured: by metric and row.
        absent: why a metric has no records although it is one of ours, by metric.
        how: how ours were measured, in sentences.
    """
    reasons = {metric.name: metric.why or absent.get(metric.name) for metric in table.metrics}
    groups = []
    for metric in table.metrics:
        records = {row: record for (name, row), record in measured.items() if name == metric.name}
        lines = tuple(_line(row, metric, records, reasons[metric.name]) for row in table.rows)
        devices = [str(record["device"]) for record in records.values()]
        groups.append(Group(metric, devices[0] if devices and metric.ours == "ms" else None, lines))
    printed = f"Printed: {table.paper}; {table.source}. Measured there on: {table.protocol['hardware']}."
    notes = [
        *(f"{row.method}: {row.description}." for row in table.rows if row.description),
        *(f"{row.method} is not measured: {row.why}." for row in table.rows if row.why),
        *(f"{name.replace('_', ' ')} is not measured: {reason}." for name, reason in reasons.items() if reason),
        *(f"{row.method}, not printed: {row.unprinted}." for row in table.rows if row.unprinted),
        *(f"Open in the paper: {c.open}. Here: {c.choice} ({c.reason})." for c in table.choices),
        *table.notes,
    ]
    return TimingTable(table.title, tuple(groups), (printed, *how, *_work(table, measured)), tuple(notes))


def _line(row: Row, metric: Metric, records: Mapping[str, Record], why: str | None) -> Line:
    printed = row.values.get(metric.name, {}).get("all")
    record = records.get(str(row.row))
    ours = None if record is None else _measured(metric, record)
    failure = record.get("failure") if record is not None and ours is None else None
    return Line(
        row.method,
        printed,
        ours,
        why_not_printed=row.unprinted if printed is None else None,
        why_not_measured=row.why or why or failure,
    )


def _measured(metric: Metric, record: Record) -> Measured | None:
    """None where memory ran out before there was a time."""
    if metric.ours == "parameters_m":
        return Measured(metric.factor * record["parameters"] / 1e6)
    if "median_s" not in record:
        return None
    median, *quartiles = (
        metric.factor * 1e3 * record[f"{name}_s"] for name in ("median", "lower_quartile", "upper_quartile")
    )
    return Measured(median, (quartiles[0], quartiles[1]))


def _work(table: PaperTable, measured: Mapping[tuple[str, str], Record]) -> list[str]:
    """What no table prints, and what times of other machines can be judged by."""
    flops = {row: record["flops"] for (_, row), record in measured.items() if record.get("flops")}
    work = [f"{row.method} {flops[row.row] / 1e9:,.1f}" for row in table.rows if row.row in flops]
    return [f"GFLOP a picture, a multiplication and an addition being two: {', '.join(work)}."] if work else []


def printed_text(line: Line, metric: Metric) -> str:
    """As the paper prints it: with the metric's decimals, or where those are mixed the number's own."""
    if line.printed is None:
        return NO_VALUE
    return str(line.printed) if metric.decimals is None else f"{line.printed:.{metric.decimals}f}"


def measured_texts(line: Line) -> tuple[str, str]:
    """Ours and its quartiles in brackets, with as many decimals as leave the former `DIGITS` digits."""
    if line.ours is None:
        return NO_VALUE, ""
    before_point = math.floor(math.log10(line.ours.value)) + 1 if line.ours.value > 0 else 1
    decimals = max(0, DIGITS - before_point)
    value, *quartiles = (f"{number:.{decimals}f}" for number in (line.ours.value, *(line.ours.quartiles or ())))
    return value, f"[{', '.join(quartiles)}]" if quartiles else ""


def to_markdown(table: TimingTable) -> str:
    """A GitHub-flavoured Markdown table; the metric stands in the first column, on its first line alone."""
    lines = [
        f"**{escape_markdown(table.caption)}**",
        "",
        "| Metric | Method | Printed | Ours |",
        "| --- | --- | ---: | ---: |",
    ]
    for group in table.groups:
        for position, line in enumerate(group.lines):
            heading = escape_markdown(group.heading) if position == 0 else ""
            ours = " ".join(measured_texts(line)).rstrip()
            lines.append(
                f"| {heading} | {escape_markdown(line.method)} | {printed_text(line, group.metric)} | {ours} |"
            )
    for note in (*table.how, *table.notes):
        lines += ["", escape_markdown(note)]
    return "\n".join(lines) + "\n"


def to_latex(table: TimingTable) -> str:
    r"""A LaTeX table for the booktabs package; notes stand under it, in \footnotesize."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(table.caption)}}}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r" & Printed & Ours \\",
    ]
    for group in table.groups:
        lines += [r"\midrule", rf"\multicolumn{{3}}{{l}}{{\emph{{{escape_latex(group.heading)}}}}} \\"]
        for line in group.lines:
            value, quartiles = (escape_latex(text) for text in measured_texts(line))
            ours = rf"{value} {{\scriptsize {quartiles}}}" if quartiles else value
            printed = escape_latex(printed_text(line, group.metric))
            lines.append(rf"{escape_latex(line.method)} & {printed} & {ours} \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {escape_latex(note)}" for note in (*table.how, *table.notes)]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def to_frame(table: TimingTable) -> pd.DataFrame:
    """A line a method and metric, numbers as they are, for a CSV file."""
    return pd.DataFrame(
        {
            "metric": group.metric.name,
            "unit": group.metric.unit,
            "method": line.method,
            "printed": line.printed,
            "ours": None if line.ours is None else line.ours.value,
            "lower_quartile": None if line.ours is None or line.ours.quartiles is None else line.ours.quartiles[0],
            "upper_quartile": None if line.ours is None or line.ours.quartiles is None else line.ours.quartiles[1],
            "device": None if line.ours is None else group.device,
            "why_not_printed": line.why_not_printed,
            "why_not_measured": line.why_not_measured,
        }
        for group in table.groups
        for line in group.lines
    )


def to_console(table: TimingTable) -> rich_table.Table:
    """A table for `rich.print`: quartiles, or the reason why there is no number, in the last column."""
    shown = rich_table.Table(title=Text(table.caption), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    shown.add_column("", overflow="fold")
    for heading in ("printed", "ours"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("quartiles", overflow="fold")
    for group in table.groups:
        shown.add_row(Text(group.heading, style="bold cyan"))
        for position, line in enumerate(group.lines):
            value, quartiles = measured_texts(line)
            last = Text(line.why_not_measured, style="dim") if line.why_not_measured else Text(quartiles)
            texts = (Text(text) for text in (f"  {line.method}", printed_text(line, group.metric), value))
            shown.add_row(*texts, last, end_section=position == len(group.lines) - 1)
    shown.caption, shown.caption_justify = Text("\n".join(table.how), style="dim"), "left"
    return shown


def write_timing(folder: Path, table: TimingTable) -> None:
    """table.md, table.tex and table.csv."""
    texts = {"md": to_markdown(table), "tex": to_latex(table), "csv": to_frame(table).to_csv(index=False)}
    for suffix, text in texts.items():
        with atomic_write(folder / f"table.{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")
