"""The numbers and judgements of a reproduction as short texts, the same in every format."""

import math

from src.evaluation.formats import MINUS, NO_VALUE, number
from src.evaluation.significance import Agreement, Correlation
from src.evaluation.tables import Cell, mark_best
from src.metrics.metric import Metric
from src.reproduction.comparison import Block, Difference, Line
from src.reproduction.estimates import Estimate
from src.reproduction.outcomes import FAILED, NOT_RUN

BEST_ROW = "best row, paper / ours"


def printed_text(printed: float | None, block: Block) -> str:
    """The paper's value in its decimals; a dash where there is none."""
    return NO_VALUE if printed is None else f"{printed:.{block.printed_decimals}f}"


def signed_text(value: float | None, decimals: int) -> str:
    """A difference with its sign, which 0 has not; a dash where there is none."""
    if value is None:
        return NO_VALUE
    if not math.isfinite(value):
        return f"{MINUS if value < 0 else '+'}∞"
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def interval_text(ours: Estimate | None, metric: Metric) -> str:
    """The interval of our value; empty where there is none."""
    if ours is None or ours.interval is None:
        return ""
    return f"[{', '.join(number(edge, metric) for edge in ours.interval)}]"


def p_text(p: float | None) -> str:
    """``= 0.012`` or ``< 0.001``; a dash where there is none."""
    if p is None:
        return NO_VALUE
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def ours_text(line: Line, ours: Estimate | None, metric: Metric) -> str:
    """Our value; where there is none, the word for a row that should have one."""
    if ours is None:
        return line.status if line.status in (FAILED, NOT_RUN) else NO_VALUE
    return number(ours.mean, metric)


class DifferenceText:
    """A difference to the reference in parts.

    Ours has a decimal more than values have: it is small beside them, and its interval would vanish.
    """

    def __init__(self, difference: Difference, block: Block) -> None:
        ours, decimals = difference.ours, block.metric.decimals + 1
        self.printed = signed_text(difference.printed, block.printed_decimals)
        self.ours = signed_text(None if ours is None else ours.mean, decimals)
        self.mark = "*" if difference.significant else ""
        edges = () if ours is None or ours.interval is None else ours.interval
        self.interval = f"[{', '.join(signed_text(edge, decimals) for edge in edges)}]" if edges else ""
        self.seeds = f"{difference.seeds_alike}/{len(ours.by_seed)}" if ours is not None and ours.by_seed else ""
        self.p = p_text(difference.p_holm)


def seeds_text(ours: Estimate | None, metric: Metric) -> str:
    """Each seed's mean; empty where there are not several."""
    if ours is None or len(ours.by_seed) < 2:
        return ""
    return ", ".join(number(mean, metric) for mean in ours.by_seed.values())


def best_lines(block: Block, column: int) -> tuple[set[str], set[str]]:
    """The methods that are best in a column as printed, and in ours; values that print alike are best together."""
    cells = [line.cells[column] for line in block.lines]
    printed = [math.nan if cell.printed is None else cell.printed for cell in cells]
    ours = [math.nan if cell.ours is None else cell.ours.mean for cell in cells]
    found = []
    for values in (printed, ours):
        marked = mark_best([Cell(value) for value in values], block.metric)
        found.append({line.method for line, cell in zip(block.lines, marked, strict=True) if cell.best})
    return found[0], found[1]


def correlation_text(found: Correlation | None) -> str:
    """A coefficient and its p; a dash where there is none."""
    return NO_VALUE if found is None else f"{found.value:.2f} (p {p_text(found.p)})".replace("-", MINUS)


def pairs_text(found: Agreement | None) -> str:
    """How many of the pairs of rows that the paper tells apart are in its order."""
    return NO_VALUE if found is None or found.pairs == 0 else f"{found.pairs_alike}/{found.pairs}"


def best_text(found: Agreement | None) -> str:
    """The row that is best for both, or the paper's / ours."""
    if found is None:
        return NO_VALUE
    printed, ours = (", ".join(names) for names in (found.best_printed, found.best_ours))
    return ours if found.same_best else f"{printed} / {ours}"


def order_sentence(found: Agreement) -> str:
    """How far the orders agree, in words."""
    parts = []
    if found.spearman is not None:
        parts += [f"Spearman {correlation_text(found.spearman)}", f"Kendall {correlation_text(found.kendall)}"]
    if found.rows == 2 and found.pairs:
        parts.append("the two rows are in the paper's order" if found.pairs_alike else "not in the paper's order")
    elif found.pairs:
        parts.append(f"{pairs_text(found)} pairs in the paper's order")
    printed, ours = (", ".join(names) for names in (found.best_printed, found.best_ours))
    parts.append(f"best for both is {ours}" if found.same_best else f"best is {printed} in the paper, {ours} here")
    return ", ".join(parts)


def order_rows(block: Block) -> dict[str, list[str]]:
    """How far the orders agree, by what is said of them and column; without what can be said of no column."""
    found = {
        "Spearman's rho": [correlation_text(None if each is None else each.spearman) for each in block.agreements],
        "Kendall's tau": [correlation_text(None if each is None else each.kendall) for each in block.agreements],
        "pairs in the paper's order": [pairs_text(each) for each in block.agreements],
        BEST_ROW: [best_text(each) for each in block.agreements],
    }
    return {what: texts for what, texts in found.items() if set(texts) != {NO_VALUE}}
