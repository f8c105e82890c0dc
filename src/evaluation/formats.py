"""A table written down: Markdown, LaTeX, HTML, as a data frame, and for the terminal."""

import math
import re

import pandas as pd
from markupsafe import Markup
from rich import box
from rich import table as rich_table
from rich.text import Text

from src.evaluation.tables import Cell, Table
from src.metrics.metric import Metric
from src.rendering.html import ENVIRONMENT

NO_VALUE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def number(value: float, metric: Metric) -> str:
    """A value with the metric's decimals; a dash for NaN, ∞ for the PSNR of equal pictures."""
    if math.isnan(value):
        return NO_VALUE
    return f"{value:.{metric.decimals}f}" if math.isfinite(value) else f"{'-' if value < 0 else ''}∞"


def interval_text(cell: Cell, metric: Metric) -> str:
    """The interval as ``[low, high]``; empty where the cell has none."""
    if cell.interval is None:
        return ""
    low, high = cell.interval
    return f"[{number(low, metric)}, {number(high, metric)}]"


def _all_notes(table: Table) -> list[str]:
    return [*table.notes, *([table.interval_note] if table.interval_note else [])]


def to_markdown(table: Table) -> str:
    """A GitHub-flavoured Markdown table; the metric stands in the first column, on its first line alone."""
    heads = ["Metric", "Method", *(f"{column.label}, n={column.count}" for column in table.columns)]
    lines = [
        f"**{escape_markdown(table.caption)}**",
        "",
        f"| {' | '.join(heads)} |",
        f"| --- | --- |{' ---: |' * len(table.columns)}",
    ]
    for group in table.groups:
        for position, row in enumerate(group.rows):
            cells = [escape_markdown(group.metric.heading) if position == 0 else "", escape_markdown(row.label)]
            for cell in row.cells:
                value = number(cell.value, group.metric)
                value = f"**{value}**" if cell.best else value
                cells.append(f"{value} {interval_text(cell, group.metric)}".rstrip())
            lines.append(f"| {' | '.join(cells)} |")
    for note in _all_notes(table):
        lines += ["", escape_markdown(note)]
    return "\n".join(lines) + "\n"


def to_frame(table: Table) -> pd.DataFrame:
    """A line a metric, method and column, with unrounded means and their intervals."""
    return pd.DataFrame(
        [
            {
                "method": row.label,
                "metric": group.metric.label,
                "unit": group.metric.unit,
                "better": "higher" if group.metric.higher_is_better else "lower",
                "hole ratio": column.label,
                "n": column.count,
                "mean": cell.value,
                "low": None if cell.interval is None else cell.interval[0],
                "high": None if cell.interval is None else cell.interval[1],
            }
            for group in table.groups
            for row in group.rows
            for column, cell in zip(table.columns, row.cells, strict=True)
        ]
    )


def escape_markdown(text: str) -> str:
    """Text for a cell of a table, or a paragraph, which stays what it is."""
    return re.sub(r"([\\|*`\[\]])", r"\\\1", text).replace("<", "&lt;").replace("\n", " ")


def to_latex(table: Table) -> str:
    r"""A LaTeX table for the booktabs package; notes stand under it, in \footnotesize."""
    width = 1 + len(table.columns)
    heads = " & ".join(["", *(escape_latex(column.label) for column in table.columns)])
    counts = " & ".join(["$n$", *(str(column.count) for column in table.columns)])
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(table.caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        rf"{heads} \\",
        rf"{counts} \\",
    ]
    for group in table.groups:
        lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\emph{{{escape_latex(group.metric.heading)}}}}} \\"]
        for row in group.rows:
            cells = [escape_latex(row.label)]
            for cell in row.cells:
                value = escape_latex(number(cell.value, group.metric))
                value = rf"\textbf{{{value}}}" if cell.best else value
                interval = interval_text(cell, group.metric)
                cells.append(rf"{value} {{\scriptsize {escape_latex(interval)}}}" if interval else value)
            lines.append(rf"{' & '.join(cells)} \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {escape_latex(note)}" for note in _all_notes(table)]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # after a \\ it would be read as a length
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "∞": r"$\infty$",
    "\N{EN DASH}": "--",
    "±": r"$\pm$",
    MINUS: r"$-$",
}


def escape_latex(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_LATEX.get(character, character) for character in text)


def to_html(table: Table) -> Markup:
    """A `<table>` without a style of its own; the report's template has one for its classes."""
    template = ENVIRONMENT.get_template("table.html.jinja")  # it escapes: what it returns is safe as it is
    return Markup(template.render(table=table, notes=_all_notes(table), number=number, interval_text=interval_text))


def to_console(table: Table) -> rich_table.Table:
    """A table for `rich.print`, without intervals: so seven columns fit 80 characters."""
    shown = rich_table.Table(
        title=Text(table.caption), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, collapse_padding=True
    )
    shown.add_column("", overflow="fold")  # where the line is short, names give way, not numbers
    for column in table.columns:
        label = column.label.replace(",", ",\n")  # a bin's two edges, one above the other
        shown.add_column(Text(f"{label}\nn={column.count}"), justify="right", no_wrap=True, vertical="top")
    for group in table.groups:
        shown.add_row(Text(group.metric.heading, style="bold cyan"))
        for position, row in enumerate(group.rows):
            cells = [
                Text(number(cell.value, group.metric), style="bold green" if cell.best else "") for cell in row.cells
            ]
            shown.add_row(Text(f"  {row.label}"), *cells, end_section=position == len(group.rows) - 1)
    if table.notes:
        shown.caption = Text("\n".join(table.notes), style="dim")
        shown.caption_justify = "left"
    return shown
