"""Set scores of a method: FID, KID, U-IDS and P-IDS over all images, and by hole ratio where there are enough."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from src.evaluation.bootstrap import Bootstrap, Estimate
from src.evaluation.records import SetEstimate
from src.evaluation.tables import ALL, Column, ScoreGroup, ScoreRow
from src.metrics import set_scores
from src.metrics.set_scores import FID, KID, KID_BLOCKS, P_IDS, RELIABLE, SET_METRICS, U_IDS

log = logging.getLogger(__name__)


def estimate_set_scores(features: np.ndarray, bins: Sequence[str]) -> list[SetEstimate]:
    """Return the scores over all samples, and over each bin with at least 10,000 of them.

    KID is left out below 20 samples. Only KID has an interval. There are no scores, but a warning, if a feature is not
    finite, as that of an output with NaN.

    Shapes:
        features (N, 2, D): of the truth and of the composite; bins: N names.
    """
    if count := int((~np.isfinite(features)).any(axis=(1, 2)).sum()):
        log.warning(
            "FID, KID, U-IDS and P-IDS are left out: %d of %d samples have features that are not finite",
            count,
            len(features),
        )
        return []
    names = np.array(bins)
    selections = {ALL: np.ones(len(names), dtype=bool)}
    selections |= {str(name): names == name for name in np.unique(names) if name and (names == name).sum() >= RELIABLE}
    found = []
    for bin_, chosen in selections.items():
        truth, output = torch.from_numpy(features[chosen]).unbind(1)
        if (count := len(truth)) < 2:
            continue
        values: dict[str, Estimate] = {FID.name: Estimate(set_scores.fid(truth, output))}
        if count >= 2 * KID_BLOCKS:
            blocks = set_scores.kid_of_blocks(truth, output).numpy()
            (interval,) = Bootstrap().intervals(blocks[:, None], np.arange(len(blocks)))
            values[KID.name] = Estimate(float(blocks.mean()), interval)
        unpaired, paired = set_scores.inception_discriminative_scores(truth, output)
        values |= {U_IDS.name: Estimate(unpaired), P_IDS.name: Estimate(paired)}
        for name, estimate in values.items():
            low, high = estimate.interval or (None, None)
            found.append(SetEstimate(name, bin_, count, estimate.mean, low, high))
    return found


def set_score_groups(
    by_method: Mapping[str, Sequence[SetEstimate]], columns: Sequence[Column]
) -> tuple[ScoreGroup, ...]:
    """Return the groups of a table for the set scores of its methods; a score without a value is NaN."""

    def estimate(method: str, metric: str, column: Column) -> Estimate:
        for one in by_method[method]:
            if (one.name, one.bin) == (metric, column.label):
                interval = None if one.low is None or one.high is None else (one.low, one.high)
                return Estimate(one.value, interval)
        return Estimate(float("nan"))

    present = {one.name for estimates in by_method.values() for one in estimates}
    groups = []
    for name in (name for name in SET_METRICS if name in present):
        estimates = {method: tuple(estimate(method, name, column) for column in columns) for method in by_method}
        groups.append(ScoreGroup(SET_METRICS[name], tuple(ScoreRow(*row) for row in estimates.items())))
    return tuple(groups)


def set_score_notes(by_method: Mapping[str, Sequence[SetEstimate]]) -> list[str]:
    """Return the formulas and the limits of the set scores in a table."""
    estimates = [one for found in by_method.values() for one in found]
    present = {one.name for one in estimates}
    notes = [f"{metric.label}: {metric.formula}." for name, metric in SET_METRICS.items() if name in present]
    if KID.name in present:
        notes.append("The interval of KID is from a bootstrap of its blocks.")
    if estimates and (fewest := min(one.count for one in estimates)) < RELIABLE:
        notes.append(
            f"FID, U-IDS and P-IDS of {fewest} samples are not comparable with those of {RELIABLE:,}: FID falls "
            "as the number grows, and a linear SVM separates few samples perfectly."
        )
    return notes
