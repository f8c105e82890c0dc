"""A reproduction as HTML for the report: tables, and a chart of each row's difference or value."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from src.evaluation.bootstrap import Estimate
from src.evaluation.formats import interval_text
from src.evaluation.significance import ALPHA
from src.rendering.html import ENVIRONMENT
from src.rendering.text_table import MINUS
from src.reproduction.comparison import ComparedMetric, Difference, Reproduction
from src.reproduction.formats import metric_table
from src.reproduction.outcomes import FAILED, NOT_RUN
from src.reproduction.text import DifferenceText, order_sentence, ours_text, printed_text, seeds_text

WIDTH_PX = 220
_MARGIN_PX = 14  # half a label
_TICKS = 4


@dataclass(frozen=True)
class Tick:
    """A tick of an axis."""

    x: float
    label: str
    is_zero: bool


@dataclass(frozen=True)
class Axis:
    """The shared horizontal axis of all charts of a metric."""

    low: float
    high: float
    ticks: tuple[Tick, ...] = ()
    width_px: int = WIDTH_PX

    @classmethod
    def over(cls, values: Iterable[float]) -> "Axis | None":
        """Return an axis that covers all values; None if there are fewer than two different ones."""
        finite = {value for value in values if math.isfinite(value)}
        if len(finite) < 2:
            return None
        low, high = min(finite), max(finite)
        bare = cls(low, high)
        inside = [float(mark) for mark in MaxNLocator(_TICKS).tick_values(low, high) if low <= mark <= high]
        return cls(low, high, tuple(Tick(bare.x(at), f"{at:g}".replace("-", MINUS), abs(at) < 1e-12) for at in inside))

    def x(self, value: float) -> float:
        """Return the position of a value in px; infinite values are at the ends."""
        fraction = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(_MARGIN_PX + fraction * (self.width_px - 2 * _MARGIN_PX), 1)


def verdict(difference: Difference) -> tuple[str, str]:
    """Compare the signs of our difference and the paper's, if ours is significant and all seeds agree.

    Returns:
        The words, and the CSS class: ``good``, ``bad`` or ``open``; both empty if a difference is missing.
    """
    if difference.ours is None or difference.has_printed_sign is None:
        return "", ""
    if not difference.significant:
        return "not significant", "open"
    if difference.seeds_with_mean_sign < len(difference.ours.by_seed):
        return "seeds disagree", "open"
    return ("same sign", "good") if difference.has_printed_sign else ("opposite sign", "bad")


def to_html(reproduction: Reproduction) -> Markup:
    """Write a `<figure>`, styled by page_style.jinja."""
    template = ENVIRONMENT.get_template("reproduction.html.jinja")  # it escapes, so its result is safe
    has_bins = len(reproduction.columns) > 1
    cells = [cell for compared in reproduction.metrics for row in compared.rows for cell in row.cells]
    return Markup(
        template.render(
            made=reproduction,
            axes=[_axis(reproduction, compared) for compared in reproduction.metrics],
            confidence=f"{reproduction.bootstrap.confidence:.0%}",
            alpha=ALPHA,
            bad_statuses=(FAILED, NOT_RUN),
            several_seeds=any(cell.ours is not None and len(cell.ours.by_seed) > 1 for cell in cells),
            bin_tables=[
                replace(
                    metric_table(reproduction, compared), caption=f"{compared.metric.heading}: paper / ours"
                ).to_html()
                for compared in reproduction.metrics
                if has_bins
            ],
            difference_text=DifferenceText,
            interval_text=interval_text,
            order_sentence=order_sentence,
            ours_text=ours_text,
            printed_text=printed_text,
            seeds_text=seeds_text,
            verdict=verdict,
        )
    )


def _axis(reproduction: Reproduction, compared: ComparedMetric) -> Axis | None:
    cells = [row.cells[-1] for row in compared.rows]
    drawn: list[tuple[float | None, Estimate | None]] = [(cell.printed, cell.ours) for cell in cells]
    if reproduction.reference is not None:
        drawn = [(each.printed, each.ours) for cell in cells if (each := cell.difference) is not None]
    values = [printed for printed, _ in drawn if printed is not None]
    values += [value for _, ours in drawn if ours is not None for value in (ours.mean, *(ours.interval or ()))]
    return Axis.over(values if reproduction.reference is None else [0.0, *values])
