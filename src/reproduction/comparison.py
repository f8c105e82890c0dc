"""A paper's printed table compared with the scores of our runs of its rows, as data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from src.common.errors import InputError
from src.evaluation.bootstrap import Bootstrap, Estimate, image_means
from src.evaluation.records import score_column
from src.evaluation.significance import ALPHA, Agreement, holm, rank_agreement, signed_rank_p
from src.evaluation.tables import Column
from src.metrics.metric import Metric
from src.metrics.scores import METRICS
from src.reproduction import papers
from src.reproduction.estimates import MEAN, Series, estimate_means, select_records
from src.reproduction.notes import reproduction_notes
from src.reproduction.outcomes import OK, SEEDS_FAILED, RowOutcome, Scored, read_outcomes

OUTPUT = "composite"
"""Scores that are compared with the papers: those of composites, with known pixels pasted back."""

_DIGITS = 10
"""Decimals that means and differences of printed values are rounded to, so that equal ones compare equal."""

Key = tuple[str, str]
"""Names of a metric and of a row's config."""


@dataclass(frozen=True)
class Difference:
    """A row minus the table's reference row, on the same images and masks.

    Attributes:
        printed: difference of the paper's values.
        ours: difference of our means; by seed for the seeds that both rows finished.
        p: p value of the Wilcoxon signed-rank test over images; `p_holm` is adjusted for all tests of the table.
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
    def seeds_with_mean_sign(self) -> int:
        """Number of seeds whose difference has the same sign as the mean."""
        ours = self.ours
        return 0 if ours is None else sum(np.sign(own) == np.sign(ours.mean) for own in ours.by_seed.values())

    @property
    def has_printed_sign(self) -> bool | None:
        """Whether our difference has the same sign as the paper's; None if either is missing or the paper's is 0."""
        if not self.printed or self.ours is None:
            return None
        return bool(np.sign(self.printed) == np.sign(self.ours.mean))


@dataclass(frozen=True)
class ComparedCell:
    """The paper's value and ours, in the printed unit; None if missing.

    Attributes:
        difference: to the reference row; None in that row itself, and in tables without a reference.
    """

    printed: float | None
    ours: Estimate | None = None
    difference: Difference | None = None

    @property
    def gap(self) -> float | None:
        """Our value minus the paper's."""
        return None if self.printed is None or self.ours is None else self.ours.mean - self.printed


@dataclass(frozen=True)
class ComparedRow:
    """A row of the paper's table in one metric, with one cell per column.

    Attributes:
        row: name of its config; None if the method is not implemented here.
        status: whether we have values, and if not, why.
        reference: whether the other rows are compared with this one.
    """

    method: str
    row: str | None
    status: str
    reference: bool
    cells: tuple[ComparedCell, ...]


@dataclass(frozen=True)
class ComparedMetric:
    """The rows of one metric, and for each column the agreement between the paper's ranking of the rows and ours."""

    metric: Metric  # with the decimals of our values
    printed_decimals: int
    rows: tuple[ComparedRow, ...]
    agreements: tuple[Agreement | None, ...]


@dataclass(frozen=True)
class Reproduction:
    """A paper's table with our numbers.

    Attributes:
        columns: the printed bins, then their mean if there are several; with the number of our records.
        reference: the method that the others are compared with; None in a table without one.
        bootstrap: how the intervals were computed.
        tests: number of p values that were adjusted together.
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


def compare_with_paper(
    table: papers.PaperTable,
    outcomes: Mapping[str, RowOutcome],
    *,
    caption: str,
    bootstrap: Bootstrap = Bootstrap(),  # noqa: B008  # immutable
    notes: Sequence[str] = (),
) -> Reproduction:
    """Compare our scores with the printed ones, in the order of the printed rows.

    Scores are averaged over a row's seeds first, as intervals and tests are over images and seeds are not images.
    Non-finite scores are neither replaced nor dropped, as dropping records that one method solves perfectly would
    favour the other method: their column has no interval and no test, and for NaN no mean.

    Args:
        outcomes: by the name of the row's config; rows that are missing were not run.
        notes: notes to show before the generated ones.
    Raises:
        InputError: the table is of another kind, or has an unknown bin or score; an outcome is of an unknown row; or
            records can't be compared.
    """
    if table.kind not in ("training", "unprinted"):
        raise InputError(f"{table.title}: tables of kind {table.kind} have no image scores; choose a training table")
    if unknown := outcomes.keys() - {row.row for row in table.rows}:
        available = ", ".join(row.row for row in table.rows if row.row)
        raise InputError(f"{table.title}: unknown rows {', '.join(sorted(unknown))}; available: {available}")
    reference = next((row for row in table.rows if row.reference), None)
    scored = read_outcomes(outcomes)
    ours = _series(table, scored)
    differing = {
        (metric, row): series.minus(ours[metric, str(reference.row)])
        for (metric, row), series in ours.items()
        if reference is not None and row != reference.row and (metric, str(reference.row)) in ours
    }

    images = (scored.first["data"].astype(str) + "/" + scored.first["path"].astype(str)).to_numpy(str)
    chosen_by_column = select_records(table.bins, scored.first)
    means: dict[tuple[str, str, str], Estimate] = {}  # by metric, row and column
    differences: dict[tuple[str, str, str], Estimate] = {}
    p: dict[tuple[str, str, str], float] = {}
    for label, chosen in chosen_by_column.items():
        means |= {(*key, label): found for key, found in estimate_means(ours, chosen, images, bootstrap).items()}
        for key, found in estimate_means(differing, chosen, images, bootstrap).items():
            differences[(*key, label)] = found
            if np.isfinite(differing[key].mean[chosen]).all():
                p[(*key, label)] = signed_rank_p(image_means(differing[key].mean[chosen], images[chosen]))
    p_holm = dict(zip(p, holm(list(p.values())), strict=True))

    def cell(metric: str, row: papers.PaperRow, label: str) -> ComparedCell:
        key, printed = (metric, str(row.row), label), _printed(row, metric, label, table.bins)
        if reference is None or row.reference:
            return ComparedCell(printed, means.get(key))
        target = _printed(reference, metric, label, table.bins)
        apart = None if printed is None or target is None else round(printed - target, _DIGITS)
        return ComparedCell(
            printed, means.get(key), Difference(apart, differences.get(key), p.get(key), p_holm.get(key))
        )

    compared = []
    for metric in table.metrics:
        rows = []
        for row in table.rows:
            cells = tuple(cell(metric.name, row, label) for label in chosen_by_column)
            status = _status(row, outcomes, has_score=(metric.name, str(row.row)) in ours)
            rows.append(ComparedRow(row.method, row.row, status, row.reference, cells))
        agreements = tuple(_agreement(rows, column, metric) for column in range(len(chosen_by_column)))
        shown = _displayed_metric(metric)
        printed_decimals = shown.decimals if metric.decimals is None else metric.decimals
        compared.append(ComparedMetric(shown, printed_decimals, tuple(rows), agreements))

    metrics = [each.metric for each in compared]
    return Reproduction(
        table=table,
        caption=caption,
        columns=tuple(Column(label, int(chosen.sum())) for label, chosen in chosen_by_column.items()),
        metrics=tuple(compared),
        reference=None if reference is None else reference.method,
        bootstrap=bootstrap,
        tests=len(p),
        notes=(*notes, *reproduction_notes(table, metrics, outcomes, scored, bootstrap, tests=len(p))),
    )


def _displayed_metric(metric: papers.PaperMetric) -> Metric:
    """Return a paper's metric as tables show it, with the decimals of the paper or of our score, whichever has more."""
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
    """Return our scores in the printed unit, by metric and row, for rows whose seeds all have them."""
    found = {}
    for metric in table.metrics:
        column = score_column(OUTPUT, str(metric.ours))
        for row, frames in scored.frames.items():
            if all(column in frame for frame in frames.values()):
                found[metric.name, row] = Series.of(
                    {seed: metric.factor * frame[column].to_numpy(np.float64) for seed, frame in frames.items()}
                )
    return found


def _printed(row: papers.PaperRow, metric: str, label: str, bins: Sequence[str]) -> float | None:
    values = [row.values.get(metric, {}).get(each) for each in (bins if label == MEAN else (label,))]
    present = [value for value in values if value is not None]
    return round(fmean(present), _DIGITS) if present and len(present) == len(values) else None


def _status(row: papers.PaperRow, outcomes: Mapping[str, RowOutcome], *, has_score: bool) -> str:
    if row.row is None:
        return "not implemented here"
    status = outcomes.get(row.row, RowOutcome()).status
    return "no score" if status in (OK, SEEDS_FAILED) and not has_score else status


def _agreement(rows: Sequence[ComparedRow], column: int, metric: papers.PaperMetric) -> Agreement | None:
    both = [
        (row.method, cell.printed, cell.ours.mean)
        for row in rows
        if (cell := row.cells[column]).printed is not None and cell.ours is not None
    ]
    names, printed, ours = zip(*both, strict=True) if both else ((), (), ())
    return rank_agreement(names, printed, ours, higher_is_better=metric.direction == "higher")
