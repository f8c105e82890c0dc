"""How well scores agree with people: Kendall's tau between votes and per-image scores, with intervals over voters."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.common.errors import InputError
from src.evaluation.bootstrap import Bootstrap, Interval
from src.evaluation.records import MethodRecords, score_column
from src.evaluation.same_test import require_same_test
from src.evaluation.significance import pair_signs
from src.metrics.metric import Metric
from src.metrics.scores import METRICS

Values = NDArray[np.float64]

_SIGNS_PER_BLOCK = 1 << 24
"""Number of pairs of methods, in all images and resamples, that are compared at a time: 128 MiB of float64."""


@dataclass(frozen=True)
class ScoreAgreement:
    """Agreement of one score with the votes.

    Attributes:
        tau: mean over `images` of Kendall's tau-b between votes and score; 1 if each image's order of the methods is
            the same.
        interval: over voters; None for a single one.
        images: number of images in which neither all votes nor all scores are equal.
    """

    metric: Metric
    tau: float
    interval: Interval | None
    images: int


@dataclass(frozen=True)
class Agreement:
    """Agreement of all scores with the votes, the best first, and notes on what was compared."""

    scores: tuple[ScoreAgreement, ...]
    notes: tuple[str, ...]


def agreement_with_scores(
    votes: pd.DataFrame, facts: Mapping[str, Any], records: Sequence[MethodRecords], bootstrap: Bootstrap | None = None
) -> Agreement:
    """Correlate votes with the scores of the composites on the same images.

    tau-b = (pairs in the same order - pairs in the opposite order) / sqrt(pairs with different votes x pairs with
    different scores), over the pairs of methods of an image; a score for which lower is better counts negatively.
    Source: Kendall 1945, The treatment of ties in ranking problems.

    Args:
        votes, facts: `Votes.table()` and `Votes.facts`.
        records: as `read_listed` returns them. A method is the one whose votes are counted under the same name. An
            image is the one with the name of the question, without suffix; `<name>_<index>` names one of several
            records of an image by its index.
        bootstrap: how to compute the intervals, whose resamples are of whole voters.
    Raises:
        InputError: the records are of different tests, or fewer than two methods or no images are those of the study.
    """
    bootstrap = bootstrap or Bootstrap()
    by_name = {each.origin.method.casefold(): each for each in records}
    methods = [method for method in facts["methods"] if method.casefold() in by_name]
    if len(methods) < 2:
        raise InputError(
            f"records has scores of {', '.join(each.origin.method for each in records)}, but the study's methods are "
            f"{', '.join(facts['methods'])}: name at least two of these, as in records={{name: a.parquet, other: "
            "b.parquet}"
        )
    chosen = [by_name[method.casefold()] for method in methods]
    require_same_test({each.origin.file.path: (each.origin.provenance, each.frame) for each in chosen})
    frames = [each.frame.sort_values("index", ignore_index=True) for each in chosen]
    rows = _match_questions(list(facts["images"]), frames[0])
    if not rows:
        raise InputError(
            f"records has no scores of the study's images, such as {next(iter(facts['images']))}: their names without "
            "suffix must be those of the scored images, or <name>_<index> with the index of a record"
        )
    metrics = [m for m in METRICS.values() if all(score_column("composite", m.name) in frame for frame in frames)]
    counts = _count_votes(votes, list(rows), methods)
    scores = np.stack([_signed_scores(metric, frames, list(rows.values())) for metric in metrics])
    taus, used = mean_taus(counts.sum(axis=0), scores)
    intervals = _intervals(counts, scores, bootstrap)
    found = [ScoreAgreement(*each) for each in zip(metrics, taus.tolist(), intervals, used.tolist(), strict=True)]
    compared = sorted((each for each in found if each.images), key=lambda each: -each.tau)
    constant = [each.metric.label for each in found if not each.images]
    return Agreement(tuple(compared), tuple(_notes(facts, methods, list(rows), constant, bootstrap)))


def mean_taus(votes: Values, scores: Values) -> tuple[Values, NDArray[np.intp]]:
    """Return the mean over images of Kendall's tau-b between votes and scores, and the number of images it is over.

    Images in which all votes or all scores are equal, or a score is NaN, have no tau and are left out.

    Shapes:
        votes (..., I, M) for M methods on I images; scores (S, I, M), higher is better. Returns (..., S) twice.
    """
    of_votes, of_scores = (pair_signs(values).astype(np.float64) for values in (votes, scores))
    of_scores = np.where(np.isnan(scores).any(axis=-1, keepdims=True), 0, of_scores)
    agreeing = np.einsum("...ip,sip->...si", of_votes, of_scores)
    possible = np.sqrt(np.abs(of_votes).sum(axis=-1)[..., None, :] * np.abs(of_scores).sum(axis=-1))
    tau = np.divide(agreeing, possible, out=np.zeros_like(agreeing), where=possible > 0)
    images = (possible > 0).sum(axis=-1)
    with np.errstate(invalid="ignore"):  # NaN without any image
        return tau.sum(axis=-1) / images, images


def _match_questions(questions: Sequence[str], records: pd.DataFrame) -> dict[str, int]:
    """Return the position of the record of each question that has one.

    Raises:
        InputError: an image has several records, and the question names none of them.
    """
    by_name: dict[str, list[int]] = defaultdict(list)
    for position, (path, index) in enumerate(zip(records["path"], records["index"], strict=True)):
        stem = PurePath(path).stem
        by_name[stem].append(position)
        by_name[f"{stem}_{index}"].append(position)
    for question in questions:
        if len(found := by_name.get(question, [])) > 1:
            raise InputError(
                f"records has {len(found)} scores of {question}, of several crops or masks: name the study's image "
                f"{question}_<index>, such as {question}_{records['index'][found[0]]}, for the record with that index"
            )
    return {question: by_name[question][0] for question in questions if question in by_name}


def _count_votes(votes: pd.DataFrame, questions: Sequence[str], methods: Sequence[str]) -> Values:
    """Return the votes of each voter: (voters, questions, methods)."""
    voters, voter = np.unique(votes["voter"].to_numpy(str), return_inverse=True)
    question = pd.Index(questions).get_indexer(pd.Index(votes["question"]))
    method = pd.Index(methods).get_indexer(pd.Index(votes["method"]))
    known = (question >= 0) & (method >= 0)
    counts = np.zeros((len(voters), len(questions), len(methods)))
    np.add.at(counts, (voter[known], question[known], method[known]), 1)
    return counts


def _signed_scores(metric: Metric, frames: Sequence[pd.DataFrame], rows: Sequence[int]) -> Values:
    """Return the scores of each image and method, higher is better: (images, methods)."""
    column = score_column("composite", metric.name)
    values = np.stack([frame[column].to_numpy(np.float64)[rows] for frame in frames], axis=1)
    return values if metric.higher_is_better else -values


def _intervals(counts: Values, scores: Values, bootstrap: Bootstrap) -> list[Interval | None]:
    voters, images, methods = counts.shape
    if voters < 2:
        return [None] * len(scores)
    rng = np.random.default_rng(bootstrap.seed)
    block = max(1, _SIGNS_PER_BLOCK // (images * methods * (methods - 1) // 2))
    found = []
    for start in range(0, bootstrap.resamples, block):
        size = min(block, bootstrap.resamples - start)
        drawn = rng.integers(voters, size=(size, voters)) + voters * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * voters).reshape(size, voters)
        resampled = (weights @ counts.reshape(voters, -1)).reshape(size, images, methods)
        found.append(mean_taus(resampled, scores)[0])
    taus = np.concatenate(found)
    tail = (1 - bootstrap.confidence) / 2
    bounds = [np.quantile(own[~np.isnan(own)], (tail, 1 - tail)) if not np.isnan(own).all() else None for own in taus.T]
    return [None if bound is None else (float(bound[0]), float(bound[1])) for bound in bounds]


def _notes(
    facts: Mapping[str, Any], methods: Sequence[str], questions: Sequence[str], constant: Sequence[str], used: Bootstrap
) -> list[str]:
    notes = [
        "Kendall's tau-b between the votes for the methods and their scores on the same image, averaged over images: "
        "1 if votes and score order the methods alike, -1 if in reverse, 0 if they are unrelated. Scores are those of "
        "composites. Images in which all votes or all scores are equal are left out.",
        f"{used.confidence:.0%} percentile bootstrap intervals over voters, on the same images ({used.resamples} "
        f"resamples of whole voters, seed {used.seed}). Few votes on an image order its methods partly by chance: then "
        "tau is below 1 for any score, and intervals lie low, as resamples add chance.",
    ]
    if absent := [method for method in facts["methods"] if method not in methods]:
        notes.append(f"Without scores, and left out with their votes: {', '.join(absent)}.")
    if missing := len(facts["images"]) - len(questions):
        notes.append(f"{missing} of the {len(facts['images'])} images of the study have no scores and are left out.")
    if constant:
        notes.append(f"Not shown, as they are equal for all methods in every image: {', '.join(constant)}.")
    return notes
