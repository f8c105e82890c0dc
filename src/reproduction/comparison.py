"""Our numbers beside a paper's: a printed table, with what our runs of its rows scored, as data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from src.common.errors import InputError
from src.evaluation.bootstrap import Bootstrap, Estimate
from src.evaluation.records import score_column
from src.evaluation.significance import ALPHA, Agreement, holm, rank_agreement, signed_rank_p
from src.evaluation.tables import Column
from src.metrics.metric import Metric
from src.metrics.scores import METRICS
from src.reproduction import papers
from src.reproduction.estimates import MEAN, Series, estimates, picture_means, selections
from src.reproduction.notes import notes_on
from src.reproduction.outcomes import OK, SEEDS_FAILED, RowOutcome, Scored, read_outcomes

OUTPUT = "composite"
"""What is compared with the papers: known pixels are pasted back."""

NOT_BUILT = "not built here"
NO_SCORE = "no score"


_DIGITS = 10
"""Means and differences of printed values are rounded to it: those that are equal must come out equal."""

Key = tuple[str, str]
"""Names of a metric and of a row's configuration."""

Place = tuple[str, str, str]
"""A key, and the label of a column."""


@dataclass(frozen=True)
class Difference:
    """A row less the table's reference row, on the same pictures and masks.

    Attributes:
        printed: of the paper's values.
        ours: of our means; by seed, where both rows finished it.
        p: of the Wilcoxon signed-rank test over pictures; `p_holm` is adjusted for all tests of the table.
    """

    printed: float | None
    ours: Estimate | None = None
    p: float | None = None
    p_holm: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the adjusted p is below `ALPHA`."""
        return self.p_holm is not None and self.p_holm < ALPHA

    @property
    def seeds_alike(self) -> int:
        """In how many of its seeds our difference has the sign of the mean."""
        if self.ours is None:
            return 0
        return sum(np.sign(own) == np.sign(self.ours.mean) for own in self.ours.by_seed.values())

    @property
    def like_printed(self) -> bool | None:
        """Whether ours has the sign of the paper's; None where one of them is missing, or the paper's is 0."""
        if not self.printed or self.ours is None:
            return None
        return bool(np.sign(self.printed) == np.sign(self.ours.mean))


@dataclass(frozen=True)
class ComparedCell:
    """A value of the paper and ours, in the printed unit; None where there is none.

    Attributes:
        difference: to the reference row; None in that row, and where the table has no such row.
    """

    printed: float | None
    ours: Estimate | None = None
    difference: Difference | None = None

    @property
    def gap(self) -> float | None:
        """Ours less the paper's."""
        return None if self.printed is None or self.ours is None else self.ours.mean - self.printed


@dataclass(frozen=True)
class ComparedRow:
    """A row of the paper's table, in one metric: a cell for every column.

    Attributes:
        row: the name of its configuration; None where it is not built here.
        status: whether there are values of ours, and why not.
        reference: whether the others are compared with it.
    """

    method: str
    row: str | None
    status: str
    reference: bool
    cells: tuple[ComparedCell, ...]


@dataclass(frozen=True)
class ComparedMetric:
    """The lines of one metric, and for every column how far the two orders of the rows agree.

    Attributes:
        metric: with the decimals that values of ours have; `printed_decimals` are the paper's.
    """

    metric: Metric
    printed_decimals: int
    rows: tuple[ComparedRow, ...]
    agreements: tuple[Agreement | None, ...]


@dataclass(frozen=True)
class Reproduction:
    """A paper's table with our numbers in it.

    Attributes:
        columns: the printed bins, then their mean where there are several; with the number of our records.
        reference: the method that the others are compared with; None in a table without one.
        bootstrap: how intervals were found.
        tests: how many p values were adjusted together.
        notes: what was scored and how, what is missing and why.
    """

    table: papers.PaperTable
    caption: str
    columns: tuple[Column, ...]
    metrics: tuple[ComparedMetric, ...]
    reference: str | None
    bootstrap: Bootstrap
    tests: int
    notes: tuple[str, ...]


def reproduction(
    table: papers.PaperTable,
    outcomes: Mapping[str, RowOutcome],
    *,
    caption: str,
    bootstrap: Bootstrap = Bootstrap(),  # noqa: B008  # it can't be changed
    notes: Sequence[str] = (),
) -> Reproduction:
    """Put our scores beside the printed ones, row by row in the printed order.

    A record's score is averaged over a row's seeds before anything else is done with it: intervals and tests count
    pictures, and seeds are no pictures. A score that is not finite is neither replaced nor left out, as leaving out
    what one method does perfectly would favour the other: its column has no interval and no test, and where it is not
    a number, no mean. (No score of `SCORES` is infinite, and none is NaN where there is a hole.)

    Args:
        outcomes: by the name of the row's configuration; a row that is not among them was not run.
        notes: said before those made here.
    Raises:
        InputError: the table is of another kind, or has a bin or a score that is not known; outcomes are of rows that
            it does not have; or records can't be compared.
    """
    if table.kind not in ("training", "unprinted"):
        raise InputError(f"{table.title}: kind {table.kind} has no scores of pictures to compare")
    if unknown := outcomes.keys() - {row.row for row in table.rows}:
        raise InputError(f"{table.title}: it has no rows {', '.join(sorted(unknown))}")
    reference = next((row for row in table.rows if row.reference), None)
    scored = read_outcomes(outcomes)
    ours = _series(table, scored)
    less = {} if reference is None else _less_reference(ours, str(reference.row))

    pictures = (scored.first["data"].astype(str) + "/" + scored.first["path"].astype(str)).to_numpy(str)
    chosen_by_column = selections(table.bins, scored.first)
    means: dict[Place, Estimate] = {}
    differences: dict[Place, Estimate] = {}
    p: dict[Place, float] = {}
    for label, chosen in chosen_by_column.items():
        means |= {(*key, label): found for key, found in estimates(ours, chosen, pictures, bootstrap).items()}
        for key, found in estimates(less, chosen, pictures, bootstrap).items():
            differences[(*key, label)] = found
            if np.isfinite(less[key].mean[chosen]).all():
                p[(*key, label)] = signed_rank_p(picture_means(less[key].mean[chosen], pictures[chosen]))
    p_holm = dict(zip(p, holm(list(p.values())), strict=True))

    def cell(metric: str, row: papers.PaperRow, label: str) -> ComparedCell:
        place, printed = (metric, str(row.row), label), _printed(row, metric, label, table.bins)
        if reference is None or row.reference:
            return ComparedCell(printed, means.get(place))
        aim = _printed(reference, metric, label, table.bins)
        apart = None if printed is None or aim is None else round(printed - aim, _DIGITS)
        difference = Difference(apart, differences.get(place), p.get(place), p_holm.get(place))
        return ComparedCell(printed, means.get(place), difference)

    compared = []
    for metric in table.metrics:
        rows = []
        for row in table.rows:
            cells = tuple(cell(metric.name, row, label) for label in chosen_by_column)
            scores = (metric.name, str(row.row)) in ours
            rows.append(ComparedRow(row.method, row.row, _status(row, outcomes, scores), row.reference, cells))
        agreements = [_agreement(rows, column, metric) for column in range(len(chosen_by_column))]
        shown = _shown(metric)
        printed_decimals = shown.decimals if metric.decimals is None else metric.decimals
        compared.append(ComparedMetric(shown, printed_decimals, tuple(rows), tuple(agreements)))

    return Reproduction(
        table=table,
        caption=caption,
        columns=tuple(Column(label, int(chosen.sum())) for label, chosen in chosen_by_column.items()),
        metrics=tuple(compared),
        reference=None if reference is None else reference.method,
        bootstrap=bootstrap,
        tests=len(p),
        notes=(*notes, *notes_on(table, [each.metric for each in compared], outcomes, scored, bootstrap, tests=len(p))),
    )


def _shown(metric: papers.PaperMetric) -> Metric:
    """A paper's metric as tables show it, with the decimals of the paper or of our score, whichever has more."""
    higher, unit = metric.direction == "higher", metric.unit or ""
    if metric.ours is None:
        return Metric("", metric.name, unit, metric.decimals or 0, higher, formula="")
    if metric.ours not in METRICS:
        raise InputError(f"metric {metric.name}: ours must be one of {', '.join(METRICS)}, got {metric.ours}")
    ours = METRICS[metric.ours]
    return replace(
        ours,
        label=metric.name,
        unit=unit,
        decimals=max(metric.decimals or 0, ours.decimals - round(math.log10(metric.factor))),
        higher_is_better=higher,
        formula=ours.formula + (f", times {metric.factor:g}" if metric.factor != 1 else ""),
    )


def _series(table: papers.PaperTable, scored: Scored) -> dict[Key, Series]:
    """Our scores in the printed unit, by metric and row, where every seed of the row has them."""
    found = {}
    for metric in table.metrics:
        column = score_column(OUTPUT, str(metric.ours))
        for row, frames in scored.frames.items():
            if all(column in frame for frame in frames.values()):
                found[metric.name, row] = Series.of(
                    {seed: metric.factor * frame[column].to_numpy(np.float64) for seed, frame in frames.items()}
                )
    return found


def _less_reference(ours: Mapping[Key, Series], reference: str) -> dict[Key, Series]:
    return {
        (metric, row): series.less(ours[metric, reference])
        for (metric, row), series in ours.items()
        if row != reference and (metric, reference) in ours
    }


def _printed(row: papers.PaperRow, metric: str, label: str, bins: Sequence[str]) -> float | None:
    values = [row.values.get(metric, {}).get(each) for each in (bins if label == MEAN else (label,))]
    there = [value for value in values if value is not None]
    return round(fmean(there), _DIGITS) if there and len(there) == len(values) else None


def _status(row: papers.PaperRow, outcomes: Mapping[str, RowOutcome], has_score: bool) -> str:
    if row.row is None:
        return NOT_BUILT
    status = outcomes.get(row.row, RowOutcome()).status
    return NO_SCORE if status in (OK, SEEDS_FAILED) and not has_score else status


def _agreement(rows: Sequence[ComparedRow], column: int, metric: papers.PaperMetric) -> Agreement | None:
    cells = {row.method: row.cells[column] for row in rows}
    both = {
        method: (cell.printed, cell.ours.mean)
        for method, cell in cells.items()
        if cell.printed is not None and cell.ours is not None
    }
    values = np.array(list(both.values())).reshape(-1, 2)
    return rank_agreement(list(both), values[:, 0], values[:, 1], higher_is_better=metric.direction == "higher")
