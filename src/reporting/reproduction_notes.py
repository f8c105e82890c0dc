"""What is said under a reproduced table: which scores, what is missing and why, and what intervals and tests mean."""

import math
from collections.abc import Mapping

import numpy as np

from src.errors import InputError
from src.metrics.lpips import LPIPS
from src.metrics.scores import SCORES
from src.reporting import papers
from src.reporting.bootstrap import Bootstrap
from src.reporting.estimates import MEAN, selections
from src.reporting.outcomes import NOT_RUN, RowOutcome, Scored
from src.reporting.records import score_column
from src.reporting.significance import ALPHA
from src.reporting.tables import Metric

OUTPUT = "composite"
"""The output that is compared with the papers: known pixels are pasted back."""

_SCORES = {score.name: score for score in (*SCORES, LPIPS)}


def shown_metric(metric: papers.Metric) -> Metric:
    """A paper's metric as tables show it, with the decimals of the paper or of our score, whichever has more.

    Raises:
        InputError: it names a score that this suite does not have.
    """
    printed = metric.decimals or 0
    if metric.ours is None:
        return Metric("", metric.name, metric.unit or "", printed, metric.direction == "higher", formula="")
    if metric.ours not in _SCORES:
        raise InputError(f"metric {metric.name}: ours must be one of {', '.join(_SCORES)}, got {metric.ours}")
    score = _SCORES[metric.ours]
    return Metric(
        column=score_column(OUTPUT, score.name),
        label=metric.name,
        unit=metric.unit or "",
        decimals=max(printed, score.decimals - round(math.log10(metric.factor))),
        higher_is_better=metric.direction == "higher",
        formula=score.formula + (f", times {metric.factor:g}" if metric.factor != 1 else ""),
    )


def notes_on(
    table: papers.PaperTable, outcomes: Mapping[str, RowOutcome], scored: Scored, bootstrap: Bootstrap, *, tests: int
) -> list[str]:
    """A paragraph each; what is missing comes first."""
    return [
        *_on_rows(table, outcomes),
        *_on_metrics(table, outcomes, scored),
        *_on_records(table, scored),
        *_on_method(table, scored, bootstrap, tests),
    ]


def _on_rows(table: papers.PaperTable, outcomes: Mapping[str, RowOutcome]) -> list[str]:
    notes = []
    absent: dict[str, list[str]] = {}
    for row in table.rows:
        if row.why is not None:
            absent.setdefault(row.why, []).append(row.method)
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


def _on_metrics(table: papers.PaperTable, outcomes: Mapping[str, RowOutcome], scored: Scored) -> list[str]:
    notes = []
    for metric in table.metrics:
        if metric.ours is None:
            notes.append(f"{metric.name} is not scored here: {metric.why}.")
            continue
        column = score_column(OUTPUT, metric.ours)
        reasons: dict[str, list[str]] = {}
        for row in table.rows:
            frames = scored.frames.get(str(row.row), {})
            if not all(column in frame for frame in frames.values()):
                reason = scored.absent[str(row.row)].get(metric.ours, "not computed")
                reasons.setdefault(reason, []).append(row.method)
        for reason, methods in reasons.items():
            of = "" if len(methods) == len(scored.frames) else f" of {', '.join(methods)}"
            notes.append(f"{metric.name}{of} is not shown: {reason}.")
        for row in table.rows:
            for seed, frame in scored.frames.get(str(row.row), {}).items():
                if column in frame and not (finite := np.isfinite(frame[column])).all():
                    notes.append(
                        f"{metric.name} of {row.method}, seed {seed}: {int((~finite).sum())} of {len(frame)} records "
                        "are not finite, so what they are part of has no interval and no test."
                    )
    return notes


def _on_records(table: papers.PaperTable, scored: Scored) -> list[str]:
    if not scored.frames:
        return []
    chosen = selections(table.bins, scored.first)
    notes = [f"No record has a hole share in {label}." for label, found in chosen.items() if not found.any()]
    if MEAN in chosen:
        notes.append(
            f"{MEAN}: ours is over all records of the printed bins together; the paper's is the mean of its printed "
            "values."
        )
    return notes


def _on_method(table: papers.PaperTable, scored: Scored, bootstrap: Bootstrap, tests: int) -> list[str]:
    if not scored.frames:
        return []
    first = scored.first
    pictures = len(first[["data", "path"]].drop_duplicates())
    notes = [
        f"Ours are scored on composites: known pixels are pasted back first. {len(first)} records a run, of {pictures} "
        f"pictures.",
        "In the formulas d = output - truth.",
    ]
    for metric in table.metrics:
        shown = shown_metric(metric)
        if shown.formula:
            printed_as = f" (the paper: {metric.definition})" if metric.definition else ""
            notes.append(f"{shown.label}: {shown.formula}{printed_as}.")
    notes.append(
        f"In brackets: {bootstrap.confidence:.0%} percentile bootstrap intervals of the mean over pictures, "
        f"{bootstrap.resamples} resamples, seed {bootstrap.seed}; a score is averaged over seeds first."
    )
    if tests:
        notes.append(
            "Differences are tested by the Wilcoxon signed-rank test, two-sided, over pictures; a picture's difference "
            f"is the mean over its masks and over seeds. An asterisk marks p < {ALPHA} after Holm's adjustment for all "
            f"{tests} tests of this table (rows, metrics and columns). Intervals and tests are about these trained "
            "networks on other pictures like these, not about training them again: for that, compare a difference "
            "with the spread of the seeds."
        )
    notes.append(
        "Order: Spearman's rho and Kendall's tau-b between the printed values and ours, over rows that have both; "
        "p by permuting rows, which of three rows can't be below 0.33, of four 0.08."
    )
    return notes
