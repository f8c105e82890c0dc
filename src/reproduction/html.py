"""A reproduction as a part of the report's page: tables, and a drawing of every row's difference or value."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from src.evaluation.formats import MINUS
from src.evaluation.significance import ALPHA
from src.rendering.html import ENVIRONMENT
from src.reproduction.comparison import Block, Difference, Reproduction
from src.reproduction.estimates import Estimate
from src.reproduction.outcomes import FAILED, NOT_RUN
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

WIDTH_PX = 220
_MARGIN_PX = 14  # half a label
_TICKS = 4


@dataclass(frozen=True)
class Tick:
    """A mark of an axis."""

    x: float
    label: str
    is_zero: bool


@dataclass(frozen=True)
class Axis:
    """Where values of the rows of a metric stand in their drawings, which share it."""

    low: float
    high: float
    ticks: tuple[Tick, ...] = ()
    width_px: int = WIDTH_PX

    @classmethod
    def over(cls, values: Iterable[float]) -> "Axis | None":
        """One that holds all values; None where there are not two different ones."""
        finite = {value for value in values if math.isfinite(value)}
        if len(finite) < 2:
            return None
        low, high = min(finite), max(finite)
        bare = cls(low, high)
        inside = [float(mark) for mark in MaxNLocator(_TICKS).tick_values(low, high) if low <= mark <= high]
        return cls(low, high, tuple(Tick(bare.x(at), f"{at:g}".replace("-", MINUS), abs(at) < 1e-12) for at in inside))

    def x(self, value: float) -> float:
        """In pixels; what is infinite stands at the end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(_MARGIN_PX + share * (self.width_px - 2 * _MARGIN_PX), 1)


@dataclass(frozen=True)
class Verdict:
    """What a difference of ours says of the paper's, and its class in the page's style."""

    words: str
    kind: str


def verdict(difference: Difference) -> Verdict:
    """Whether our difference, where it is significant and of one sign in all seeds, has the paper's sign."""
    if difference.ours is None or difference.like_printed is None:
        return Verdict("", "")
    if not difference.significant:
        return Verdict("not told apart", "open")
    if difference.seeds_alike < len(difference.ours.by_seed):
        return Verdict("seeds disagree", "open")
    return Verdict("same sign", "good") if difference.like_printed else Verdict("opposite sign", "bad")


def to_html(made: Reproduction) -> Markup:
    """A `<figure>` without a style of its own; the report's template has one for its classes."""
    template = ENVIRONMENT.get_template("reproduction.html.jinja")  # it escapes: what it returns is safe as it is
    return Markup(
        template.render(
            made=made,
            axes=[_axis(made, block) for block in made.blocks],
            confidence=f"{made.bootstrap.confidence:.0%}",
            alpha=ALPHA,
            bad_statuses=(FAILED, NOT_RUN),
            several_seeds=any(
                cell.ours is not None and len(cell.ours.by_seed) > 1
                for block in made.blocks
                for line in block.lines
                for cell in line.cells
            ),
            best_lines=best_lines,
            difference_text=DifferenceText,
            interval_text=interval_text,
            orders=order_rows,
            order_sentence=order_sentence,
            ours_text=ours_text,
            printed_text=printed_text,
            seeds_text=seeds_text,
            verdict=verdict,
        )
    )


def _axis(made: Reproduction, block: Block) -> Axis | None:
    cells = [line.cells[-1] for line in block.lines]
    if made.reference is None:
        return Axis.over(value for cell in cells for value in _drawn(cell.printed, cell.ours))
    differences = [cell.difference for cell in cells if cell.difference is not None]
    return Axis.over([0.0, *(value for each in differences for value in _drawn(each.printed, each.ours))])


def _drawn(printed: float | None, ours: Estimate | None) -> list[float]:
    found = [] if printed is None else [printed]
    return found if ours is None else [*found, ours.mean, *(ours.interval or ())]
