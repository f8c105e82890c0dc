"""A reproduction as text tables, and the files that hold it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from src.evaluation.formats import interval_text
from src.rendering.spreadsheet import to_csv
from src.rendering.text_table import Cell, Heading, Section, Span, TextTable, write_texts
from src.reproduction.comparison import ComparedMetric, ComparedRow, Reproduction
from src.reproduction.frame import to_frame
from src.reproduction.text import DifferenceText, best_methods, order_sentence, ours_text, printed_text, seeds_text


def write_reproduction(directory: Path, reproduction: Reproduction) -> None:
    """Write `table.md`, its summary `summary.md`, `table.tex` and `table.csv`."""
    texts = {
        "table.md": to_markdown(reproduction),
        "summary.md": summary_markdown(reproduction),
        "table.tex": to_latex(reproduction),
        "table.csv": to_csv(to_frame(reproduction)),
    }
    write_texts(directory, texts)


def to_markdown(reproduction: Reproduction) -> str:
    """Write one table per metric, or a single table if there is only one column."""
    if len(reproduction.columns) == 1:
        return summary_table(reproduction, reproduction.metrics, reproduction.notes).to_markdown()
    return "\n".join(table.to_markdown() for table in metric_tables(reproduction))


def summary_markdown(reproduction: Reproduction) -> str:
    """Write the last column of the first two metrics: the mean over the bins, or the only column."""
    return summary_table(reproduction, reproduction.metrics[:2]).to_markdown()


def to_latex(reproduction: Reproduction) -> str:
    """Write one table per metric."""
    return "\n".join(table.to_latex() for table in metric_tables(reproduction))


def metric_tables(reproduction: Reproduction) -> list[TextTable]:
    """Return a table by column for every metric; the notes stand below the last."""
    notes = (*_order_notes(reproduction.metrics), *reproduction.notes)
    return [
        replace(metric_table(reproduction, compared), notes=notes if compared is reproduction.metrics[-1] else ())
        for compared in reproduction.metrics
    ]


def metric_table(reproduction: Reproduction, compared: ComparedMetric) -> TextTable:
    """Return one metric by column: values, and differences to the reference row."""
    best = [best_methods(compared, column) for column in range(len(compared.agreements))]
    values, differences = list[tuple[Cell, ...]](), list[tuple[Cell, ...]]()
    for row in compared.rows:
        cells = [
            (
                Span(printed_text(cell.printed, compared), bold=row.method in best_printed),
                Span(" / "),
                Span(ours_text(row, cell.ours, compared.metric), bold=row.method in best_ours),
                Span(interval_text(cell.ours, compared.metric), small=True),
            )
            for cell, (best_printed, best_ours) in zip(row.cells, best, strict=True)
        ]
        values.append((row.method, *cells))
        texts = [DifferenceText(cell.difference, compared) for cell in row.cells if cell.difference is not None]
        apart = [
            (
                Span(f"{text.printed} / {text.ours}{text.mark}"),
                Span(f"{text.interval} {text.seeds}".strip(), small=True),
            )
            for text in texts
        ]
        differences += [(row.method, *apart)] if apart else []
    sections = [Section(tuple(values), "paper / ours")]
    if differences:
        label = f"difference to {reproduction.reference}, seeds with that sign"
        sections.append(Section(tuple(differences), label))
    return TextTable(
        f"{reproduction.caption}: {compared.metric.heading}, paper / ours, {_confidence(reproduction)}",
        (Heading("Method", left=True), *(Heading(each.label, f"n={each.count}") for each in reproduction.columns)),
        tuple(sections),
        section_label="",
    )


def summary_table(
    reproduction: Reproduction, metrics: Sequence[ComparedMetric], notes: Sequence[str] = ()
) -> TextTable:
    """Return the last column of some metrics, one row per method, without columns that are empty."""
    confidence, less = _confidence(reproduction), f"difference to {reproduction.reference}"
    labels = ["Paper", f"Ours, {confidence}", "Each seed"]
    labels += [f"Paper, {less}", f"Ours, {less}, {confidence}", "p (Holm)", "Seeds with that sign"]
    sections = [
        Section(tuple(_summary_row(compared, row) for row in compared.rows), compared.metric.heading)
        for compared in metrics
    ]
    headings = (Heading("Method", left=True), *map(Heading, labels))
    table = TextTable(reproduction.caption, headings, tuple(sections), (*_order_notes(metrics), *notes))
    return table.without_empty_columns()


def console_table(reproduction: Reproduction) -> TextTable:
    """Return the last column in 80 characters: without intervals and seeds."""
    sections = []
    for compared in reproduction.metrics:
        rows: list[tuple[Cell, ...]] = []
        for row in compared.rows:
            cell, differences = row.cells[-1], ["", "", ""]
            if cell.difference is not None:
                text = DifferenceText(cell.difference, compared)
                differences = [text.printed, text.ours + text.mark, text.p.removeprefix("= ")]
            values = (printed_text(cell.printed, compared), ours_text(row, cell.ours, compared.metric))
            rows.append((row.method, *values, *differences))
        sections.append(Section(tuple(rows), compared.metric.heading))
    headings = (Heading("", left=True), *map(Heading, ("paper", "ours", "paper,diff.", "ours,diff.", "p (Holm)")))
    return TextTable(reproduction.caption, headings, tuple(sections), reproduction.notes).without_empty_columns()


def _confidence(reproduction: Reproduction) -> str:
    return f"{reproduction.bootstrap.confidence:.0%} interval"


def _order_notes(metrics: Sequence[ComparedMetric]) -> list[str]:
    """Return a note on the order of the rows in the last column; table.csv has the agreement of every column."""
    orders = [(compared.metric.label, compared.agreements[-1]) for compared in metrics]
    words = [f"{label}: {order_sentence(found)}." for label, found in orders if found is not None]
    return [f"Order of the rows. {' '.join(words)}"] if words else []


def _summary_row(compared: ComparedMetric, row: ComparedRow) -> tuple[Cell, ...]:
    cell, metric = row.cells[-1], compared.metric
    values = (
        row.method,
        printed_text(cell.printed, compared),
        (Span(ours_text(row, cell.ours, metric)), Span(interval_text(cell.ours, metric), small=True)),
        seeds_text(cell.ours, metric),
    )
    if cell.difference is None:
        return (*values, "", "", "", "")
    text = DifferenceText(cell.difference, compared)
    ours = (Span(text.ours), Span(text.interval, small=True))
    return (*values, text.printed, ours, text.p.removeprefix("= "), text.seeds)
