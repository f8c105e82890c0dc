"""A table of text with its writers: Markdown, LaTeX, HTML and the console."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

from markupsafe import Markup
from rich import box
from rich import table as rich_table
from rich.console import Group
from rich.text import Text

from src.common.atomic_files import atomic_write
from src.rendering.html import ENVIRONMENT

NO_VALUE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"

NAME_WIDTH = 20
"""Width of the first column on the console, in characters, below which names are not folded."""


@dataclass(frozen=True)
class Span:
    """A piece of a cell's text; small print is placed after or below the rest of the cell."""

    text: str
    bold: bool = False
    small: bool = False


Cell = str | tuple[Span, ...]


def spans(cell: Cell) -> tuple[Span, ...]:
    """Return the non-empty spans of a cell."""
    return tuple(span for span in ((Span(cell),) if isinstance(cell, str) else cell) if span.text)


@dataclass(frozen=True)
class Heading:
    """Heading of a column, with small print such as ``n=12``. Columns are right-aligned unless `left` is set."""

    label: str
    detail: str = ""
    left: bool = False


@dataclass(frozen=True)
class Section:
    """Rows that belong together, with a heading or without; the first cell of a row is its name."""

    rows: tuple[tuple[Cell, ...], ...]
    heading: str = ""


@dataclass(frozen=True)
class TextTable:
    """Sections of rows under common headings, with a caption above and notes below.

    In Markdown the sections' headings are a column with the heading `section_label`.
    """

    caption: str
    headings: tuple[Heading, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    section_label: str = "Metric"

    def without_empty_columns(self) -> "TextTable":
        """Return the table without the columns in which no row has a value."""
        columns = zip(*(row for section in self.sections for row in section.rows), strict=True)
        kept = [any(spans(cell) not in ((), (Span(NO_VALUE),)) for cell in column) for column in columns]
        sections = [
            replace(section, rows=tuple(tuple(compress(row, kept)) for row in section.rows))
            for section in self.sections
        ]
        return replace(self, headings=tuple(compress(self.headings, kept)), sections=tuple(sections))

    def to_markdown(self) -> str:
        """Write GitHub-flavoured Markdown; section headings are in a first column, in the section's first row."""
        grouped = any(section.heading for section in self.sections)
        heads = [", ".join(filter(None, (heading.label, heading.detail))) for heading in self.headings]
        aligned = ["---" if heading.left else "---:" for heading in self.headings]
        lines = [[self.section_label, *heads], ["---", *aligned]]
        for section in self.sections:
            for position, row in enumerate(section.rows):
                heading = escape_markdown(section.heading) if position == 0 else ""
                lines.append([heading, *(_join(cell, escape_markdown, "**{}**", "{}") for cell in row)])
        text = [f"**{escape_markdown(self.caption)}**", ""]
        text += [f"| {' | '.join(cells if grouped else cells[1:])} |" for cells in lines]
        notes = [f"- {escape_markdown(note)}" for note in self.notes]
        return "\n".join([*text, *(["", *notes] if notes else [])]) + "\n"

    def to_latex(self) -> str:
        r"""Write LaTeX for the booktabs package: small print in a row below the values, notes below the table."""
        alignment = "".join("l" if heading.left else "r" for heading in self.headings)
        lines = [
            r"\begin{table}",
            r"\centering\footnotesize",
            r"\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{escape_latex(self.caption)}}}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            _latex_row(escape_latex(heading.label) for heading in self.headings),
        ]
        if any(heading.detail for heading in self.headings):
            lines.append(_latex_row(escape_latex(heading.detail) for heading in self.headings))
        for section in self.sections:
            lines.append(r"\midrule")
            if section.heading:
                heading = escape_latex(section.heading)
                lines.append(rf"\multicolumn{{{len(self.headings)}}}{{l}}{{\emph{{{heading}}}}} \\")
            for row in section.rows:
                cells = [spans(cell) for cell in row]
                main = [tuple(span for span in cell if not span.small) for cell in cells]
                below = [tuple(span for span in cell if span.small) for cell in cells]
                for part in (main, below) if any(below) else (main,):
                    lines.append(
                        _latex_row(_join(cell, escape_latex, r"\textbf{{{}}}", r"{{\scriptsize {}}}") for cell in part)
                    )
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\raggedright {escape_latex(note)}" for note in self.notes]
        return "\n".join([*lines, r"\end{table}"]) + "\n"

    def to_html(self) -> Markup:
        """Write a `<figure>`, styled by page_style.jinja."""
        template = ENVIRONMENT.get_template("table.html.jinja")  # it escapes, so its result is safe
        return Markup(template.render(table=self, spans=spans))

    def to_console(self) -> Group:
        """Return what `rich.print` shows; long names wrap, numbers do not."""
        shown = rich_table.Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        longest = max((len(_styled(row[0])) for section in self.sections for row in section.rows), default=0)
        for position, heading in enumerate(self.headings):
            label = Text("\n".join(filter(None, (heading.label.replace(",", ",\n"), heading.detail))))
            if position == 0 or heading.left:
                shown.add_column(label, overflow="fold", min_width=None if position else min(longest, NAME_WIDTH))
            else:
                shown.add_column(label, justify="right", no_wrap=True, vertical="top")
        for section in self.sections:
            indent = "  " if section.heading else ""
            if section.heading:
                shown.add_row(Text(section.heading, style="bold cyan"))
            for row in section.rows:
                name, *cells = map(_styled, row)
                shown.add_row(Text(indent) + name, *cells, end_section=row is section.rows[-1])
        return Group(Text(self.caption, style="bold"), shown, *(Text(note, style="dim") for note in self.notes), "")


def write_texts(directory: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write texts by file name atomically into a directory, and return their paths."""
    for name, text in texts.items():
        with atomic_write(directory / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [directory / name for name in texts]


def escape_markdown(text: str) -> str:
    """Escape text for a paragraph or a cell of a table."""
    escaped = re.sub(r"([\\|*`]|\](?=[\[(:]))", r"\\\1", text)  # a bracket alone makes no link
    return escaped.replace("<", "&lt;").replace("\n", " ")


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
    NO_VALUE: "--",
    "±": r"$\pm$",
    MINUS: r"$-$",
}


def escape_latex(text: str) -> str:
    """Escape text for LaTeX."""
    return "".join(_LATEX.get(character, character) for character in text)


def _join(cell: Cell, escape: Callable[[str], str], bold: str, small: str) -> str:
    parts = []
    for span in spans(cell):
        text = bold.format(escape(span.text)) if span.bold else escape(span.text)
        parts.append(f" {small.format(text)}" if span.small else text)
    return "".join(parts).strip()


def _latex_row(cells: Iterable[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _styled(cell: Cell) -> Text:
    shown = Text()
    for span in spans(cell):
        shown.append(f" {span.text}" if span.small else span.text, "bold green" if span.bold else "")
    return shown
