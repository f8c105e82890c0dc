"""What is said under a reproduced table: which scores, what is missing and why, and what intervals and tests mean."""

from collections.abc import Mapping, Sequence

import numpy as np

from src.evaluation.bootstrap import Bootstrap
from src.evaluation.records import score_column
from src.evaluation.significance import ALPHA
from src.metrics.metric import Metric
from src.reproduction import papers
from src.reproduction.estimates import MEAN, select_records
from src.reproduction.outcomes import NOT_RUN, RowOutcome, Scored

FEW_PICTURES = 30
"""Percentile intervals of fewer pictures are called too narrow; how much was simulated, 4,000 times each."""


def notes_on(
    table: papers.PaperTable,
    metrics: Sequence[Metric],
    outcomes: Mapping[str, RowOutcome],
    scored: Scored,
    bootstrap: Bootstrap,
    *,
    tests: int,
) -> list[str]:
    """A paragraph each; what is missing comes first.

    Args:
        metrics: the table's, as they are shown.
        tests: how many p values were adjusted together.
    """
    found = [*_on_rows(table, outcomes), *_on_scores(table, metrics, scored)]
    if scored.frames:
        found += [*_on_records(table, scored), *_on_formulas(table, metrics, scored)]
        found += _on_statistics(bootstrap, tests, _pictures(scored), ordered=table.kind != "unprinted")
    return found


def _on_rows(table: papers.PaperTable, outcomes: Mapping[str, RowOutcome]) -> list[str]:
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
            notes.append(f"{method}: not trained here, a given checkpoint, {outcome.given}.")
        notes += [
            f"{method}: seed {seed} failed with {failure.error} (the rest is in {failure.log})."
            for seed, failure in sorted(outcome.failures.items())
        ]
    seeds = {method: tuple(sorted(outcome.records)) for method, outcome in built.items() if outcome.records}
    if len(set(seeds.values())) > 1:
        listed = "; ".join(f"{method} {', '.join(map(str, own))}" for method, own in seeds.items())
        notes.append(f"Rows are means over different seeds, and so are their differences: {listed}.")
    elif seeds:
        own = next(iter(seeds.values()))
        notes.append(f"Ours are means over {len(own)} seeds, {', '.join(map(str, own))}." if len(own) > 1 else
                     f"Ours are of one seed, {own[0]}: how far another would move them is not known.")  # fmt: skip
    return notes


def _on_scores(table: papers.PaperTable, metrics: Sequence[Metric], scored: Scored) -> list[str]:
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
                        f"{metric.name} of {method}, seed {seed}: {bad} of {len(frame)} records are not finite; where "
                        "they are, there is no interval and no test."
                    )
        for reason, methods in absent.items():
            of = "" if len(methods) == len(rows) else f" of {'; '.join(methods)}"
            notes.append(f"{metric.name}{of} is not shown: {reason}.")
    return notes


def _on_records(table: papers.PaperTable, scored: Scored) -> list[str]:
    chosen = select_records(table.bins, scored.first)
    notes = [f"No record has a hole ratio in {label}." for label, found in chosen.items() if not found.any()]
    if MEAN in chosen:
        notes.append(
            f"{MEAN}: ours is over all records of the printed bins together; the paper's is the mean of its printed "
            "values."
        )
    notes.append(
        f"Ours are scored on composites: known pixels are pasted back first. {len(scored.first)} records a run, of "
        f"{_pictures(scored)} pictures."
    )
    return notes


def _pictures(scored: Scored) -> int:
    return len(scored.first[["data", "path"]].drop_duplicates())


def _on_formulas(table: papers.PaperTable, metrics: Sequence[Metric], scored: Scored) -> list[str]:
    notes = ["In the formulas d = output - truth."]
    for metric, shown in zip(table.metrics, metrics, strict=True):
        column = score_column("composite", shown.name)
        if any(column in frame for frames in scored.frames.values() for frame in frames.values()):
            printed_as = f" (the paper: {metric.definition})" if metric.definition else ""
            notes.append(f"{shown.label}: {shown.formula}{printed_as}.")
    return notes


def _on_statistics(bootstrap: Bootstrap, tests: int, pictures: int, *, ordered: bool) -> list[str]:
    notes = [
        f"In brackets: {bootstrap.confidence:.0%} percentile bootstrap intervals of the mean over pictures, "
        f"{bootstrap.resamples} resamples, seed {bootstrap.seed}; a score is averaged over seeds first.",
    ]
    if 1 < pictures < FEW_PICTURES:
        notes.append(
            f"Of {pictures} pictures these intervals are too narrow: of normal numbers, 95% intervals of 2 hold the "
            "mean in 50% of all cases, of 5 in 83%, of 10 in 90%, of 50 in 93%."
        )
    if ordered:
        notes.append(
            "Order: Spearman's rho and Kendall's tau-b between the printed values and ours, over rows that have both; "
            "p by permuting rows, which of three rows can't be below 0.33, of four 0.08."
        )
    if tests:
        notes.append(
            "Differences are tested by the Wilcoxon signed-rank test over pictures, p twice the one-sided one on the "
            "side of the mean; a picture's difference is the mean over its masks and over seeds. "
            f"An asterisk marks p < {ALPHA} after Holm's adjustment for all "
            f"{tests} tests of this table (rows, metrics and columns). Intervals and tests are about these trained "
            "networks on other pictures like these, not about training them again: for that, compare a difference "
            "with the spread of the seeds."
        )
    lowest = 2 / 2**pictures  # all pictures differ in one direction
    if tests and lowest * tests >= ALPHA:
        notes.append(
            f"Of {pictures} pictures p can't be below {lowest:.2g}, and adjusted for {tests} tests not below {ALPHA}: "
            "no difference can be marked."
        )
    return notes
