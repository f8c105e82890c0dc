"""A reproduction written down: LaTeX, CSV, for the terminal, and as the files of a folder."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich import table as rich_table
from rich.text import Text

from src.common.atomic_files import atomic_write
from src.evaluation.formats import escape_latex
from src.evaluation.significance import Agreement
from src.reproduction.comparison import Block, Cell, Reproduction
from src.reproduction.estimates import Estimate
from src.reproduction.markdown import summary_markdown, to_markdown
from src.reproduction.text import (
    BEST_ROW,
    DifferenceText,
    best_lines,
    interval_text,
    order_rows,
    ours_text,
    printed_text,
)


def write_reproduction(folder: Path, made: Reproduction) -> None:
    """Write `table.md`, its last column as `summary.md`, `table.tex` and `table.csv` into `folder`."""
    texts = {
        "table.md": to_markdown(made),
        "summary.md": summary_markdown(made),
        "table.tex": to_latex(made),
        "table.csv": to_csv(made),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def to_csv(made: Reproduction) -> str:
    """As `to_frame`, in 10 digits; what is absent is empty."""
    return to_frame(made).to_csv(index=False, float_format="%.10g", lineterminator="\n")


def to_frame(made: Reproduction) -> pd.DataFrame:
    """A line a row, metric and column; orders stand in every line of their metric and column."""
    columns = [column.label for column in made.columns]
    return pd.DataFrame(
        [
            {
                "row": line.row,
                "method": line.method,
                "status": line.status,
                "reference": line.reference,
                "metric": block.metric.label,
                "unit": block.metric.unit,
                "better": "higher" if block.metric.higher_is_better else "lower",
                "column": column,
                "paper": cell.printed,
                **_estimate_entries("ours", cell.ours),
                "ours_less_paper": cell.gap,
                **_difference_entries(cell),
                **_order_entries(agreement),
            }
            for block in made.blocks
            for line in block.lines
            for column, cell, agreement in zip(columns, line.cells, block.agreements, strict=True)
        ]
    )


def _estimate_entries(name: str, found: Estimate | None) -> dict[str, Any]:
    low, high = (None, None) if found is None or found.interval is None else found.interval
    by_seed = {} if found is None else found.by_seed
    return {
        name: None if found is None else found.mean,
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_by_seed": " ".join(f"{seed}:{mean:.10g}" for seed, mean in by_seed.items()) or None,
    }


def _difference_entries(cell: Cell) -> dict[str, Any]:
    found = cell.difference
    ours = None if found is None else found.ours
    return {
        "paper_difference": None if found is None else found.printed,
        **_estimate_entries("difference", ours),
        "p": None if found is None else found.p,
        "p_holm": None if found is None else found.p_holm,
        "seeds": None if ours is None else len(ours.by_seed),
        "seeds_alike": None if found is None or ours is None else found.seeds_alike,
    }


def _order_entries(found: Agreement | None) -> dict[str, Any]:
    spearman, kendall = (None, None) if found is None else (found.spearman, found.kendall)
    return {
        "spearman": None if spearman is None else spearman.value,
        "spearman_p": None if spearman is None else spearman.p,
        "kendall": None if kendall is None else kendall.value,
        "kendall_p": None if kendall is None else kendall.p,
        "pairs": None if found is None else found.pairs,
        "pairs_alike": None if found is None else found.pairs_alike,
        "same_best": None if found is None else found.same_best,
    }


def to_latex(made: Reproduction) -> str:
    r"""A table a metric for the booktabs package: intervals under the values, notes under the last table."""
    return "\n".join(_latex_table(made, block, last=block is made.blocks[-1]) for block in made.blocks)


def _latex_table(made: Reproduction, block: Block, *, last: bool) -> str:
    lines = [
        r"\begin{table}",
        r"\centering\footnotesize",
        r"\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{escape_latex(f'{made.caption}: {block.metric.heading}')}, paper / ours}}",
        rf"\begin{{tabular}}{{l{'r' * len(made.columns)}}}",
        r"\toprule",
        _latex_row("", [escape_latex(column.label) for column in made.columns]),
        _latex_row("$n$", [str(column.count) for column in made.columns]),
        r"\midrule",
        *_latex_values(block),
    ]
    if made.reference is not None:
        heading = escape_latex(f"difference to {made.reference}, seeds with that sign")
        lines += [r"\midrule", rf"\multicolumn{{{1 + len(made.columns)}}}{{l}}{{\emph{{{heading}}}}} \\"]
        lines += _latex_differences(block)
    if any(block.agreements):
        # Which row is best is too long for a column, and bold values say it.
        orders = {name: texts for name, texts in order_rows(block).items() if name != BEST_ROW}
        lines += [r"\midrule", *(_latex_row(name, map(escape_latex, texts)) for name, texts in orders.items())]
    lines += [r"\bottomrule", r"\end{tabular}"]
    if last:
        lines += [rf"\par\raggedright {escape_latex(note)}" for note in made.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _latex_values(block: Block) -> list[str]:
    best = [best_lines(block, column) for column in range(len(block.agreements))]
    lines = []
    for line in block.lines:
        cells = []
        for cell, (best_printed, best_ours) in zip(line.cells, best, strict=True):
            printed, ours = printed_text(cell.printed, block), ours_text(line, cell.ours, block.metric)
            cells.append(
                f"{_latex_bold(printed, line.method in best_printed)} / {_latex_bold(ours, line.method in best_ours)}"
            )
        lines.append(_latex_row(escape_latex(line.method), cells))
        lines += _latex_below([interval_text(cell.ours, block.metric) for cell in line.cells])
    return lines


def _latex_differences(block: Block) -> list[str]:
    lines = []
    for line in block.lines:
        texts = [DifferenceText(cell.difference, block) for cell in line.cells if cell.difference is not None]
        if texts:
            cells = [f"{text.printed} / {text.ours}{text.mark}" for text in texts]
            lines.append(_latex_row(escape_latex(line.method), map(escape_latex, cells)))
            lines += _latex_below([f"{text.interval} {text.seeds}".strip() for text in texts])
    return lines


def _latex_bold(text: str, best: bool) -> str:
    return rf"\textbf{{{escape_latex(text)}}}" if best else escape_latex(text)


def _latex_row(name: str, cells: Iterable[str]) -> str:
    return rf"{' & '.join([name, *cells])} \\"


def _latex_below(texts: Sequence[str]) -> list[str]:
    """Small print under a row, if there is any."""
    small = [rf"{{\scriptsize {escape_latex(text)}}}" if text else "" for text in texts]
    return [_latex_row("", small)] if any(texts) else []


def to_console(made: Reproduction) -> rich_table.Table:
    """A line a row and metric for `rich.print`, of the last column: the mean over the bins, or the only one."""
    shown = rich_table.Table(
        title=Text(made.caption), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, collapse_padding=True
    )
    shown.add_column("", overflow="fold")
    heads = ["paper", "ours"] + ([] if made.reference is None else ["paper:\ndiff.", "ours:\ndiff.", "p (Holm)"])
    for head in heads:
        shown.add_column(head, justify="right", no_wrap=True, vertical="top")
    for block in made.blocks:
        shown.add_row(Text(block.metric.heading, style="bold cyan"))
        for line in block.lines:
            cell = line.cells[-1]
            texts = [printed_text(cell.printed, block), ours_text(line, cell.ours, block.metric)]
            if cell.difference is not None:
                text = DifferenceText(cell.difference, block)
                texts += [text.printed, text.ours + text.mark, text.p.removeprefix("= ")]
            shown.add_row(Text(f"  {line.method}"), *map(Text, texts), end_section=line is block.lines[-1])
    shown.caption = Text("\n".join(made.notes), style="dim")
    shown.caption_justify = "left"
    return shown
