"""A reproduction in Markdown, whole and as a summary."""

from collections.abc import Iterable, Sequence
from itertools import compress

from src.evaluation.formats import NO_VALUE, escape_markdown
from src.reproduction.comparison import Block, Line, Reproduction
from src.reproduction.text import (
    DifferenceText,
    best_lines,
    interval_text,
    order_rows,
    order_sentence,
    ours_text,
    printed_text,
    seeds_text,
)


def to_markdown(made: Reproduction) -> str:
    """GitHub-flavoured: values, differences to the reference, orders, and the notes as a list.

    A table of one column is a line a row, as in the summary; one of several, two tables a metric.
    """
    lines = [f"**{escape_markdown(made.caption)}**", ""]
    lines += [*_summary(made, made.blocks), ""] if len(made.columns) == 1 else _by_column(made)
    lines += [f"- {escape_markdown(note)}" for note in made.notes]
    return "\n".join(lines) + "\n"


def summary_markdown(made: Reproduction, metrics: Sequence[str] | None = None) -> str:
    """A line a row, of the last column: the mean over the bins, or the only one; below, how far the orders agree.

    Args:
        metrics: names, as printed; None for the first two.
    """
    names = [block.metric.label for block in made.blocks[:2]] if metrics is None else list(metrics)
    blocks = [block for block in made.blocks if block.metric.label in names]
    return "\n".join([f"**{escape_markdown(made.caption)}**", "", *_summary(made, blocks)]) + "\n"


def _by_column(made: Reproduction) -> list[str]:
    heads = [f"{column.label}, n={column.count}" for column in made.columns]
    lines = []
    for block in made.blocks:
        heading = escape_markdown(block.metric.heading)
        lines += [f"**{heading}**: paper / ours, {_confidence(made)}", ""]
        lines += [*_pipes(["Method", *heads], _value_rows(block), left=1), ""]
        if made.reference is not None:
            lines += [
                f"**{heading}, difference to {escape_markdown(made.reference)}**: paper / ours, {_confidence(made)}, "
                "seeds with that sign",
                "",
                *_pipes(["Method", *heads], _difference_rows(block), left=1),
                "",
            ]
    if rows := [row for block in made.blocks for row in _order_rows(block)]:
        lines += ["**Order of the rows** that have both values", ""]
        lines += [*_pipes(["Metric", "", *heads], rows, left=2), ""]
    return lines


def _confidence(made: Reproduction) -> str:
    return f"{made.bootstrap.confidence:.0%} interval"


def _pipes(heads: Iterable[str], rows: Iterable[Iterable[str]], *, left: int) -> list[str]:
    heads = list(heads)
    aligned = ["---" if position < left else "---:" for position in range(len(heads))]
    return [f"| {' | '.join(cells)} |" for cells in (heads, aligned, *rows)]


def _value_rows(block: Block) -> list[list[str]]:
    best = [best_lines(block, column) for column in range(len(block.agreements))]
    rows = []
    for line in block.lines:
        cells = [escape_markdown(line.method)]
        for cell, (best_printed, best_ours) in zip(line.cells, best, strict=True):
            printed = _bold(printed_text(cell.printed, block), line.method in best_printed)
            ours = _bold(ours_text(line, cell.ours, block.metric), line.method in best_ours)
            interval = interval_text(cell.ours, block.metric)
            cells.append(f"{printed} / {ours} {interval}".rstrip())
        rows.append(cells)
    return rows


def _bold(text: str, best: bool) -> str:
    return f"**{text}**" if best else text


def _difference_rows(block: Block) -> list[list[str]]:
    rows = []
    for line in block.lines:
        texts = [DifferenceText(cell.difference, block) for cell in line.cells if cell.difference is not None]
        if texts:
            cells = [
                f"{text.printed} / {text.ours}{escape_markdown(text.mark)} {text.interval} {text.seeds}".rstrip()
                for text in texts
            ]
            rows.append([escape_markdown(line.method), *cells])
    return rows


def _order_rows(block: Block) -> list[list[str]]:
    label = escape_markdown(block.metric.label)
    return [
        [label if first == 0 else "", what, *map(escape_markdown, texts)]
        for first, (what, texts) in enumerate(order_rows(block).items())
    ]


def _summary(made: Reproduction, blocks: Sequence[Block]) -> list[str]:
    heads = ["Metric", "Method", "Paper", f"Ours, {_confidence(made)}", "Each seed"]
    if made.reference is not None:
        less = f"difference to {escape_markdown(made.reference)}"
        heads += [f"Paper, {less}", f"Ours, {less}, {_confidence(made)}", "p (Holm)", "Seeds with that sign"]
    rows = []
    for block in blocks:
        for position, line in enumerate(block.lines):
            heading = escape_markdown(block.metric.heading) if position == 0 else ""
            rows.append([heading, escape_markdown(line.method), *_summary_cells(made, block, line)])
    filled = [set(texts) - {"", NO_VALUE} != set() for texts in zip(*rows, strict=True)]
    lines = _pipes(compress(heads, filled), [compress(row, filled) for row in rows], left=2)
    orders = [(block.metric.label, block.agreements[-1]) for block in blocks]
    words = [f"{label}: {order_sentence(found)}." for label, found in orders if found is not None]
    return [*lines, "", escape_markdown(f"Order of the rows. {' '.join(words)}")] if words else lines


def _summary_cells(made: Reproduction, block: Block, line: Line) -> list[str]:
    cell, metric = line.cells[-1], block.metric
    ours = f"{ours_text(line, cell.ours, metric)} {interval_text(cell.ours, metric)}".rstrip()
    cells = [printed_text(cell.printed, block), ours, seeds_text(cell.ours, metric)]
    if made.reference is None:
        return cells
    if cell.difference is None:
        return [*cells, "", "", "", ""]
    text = DifferenceText(cell.difference, block)
    p = escape_markdown(text.p.removeprefix("= "))
    return [*cells, text.printed, f"{text.ours} {text.interval}".rstrip(), p, text.seeds]
