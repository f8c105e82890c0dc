"""A reproduction as text tables, and the files that hold it."""

from collections.abc import Sequence
from pathlib import Path

from src.evaluation.formats import interval_text
from src.rendering.text_table import Cell, Heading, Section, Span, TextTable, write_texts
from src.reproduction.comparison import ComparedMetric, ComparedRow, Reproduction
from src.reproduction.frame import to_csv
from src.reproduction.text import (
    BEST_ROW,
    DifferenceText,
    best_methods,
    order_rows,
    order_sentence,
    ours_text,
    printed_text,
    seeds_text,
)


def write_reproduction(directory: Path, reproduction: Reproduction) -> None:
    """Write `table.md`, its summary `summary.md`, `table.tex` and `table.csv`."""
    texts = {
        "table.md": to_markdown(reproduction),
        "summary.md": summary_markdown(reproduction),
        "table.tex": to_latex(reproduction),
        "table.csv": to_csv(reproduction),
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
    """Write one table per metric; the names of the best rows would be too long for their columns."""
    return "\n".join(table.to_latex() for table in metric_tables(reproduction, best_row=False))


def metric_tables(reproduction: Reproduction, *, best_row: bool = True) -> list[TextTable]:
    """Return the table of every metric; the notes stand below the last.

    Args:
        best_row: whether to name the best rows of the paper and of our runs.
    """
    *others, last = [
        metric_table(
            reproduction,
            compared,
            f"{reproduction.caption}: {compared.metric.heading}, paper / ours, {_confidence(reproduction)}",
            best_row=best_row,
        )
        for compared in reproduction.metrics
    ]
    return [*others, TextTable(last.caption, last.headings, last.sections, reproduction.notes, last.section_label)]


def metric_table(
    reproduction: Reproduction, compared: ComparedMetric, caption: str, *, mean: bool = True, best_row: bool = True
) -> TextTable:
    """Return one metric by column: values, differences to the reference row, and agreement of the rows' order.

    Args:
        mean: whether to include the last column, the mean over the bins.
        best_row: as in `metric_tables`.
    """
    shown = slice(None, None if mean else -1)
    sections = [Section(tuple((row[0], *row[1:][shown]) for row in _value_rows(compared)), "paper / ours")]
    if reproduction.reference is not None:
        rows = tuple((row[0], *row[1:][shown]) for row in _difference_rows(compared))
        sections.append(Section(rows, f"difference to {reproduction.reference}, seeds with that sign"))
    orders = {what: texts[shown] for what, texts in order_rows(compared).items() if best_row or what != BEST_ROW}
    if orders:
        sections.append(Section(tuple((what, *texts) for what, texts in orders.items()), "order of the rows"))
    headings = [Heading(column.label, f"n={column.count}") for column in reproduction.columns]
    return TextTable(caption, (Heading("Method", left=True), *headings[shown]), tuple(sections), section_label="")


def summary_table(
    reproduction: Reproduction, metrics: Sequence[ComparedMetric], notes: Sequence[str] = ()
) -> TextTable:
    """Return the last column of some metrics, one row per method, without columns that are empty."""
    confidence, reference = _confidence(reproduction), reproduction.reference
    labels = ["Paper", f"Ours, {confidence}", "Each seed"]
    if reference is not None:
        less = f"difference to {reference}"
        labels += [f"Paper, {less}", f"Ours, {less}, {confidence}", "p (Holm)", "Seeds with that sign"]
    sections = tuple(
        Section(
            tuple(_summary_row(reference is not None, compared, row) for row in compared.rows), compared.metric.heading
        )
        for compared in metrics
    )
    orders = [(compared.metric.label, compared.agreements[-1]) for compared in metrics]
    words = [f"{label}: {order_sentence(found)}." for label, found in orders if found is not None]
    order = [f"Order of the rows. {' '.join(words)}"] if words else []
    headings = (Heading("Method", left=True), *map(Heading, labels))
    return TextTable(reproduction.caption, headings, sections, (*order, *notes)).without_empty_columns()


def console_table(reproduction: Reproduction) -> TextTable:
    """Return the last column in 80 characters: without intervals and seeds."""
    labels = ["paper", "ours"]
    labels += [] if reproduction.reference is None else ["paper,diff.", "ours,diff.", "p (Holm)"]
    sections = []
    for compared in reproduction.metrics:
        rows: list[tuple[Cell, ...]] = []
        for row in compared.rows:
            cell = row.cells[-1]
            texts = [printed_text(cell.printed, compared), ours_text(row, cell.ours, compared.metric)]
            if cell.difference is not None:
                text = DifferenceText(cell.difference, compared)
                texts += [text.printed, text.ours + text.mark, text.p.removeprefix("= ")]
            rows.append((row.method, *texts, *[""] * (len(labels) - len(texts))))
        sections.append(Section(tuple(rows), compared.metric.heading))
    headings = (Heading("", left=True), *map(Heading, labels))
    return TextTable(reproduction.caption, headings, tuple(sections), reproduction.notes)


def _confidence(reproduction: Reproduction) -> str:
    return f"{reproduction.bootstrap.confidence:.0%} interval"


def _value_rows(compared: ComparedMetric) -> list[tuple[Cell, ...]]:
    best = [best_methods(compared, column) for column in range(len(compared.agreements))]
    rows: list[tuple[Cell, ...]] = []
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
        rows.append((row.method, *cells))
    return rows


def _difference_rows(compared: ComparedMetric) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for row in compared.rows:
        texts = [DifferenceText(cell.difference, compared) for cell in row.cells if cell.difference is not None]
        if texts:
            cells = [
                (
                    Span(f"{text.printed} / {text.ours}{text.mark}"),
                    Span(f"{text.interval} {text.seeds}".strip(), small=True),
                )
                for text in texts
            ]
            rows.append((row.method, *cells))
    return rows


def _summary_row(has_reference: bool, compared: ComparedMetric, row: ComparedRow) -> tuple[Cell, ...]:
    cell, metric = row.cells[-1], compared.metric
    values = (
        row.method,
        printed_text(cell.printed, compared),
        (Span(ours_text(row, cell.ours, metric)), Span(interval_text(cell.ours, metric), small=True)),
        seeds_text(cell.ours, metric),
    )
    if not has_reference:
        return values
    if cell.difference is None:
        return (*values, "", "", "", "")
    text = DifferenceText(cell.difference, compared)
    ours = (Span(text.ours), Span(text.interval, small=True))
    return (*values, text.printed, ours, text.p.removeprefix("= "), text.seeds)
