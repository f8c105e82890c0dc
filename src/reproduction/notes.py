"""Notes below a reproduced table: which scores, what is missing and why, and what intervals and tests mean."""

from collections.abc import Mapping, Sequence

import numpy as np

from src.evaluation.bootstrap import Bootstrap
from src.evaluation.records import score_column
from src.evaluation.significance import ALPHA
from src.metrics.metric import Metric
from src.reproduction import papers
from src.reproduction.estimates import MEAN, select_records
from src.reproduction.outcomes import NOT_RUN, RowOutcome, Scored

FEW_IMAGES = 30
"""With fewer images a note warns of too narrow percentile intervals; their coverage was simulated 4,000 times."""


def reproduction_notes(
    table: papers.PaperTable,
    metrics: Sequence[Metric],
    outcomes: Mapping[str, RowOutcome],
    scored: Scored,
    bootstrap: Bootstrap,
    *,
    tests: int,
) -> list[str]:
    """Return one paragraph per note, missing results first.

    Args:
        metrics: the table's metrics as displayed.
        tests: number of p values that were adjusted together.
    """
    found = [*_row_notes(table, outcomes), *_score_notes(table, metrics, scored)]
    if scored.frames:
        found += [*_record_notes(table, scored), *_formula_notes(table, metrics, scored)]
        found += _statistics_notes(bootstrap, tests, _image_count(scored), ordered=table.kind != "unprinted")
    return found


def _row_notes(table: papers.PaperTable, outcomes: Mapping[str, RowOutcome]) -> list[str]:
    notes = []
    absent: dict[str, list[str]] = {}
    for row in table.rows:
        if row.why is not None:
            absent.setdefault(row.why.removesuffix("."), []).append(row.method)
        elif outcomes.get(str(row.row), RowOutcome()).status == NOT_RUN:
            absent.setdefault("not run", []).append(row.method)
        if row.unprinted is not None:
            absent.setdefault(row.unprinted.removesuffix("."), []).append(row.method)
    for reason, methods in absent.items():
        notes.append(f"{'; '.join(methods) if len(methods) < len(table.rows) else 'All rows'}: {reason}.")
    built = {row.method: outcomes[row.row] for row in table.rows if row.row is not None and row.row in outcomes}
    for method, outcome in built.items():
        if outcome.given is not None:
            notes.append(f"{method}: not trained here, tested with the given checkpoint {outcome.given}.")
        notes += [
            f"{method}: seed {seed} failed with {failure.error} (see {failure.log})."
            for seed, failure in sorted(outcome.failures.items())
        ]
    seeds = {method: tuple(sorted(outcome.records)) for method, outcome in built.items() if outcome.records}
    if len(set(seeds.values())) > 1:
        listed = "; ".join(f"{method} {', '.join(map(str, own))}" for method, own in seeds.items())
        notes.append(f"Rows and their differences are means over different seeds: {listed}.")
    elif seeds:
        own = next(iter(seeds.values()))
        notes.append(f"Our values are means over {len(own)} seeds, {', '.join(map(str, own))}." if len(own) > 1 else
                     f"Our values are from one seed, {own[0]}: their variation over seeds is unknown.")  # fmt: skip
    return notes


def _score_notes(table: papers.PaperTable, metrics: Sequence[Metric], scored: Scored) -> list[str]:
    notes = []
    rows = [(row.method, str(row.row), scored.frames[str(row.row)]) for row in table.rows if row.row in scored.frames]
    for metric, shown in zip(table.metrics, metrics, strict=True):
        if metric.ours is None:
            notes.append(f"{metric.name} is not scored here: {str(metric.why).removesuffix('.')}.")
            continue
        column = score_column("composite", shown.name)
        absent: dict[str, list[str]] = {}
        for method, row, frames in rows:
            if not all(column in frame for frame in frames.values()):
                absent.setdefault(scored.absent[row].get(metric.ours, "not computed"), []).append(method)
            for seed, frame in frames.items():
                bad = 0 if column not in frame else int((~np.isfinite(frame[column])).sum())
                if bad:
                    notes.append(
                        f"{metric.name} of {method}, seed {seed}: {bad} of {len(frame)} records are not finite; "
                        "columns that contain them have no interval and no test."
                    )
        for reason, methods in absent.items():
            of = "" if len(methods) == len(rows) else f" of {'; '.join(methods)}"
            notes.append(f"{metric.name}{of} is not shown: {reason}.")
    return notes


def _record_notes(table: papers.PaperTable, scored: Scored) -> list[str]:
    chosen = select_records(table.bins, scored.first)
    notes = [f"No record has a hole ratio in {label}." for label, found in chosen.items() if not found.any()]
    if MEAN in chosen:
        notes.append(
            f"{MEAN}: ours is the mean over all records of the printed bins; the paper's is the mean of its printed "
            "values."
        )
    notes.append(
        f"Our values are scores of composites: known pixels are pasted back first. {len(scored.first)} records per "
        f"run, of {_image_count(scored)} images."
    )
    return notes


def _image_count(scored: Scored) -> int:
    return len(scored.first[["data", "path"]].drop_duplicates())


def _formula_notes(table: papers.PaperTable, metrics: Sequence[Metric], scored: Scored) -> list[str]:
    notes = ["Formulas: d = output - truth."]
    for metric, shown in zip(table.metrics, metrics, strict=True):
        column = score_column("composite", shown.name)
        if any(column in frame for frames in scored.frames.values() for frame in frames.values()):
            printed_as = f" (in the paper: {metric.definition})" if metric.definition else ""
            notes.append(f"{shown.label}: {shown.formula}{printed_as}.")
    return notes


def _statistics_notes(bootstrap: Bootstrap, tests: int, images: int, *, ordered: bool) -> list[str]:
    notes = [
        f"In brackets: {bootstrap.confidence:.0%} percentile bootstrap intervals of the mean over images, "
        f"{bootstrap.resamples} resamples, seed {bootstrap.seed}; scores are averaged over seeds first.",
    ]
    if 1 < images < FEW_IMAGES:
        notes.append(
            f"With {images} images these intervals are too narrow: for normally distributed scores, 95% intervals "
            "cover the mean in 50% of cases with 2 images, 83% with 5, 90% with 10 and 93% with 50."
        )
    if ordered:
        notes.append(
            "Order: Spearman's rho and Kendall's tau-b between the printed values and ours, over rows that have both. "
            "p values are from permutations of the rows; p can't be below 0.33 with three rows, 0.08 with four."
        )
    if tests:
        notes.append(
            "Differences are tested by the Wilcoxon signed-rank test over images (p is twice the one-sided p on the "
            "side of the mean); the difference of an image is the mean over its masks and over seeds. "
            f"An asterisk marks p < {ALPHA} after Holm's adjustment for all "
            f"{tests} tests of this table (rows, metrics and columns). Intervals and tests describe these trained "
            "networks on similar images, not repeated training: for that, compare a difference with the spread of "
            "the seeds."
        )
    lowest = 2 / 2**images  # if all images differ in the same direction
    if tests and lowest * tests >= ALPHA:
        notes.append(
            f"With {images} images p can't be below {lowest:.2g}, and after adjustment for {tests} tests not below "
            f"{ALPHA}: no difference can be significant."
        )
    return notes
