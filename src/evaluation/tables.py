"""Means of scores by metric, hole ratio and method; `formats` turns them into text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import pandas as pd

from src.common.errors import InputError
from src.evaluation.bootstrap import Bootstrap, Estimate
from src.evaluation.records import MASK_INDEX, SAMPLES, best_column, score_column
from src.metrics.metric import Metric
from src.metrics.scores import METRICS

ALL = "all"


@dataclass(frozen=True)
class Column:
    """A bin of hole ratios, or `ALL`, with the number of records per method."""

    label: str
    count: int


@dataclass(frozen=True)
class ScoreRow:
    """One method's means of one metric, one per column of the table; a mean without values is NaN."""

    method: str
    estimates: tuple[Estimate, ...]

    @property
    def means(self) -> tuple[float, ...]:
        """The means without their intervals."""
        return tuple(estimate.mean for estimate in self.estimates)


@dataclass(frozen=True)
class ScoreGroup:
    """The rows of one metric."""

    metric: Metric
    rows: tuple[ScoreRow, ...]


@dataclass(frozen=True)
class ScoreTable:
    """Scores of one or several methods by hole ratio; `interval_note` says how intervals were computed, if any."""

    caption: str
    columns: tuple[Column, ...]
    groups: tuple[ScoreGroup, ...]
    notes: tuple[str, ...] = ()
    interval_note: str = ""


def comparison_table(
    records: pd.DataFrame,
    metrics: Sequence[Metric],
    *,
    caption: str,
    bootstrap: Bootstrap | None = None,
    absent: Mapping[str, str] | None = None,
) -> ScoreTable:
    """Return the means over records of every method by bin and over all, in the order in which methods appear.

    The last column holds all records, including those above the last bin.

    Args:
        records: rows as in `src.evaluation.records`; composites are compared.
        metrics: metrics to show, in this order; a metric that the records lack is left out, with a note.
        absent: reasons why scores could not be computed, by name, as in `Provenance.absent_scores`; they become notes.
    Raises:
        InputError: the methods were not scored on the same images and masks.
        ValueError: there are no records.
    """
    if records.empty:
        raise ValueError("a table needs records, got none")
    methods = list(records["method"].unique())
    by_method = {name: sort_records(records[records["method"] == name]) for name in methods}
    require_same_samples(by_method)
    present = [metric for metric in metrics if _column(metric) in records]
    first = by_method[methods[0]]

    # Sorted by hole ratio, not by name: "(0.05,0.1]" comes before "(0.1,0.2]" whatever the bank's bins are.
    bins = first[first["bin"] != ""].groupby("bin")["hole_ratio"].mean().sort_values().index
    selections = {str(name): (first["bin"] == name).to_numpy() for name in bins}
    selections[ALL] = np.ones(len(first), dtype=bool)
    columns = tuple(Column(label, int(chosen.sum())) for label, chosen in selections.items())

    # (records, metrics x methods): a single array, so that all methods share the bootstrap resamples.
    values = np.stack(
        [by_method[name][_column(metric)].to_numpy(np.float64) for metric in present for name in methods], axis=1
    ) if present else np.empty((len(first), 0))  # fmt: skip
    images = (first["data"].astype(str) + "/" + first["path"].astype(str)).to_numpy(str)
    by_column = [_estimates(values[chosen], images[chosen], bootstrap) for chosen in selections.values()]

    groups = []
    for position, metric in enumerate(present):
        span = slice(position * len(methods), (position + 1) * len(methods))
        rows = zip(methods, zip(*(column[span] for column in by_column), strict=True), strict=True)
        groups.append(ScoreGroup(metric, tuple(ScoreRow(str(name), row) for name, row in rows)))

    notes = ["In the formulas d = output - truth."] if present else []
    notes += [f"{metric.label}: {metric.formula}." for metric in present]
    missing = {metric.label: "not computed" for metric in metrics if metric not in present}
    labels = {name: metric.label for name, metric in METRICS.items()}
    missing |= {labels.get(name, name): reason for name, reason in (absent or {}).items()}
    notes += [f"{label} is not shown: {reason}" for label, reason in missing.items()]
    for metric in present:
        for name, frame in by_method.items():
            if count := int(frame[_column(metric)].isna().sum()):
                notes.append(
                    f"{metric.label} of {name}: {count} of {len(frame)} records have no value, so their means are left "
                    "out."
                )
    interval_note = "" if bootstrap is None else (
        f"In brackets: {bootstrap.confidence:.0%} percentile bootstrap intervals of the mean, "
        f"{bootstrap.resamples} resamples of the {len(np.unique(images))} images, seed {bootstrap.seed}."
    )  # fmt: skip
    return ScoreTable(caption, columns, tuple(groups), tuple(notes), interval_note)


def split_samples(records: pd.DataFrame) -> list[pd.DataFrame]:
    """Return one method's records; for several samples the records of their means and those of the best sample."""
    if SAMPLES not in records:
        return [records]
    count = int(records[SAMPLES].iloc[0])
    best = {name: records[best_column(name)] for name in map(str, records) if best_column(name) in records}
    return [
        records.assign(method=records["method"] + f", mean of {count} samples"),
        records.assign(method=records["method"] + f", best of {count} samples", **best),
    ]


def is_best(means: Sequence[float], metric: Metric) -> list[bool]:
    """Return for each mean whether no other is better, rounded as printed.

    Means that print the same tie for best, unless all do. NaN is never best, nor is a single mean with none to compare.
    """
    printed = [round(mean, metric.decimals) for mean in means]
    valid = [mean for mean in printed if not math.isnan(mean)]
    if len(set(valid)) < 2:
        return [False] * len(means)
    best = max(valid) if metric.higher_is_better else min(valid)
    return [mean == best for mean in printed]


def _estimates(values: np.ndarray, images: np.ndarray, bootstrap: Bootstrap | None) -> list[Estimate]:
    means = values.mean(axis=0)
    intervals = [None] * len(means) if bootstrap is None else bootstrap.intervals(values, images)
    return [Estimate(float(mean), interval) for mean, interval in zip(means, intervals, strict=True)]


def sort_records(records: pd.DataFrame) -> pd.DataFrame:
    """Sort records so that those of all methods on the same images and masks have the same order."""
    # File names without directories: another method may have been scored on another machine.
    named = records.assign(image_name=records["path"].map(lambda path: PurePath(path).name))
    keys = ["data", "index", "image_name", *([MASK_INDEX] if MASK_INDEX in records else []), "hole_ratio"]
    return named.sort_values(keys, ignore_index=True)


def require_same_samples(by_method: Mapping[str, pd.DataFrame]) -> None:
    """Raise InputError if the methods' records, in the common order, are not of the same images and masks."""
    (first_name, first), *others = by_method.items()
    for name, records in others:
        alike = (
            len(records) == len(first)
            and all((records[key] == first[key]).all() for key in ("data", "index", "image_name"))
            # Half a pixel of a 1000x1000 image: sums on a GPU may differ in the last digit.
            and np.allclose(records["hole_ratio"], first["hole_ratio"], rtol=0, atol=5e-7)
        )
        if not alike:
            raise InputError(
                f"{first_name} ({len(first)} records) and {name} ({len(records)} records) were not scored on the same "
                "images and masks, so their means can't be compared: evaluate both on the same data and mask bank."
            )


def _column(metric: Metric) -> str:
    return score_column("composite", metric.name)
