"""Means of records over pictures, masks and seeds: by column of a paper's table, each with its interval."""

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
"""The column behind several bins: all their records together."""

Values = NDArray[np.float64]
Chosen = NDArray[np.bool_]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Series:
    """A number for every record: the mean over seeds, and each seed's own."""

    mean: Values
    by_seed: Mapping[int, Values]

    @classmethod
    def of(cls, by_seed: Mapping[int, Values]) -> "Series":
        """The mean of what seeds scored."""
        return cls(np.mean(list(by_seed.values()), axis=0), by_seed)

    def less(self, other: "Series") -> "Series":
        """The difference of the two means, whichever seeds they are of, and those of the seeds that both have."""
        with np.errstate(invalid="ignore"):  # inf - inf is not a number
            common = sorted(self.by_seed.keys() & other.by_seed.keys())
            by_seed = {seed: self.by_seed[seed] - other.by_seed[seed] for seed in common}
            return Series(self.mean - other.mean, by_seed)


def selections(bins: Sequence[str], records: pd.DataFrame) -> dict[str, Chosen]:
    """Which records belong to each of a table's bins, and to their mean where there are several.

    A bin whose edges are edges of `BINS` is taken from the column ``bin``, so that what lies on an edge falls as it
    did when it was scored; another by its hole ratio.

    Raises:
        InputError: a bin reads neither ``(0.1,0.2]`` nor ``all``.
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
        raise InputError(f"bins: {label!r} can't be read, write (low,high] or {ALL}")
    low, high = map(float, edges.groups())
    if {low, high} <= {edge for hole_ratio_bin in BINS for edge in hole_ratio_bin}:
        inside = [bin_name(each) for each in BINS if low <= each[0] and each[1] <= high]
        return records["bin"].isin(inside).to_numpy(bool)
    share = records["hole_ratio"].to_numpy(np.float64)
    return (low < share) & (share <= high)


def estimates(
    series: Mapping[Key, Series], chosen: Chosen, pictures: NDArray[np.str_], bootstrap: Bootstrap
) -> dict[Key, Estimate]:
    """The means over the records that are `chosen`; one that is not a number is left out.

    Shapes:
        chosen, pictures (N,) for the N records of each series.
    """
    if not series or not chosen.any():
        return {}
    values = np.stack([each.mean[chosen] for each in series.values()], axis=1)
    intervals = bootstrap.intervals(values, pictures[chosen])  # in one call, as it draws once for all
    with np.errstate(invalid="ignore"):  # the mean of inf and -inf is not a number
        found = {
            key: Estimate(
                float(each.mean[chosen].mean()),
                interval,
                {seed: float(own[chosen].mean()) for seed, own in each.by_seed.items()},
            )
            for (key, each), interval in zip(series.items(), intervals, strict=True)
        }
    return {key: estimate for key, estimate in found.items() if not np.isnan(estimate.mean)}


def picture_means(values: Values, pictures: NDArray[np.str_]) -> Values:
    """Of every picture, the mean over its masks."""
    _, picture = np.unique(pictures, return_inverse=True)
    means: Values = np.bincount(picture, weights=values) / np.bincount(picture)
    return means
