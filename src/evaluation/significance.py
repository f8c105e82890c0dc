"""Paired tests and rank correlations, as pure functions of numbers."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

ALPHA = 0.05
"""Significance level of adjusted p values."""

MIN_ROWS = 3
"""Minimum for a rank correlation: with two rows it is always 1 or -1."""

_MAX_PERMUTATIONS = 50_000  # enough for all 40,320 of eight rows


def signed_rank_p(differences: ArrayLike) -> float:
    """Return the two-sided p of the Wilcoxon signed-rank test that differences are symmetric about 0.

    It is twice the one-sided p in the direction of the mean, at most 1: the usual two-sided p would call a mean
    significant even if the ranks contradict its sign, which a few large differences can cause.
    Differences of exactly 0 are left out, as in Wilcoxon's paper; if all are 0, p is 1.
    Source: Wilcoxon 1945, Individual comparisons by ranking methods.

    Shapes:
        differences (P,), finite, one per image.
    """
    found = np.asarray(differences, dtype=np.float64)
    if not found.any():
        return 1.0
    side = "greater" if found.mean() > 0 else "less"
    return min(1.0, 2 * float(stats.wilcoxon(found, alternative=side).pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number m by Holm's method, at most 1.

    The k-th smallest becomes the maximum of (m - j + 1) p_j for j up to k. Rejecting the tests with an adjusted p below
    alpha bounds the probability of any false rejection by alpha, whatever the dependence between the tests.
    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return [float(value) for value in adjusted]


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its two-sided p: the share of row permutations with one at least as far from 0."""

    value: float
    p: float


@dataclass(frozen=True)
class Agreement:
    """Agreement of two lists of values on the order of the same rows.

    Attributes:
        rows: number of rows.
        spearman, kendall: rho and tau-b; None for fewer than three rows, or if all values of a list are equal.
        pairs, pairs_alike: number of pairs of rows whose printed values differ, and how many our values order alike.
        best_printed, best_ours: the best rows; several if they tie.
    """

    rows: int
    spearman: Correlation | None
    kendall: Correlation | None
    pairs: int
    pairs_alike: int
    best_printed: tuple[str, ...]
    best_ours: tuple[str, ...]

    @property
    def same_best(self) -> bool:
        """Whether the paper and our values share a best row; ties count."""
        return bool(set(self.best_printed) & set(self.best_ours))


def rank_agreement(
    names: Sequence[str], printed: ArrayLike, ours: ArrayLike, *, higher_is_better: bool
) -> Agreement | None:
    """Return the agreement of two lists of values for the rows `names`; None for fewer than two rows."""
    x, y = (np.asarray(values, dtype=np.float64) for values in (printed, ours))
    if len(names) < 2:
        return None
    x_signs, y_signs = pair_signs(x), pair_signs(y)
    differs = x_signs != 0
    spearman = kendall = None
    if len(x) >= MIN_ROWS and len(np.unique(x)) > 1 and len(np.unique(y)) > 1:
        x_ranks, y_ranks = (stats.rankdata(values) - (len(values) + 1) / 2 for values in (x, y))
        orders = _permutations(len(x))
        spearman_p = _permutation_p(x_ranks[orders] @ y_ranks)
        spearman = Correlation(float(stats.spearmanr(x_ranks, y_ranks).statistic), spearman_p)
        kendall_p = _permutation_p(pair_signs(x[orders]) @ y_signs.astype(np.float64))
        kendall = Correlation(float(stats.kendalltau(x, y).statistic), kendall_p)
    extreme = np.max if higher_is_better else np.min
    best_printed, best_ours = (
        tuple(name for name, value in zip(names, values, strict=True) if value == extreme(values)) for values in (x, y)
    )
    alike = int((x_signs == y_signs)[differs].sum())
    return Agreement(len(names), spearman, kendall, int(differs.sum()), alike, best_printed, best_ours)


@cache
def _permutations(count: int) -> NDArray[np.intp]:
    """Return the identity and all other permutations, or a fixed random sample if there are too many."""
    if math.factorial(count) <= _MAX_PERMUTATIONS:
        return np.array(list(itertools.permutations(range(count))))
    straight = np.arange(count)
    drawn = np.random.default_rng(0).permuted(np.tile(straight, (_MAX_PERMUTATIONS, 1)), axis=1)
    return np.concatenate([straight[None], drawn])


def _permutation_p(found: NDArray[Any]) -> float:
    """Return the share of values at least as far from 0 as the first, the observed one."""
    return float(np.mean(np.abs(found) >= abs(found[0]) - 1e-9))


def pair_signs(values: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return the sign, -1, 0 or 1, of the difference of every pair of columns: (..., K) to (..., K (K - 1) / 2).

    It compares instead of subtracting, as inf - inf is NaN.
    """
    first, second = np.triu_indices(values.shape[-1], k=1)
    one, other = values[..., first], values[..., second]
    return (one > other).astype(np.int8) - (one < other).astype(np.int8)
