"""Numbers and orders of a reproduction as short texts, the same in every format."""

import math
from itertools import compress

from src.evaluation.bootstrap import Estimate
from src.evaluation.formats import number
from src.evaluation.significance import Agreement
from src.evaluation.tables import is_best
from src.metrics.metric import Metric
from src.rendering.text_table import MINUS, NO_VALUE
from src.reproduction.comparison import ComparedMetric, ComparedRow, Difference
from src.reproduction.outcomes import FAILED, NOT_RUN


def printed_text(printed: float | None, compared: ComparedMetric) -> str:
    """Return the paper's value with its decimals; a dash if there is none."""
    return NO_VALUE if printed is None else f"{printed:.{compared.printed_decimals}f}"


def signed_text(value: float | None, decimals: int) -> str:
    """Return a difference with its sign, 0 without; a dash if there is none."""
    if value is None:
        return NO_VALUE
    if not math.isfinite(value):
        return f"{MINUS if value < 0 else '+'}∞"
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def p_text(p: float | None) -> str:
    """Return ``= 0.012`` or ``< 0.001``; a dash if there is none."""
    if p is None:
        return NO_VALUE
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def ours_text(row: ComparedRow, ours: Estimate | None, metric: Metric) -> str:
    """Return our value; if there is none, the status of a row that should have one."""
    if ours is None:
        return row.status if row.status in (FAILED, NOT_RUN) else NO_VALUE
    return number(ours.mean, metric)


class DifferenceText:
    """The parts of a difference to the reference row.

    Our difference has one decimal more than the values, as its interval would often round to zero width otherwise.
    """

    def __init__(self, difference: Difference, compared: ComparedMetric) -> None:
        ours, decimals = difference.ours, compared.metric.decimals + 1
        self.printed = signed_text(difference.printed, compared.printed_decimals)
        self.ours = signed_text(None if ours is None else ours.mean, decimals)
        self.mark = "*" if difference.significant else ""
        edges = () if ours is None or ours.interval is None else ours.interval
        self.interval = f"[{', '.join(signed_text(edge, decimals) for edge in edges)}]" if edges else ""
        by_seed = {} if ours is None else ours.by_seed
        self.seeds = f"{difference.seeds_with_mean_sign}/{len(by_seed)}" if by_seed else ""
        self.p = p_text(difference.p_holm)


def seeds_text(ours: Estimate | None, metric: Metric) -> str:
    """Return the mean of each seed; an empty string for a single seed."""
    if ours is None or len(ours.by_seed) < 2:
        return ""
    return ", ".join(number(mean, metric) for mean in ours.by_seed.values())


def best_methods(compared: ComparedMetric, column: int) -> tuple[set[str], set[str]]:
    """Return the best methods of a column in the paper and in our runs; values that are printed alike tie."""
    cells = [row.cells[column] for row in compared.rows]
    printed = [math.nan if cell.printed is None else cell.printed for cell in cells]
    ours = [math.nan if cell.ours is None else cell.ours.mean for cell in cells]
    best_printed, best_ours = (is_best(values, compared.metric) for values in (printed, ours))
    methods = [row.method for row in compared.rows]
    return set(compress(methods, best_printed)), set(compress(methods, best_ours))


def order_sentence(found: Agreement) -> str:
    """Describe the agreement of the orders in words."""
    parts = []
    for name, correlation in (("Spearman", found.spearman), ("Kendall", found.kendall)):
        if correlation is not None:
            value = f"{correlation.value:.2f}".replace("-", MINUS)
            parts.append(f"{name} {value} (p {p_text(correlation.p)})")
    if found.rows == 2 and found.pairs:
        parts.append("the two rows are in the paper's order" if found.pairs_alike else "not in the paper's order")
    elif found.pairs:
        parts.append(f"{found.pairs_alike}/{found.pairs} pairs in the paper's order")
    printed, ours = (", ".join(names) for names in (found.best_printed, found.best_ours))
    parts.append(f"best for both is {ours}" if found.same_best else f"best is {printed} in the paper, {ours} here")
    return ", ".join(parts)
