"""Means of scores over images, masks and seeds, with intervals, for each column of a paper's table."""

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.common.errors import InputError
from src.evaluation.bootstrap import Bootstrap, Estimate
from src.evaluation.tables import ALL
from src.masks.hole_ratios import BINS, bin_name

MEAN = "mean"
"""Label of the last column of a table with several bins: all their records together."""

Values = NDArray[np.float64]
Chosen = NDArray[np.bool_]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Series:
    """One value per record: the mean over seeds, and the values of each seed."""

    mean: Values
    by_seed: Mapping[int, Values]

    @classmethod
    def of(cls, by_seed: Mapping[int, Values]) -> "Series":
        """Average the scores of several seeds."""
        return cls(np.mean(list(by_seed.values()), axis=0), by_seed)

    def minus(self, other: "Series") -> "Series":
        """Subtract means, whichever seeds they are over, and the values of the seeds that both series have."""
        with np.errstate(invalid="ignore"):  # inf - inf is NaN
            common = sorted(self.by_seed.keys() & other.by_seed.keys())
            by_seed = {seed: self.by_seed[seed] - other.by_seed[seed] for seed in common}
            return Series(self.mean - other.mean, by_seed)


def select_records(bins: Sequence[str], records: pd.DataFrame) -> dict[str, Chosen]:
    """Return masks of the records in each of a table's bins, and in their mean if there are several bins.

    If the edges of a bin are edges of `BINS`, the column ``bin`` decides, so that hole ratios on an edge are binned as
    they were in scoring; otherwise the column ``hole_ratio`` does.

    Raises:
        InputError: a bin is neither ``all`` nor of the form ``(0.1,0.2]``.
    """
    found = {label: _in_bin(label, records) for label in bins}
    if len(bins) > 1 and ALL not in bins:
        found[MEAN] = np.any(list(found.values()), axis=0)
    return found


def _in_bin(label: str, records: pd.DataFrame) -> Chosen:
    if label == ALL:
        return np.ones(len(records), dtype=bool)
    edges = re.fullmatch(r"\(([\d.]+),([\d.]+)\]", label)
    if edges is None:
        raise InputError(f"bins: {label!r} must be (low,high], such as (0.1,0.2], or {ALL}")
    low, high = map(float, edges.groups())
    if {low, high} <= {edge for hole_ratio_bin in BINS for edge in hole_ratio_bin}:
        inside = [bin_name(each) for each in BINS if low <= each[0] and each[1] <= high]
        return records["bin"].isin(inside).to_numpy(bool)
    hole_ratio = records["hole_ratio"].to_numpy(np.float64)
    return (low < hole_ratio) & (hole_ratio <= high)


def estimate_means(
    series: Mapping[Key, Series], chosen: Chosen, images: NDArray[np.str_], bootstrap: Bootstrap
) -> dict[Key, Estimate]:
    """Return the means over the `chosen` records; means that are NaN are left out.

    Shapes:
        chosen, images (N,) for the N records of each series.
    """
    if not series or not chosen.any():
        return {}
    values = np.stack([each.mean[chosen] for each in series.values()], axis=1)
    intervals = bootstrap.intervals(values, images[chosen])  # a single call, so that all series share the resamples
    with np.errstate(invalid="ignore"):  # the mean of inf and -inf is NaN
        found = {
            key: Estimate(
                float(each.mean[chosen].mean()),
                interval,
                {seed: float(own[chosen].mean()) for seed, own in each.by_seed.items()},
            )
            for (key, each), interval in zip(series.items(), intervals, strict=True)
        }
    return {key: estimate for key, estimate in found.items() if not np.isnan(estimate.mean)}
