"""Percentile bootstrap of means over pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

_WEIGHTS_PER_BLOCK = 1 << 22  # 32 MiB of float64 at a time


@dataclass(frozen=True)
class Estimate:
    """A mean over records.

    Attributes:
        interval: over images; None where there is none.
        by_seed: the mean of each training seed, where there are several runs of one method.
    """

    mean: float
    interval: Interval | None = None
    by_seed: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are found: `resamples` means over pictures drawn with replacement, and their outer quantiles.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, Sec. 13.3 (percentile interval).
    """

    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 1 or not 0 < self.confidence < 1:
            raise ValueError(f"resamples must be positive and confidence lie in (0, 1), got {self}")

    def intervals(self, values: NDArray[np.float64], pictures: NDArray[np.generic]) -> list[Interval | None]:
        """An interval for the mean of each column of `values`.

        Whole pictures are drawn, with all their masks: two masks on one picture do not say what two pictures do.

        mean* = sum_p w_p s_p / sum_p w_p n_p,  w ~ Multinomial(P; 1/P ...)
        for P pictures with n_p rows that sum to s_p. The same draws serve all columns, and the same seed every call, so
        that an interval does not depend on which other methods are asked about.

        Shapes:
            values (N, K), one row a record; pictures (N,), which picture a record is of. Returns K intervals; None
            where a value is not finite, and everywhere if there are fewer than two pictures.
        """
        _, picture = np.unique(pictures, return_inverse=True)
        picture_count = int(picture.max()) + 1 if len(picture) else 0
        usable = np.all(np.isfinite(values), axis=0)
        if picture_count < 2:
            return [None] * values.shape[1]
        rows = np.bincount(picture, minlength=picture_count).astype(np.float64)
        sums = np.zeros((picture_count, int(usable.sum())))
        np.add.at(sums, picture, values[:, usable])

        rng = np.random.default_rng(self.seed)
        block = max(1, _WEIGHTS_PER_BLOCK // picture_count)
        means = []
        for start in range(0, self.resamples, block):
            size = min(block, self.resamples - start)
            drawn = rng.integers(picture_count, size=(size, picture_count))
            flat = drawn + picture_count * np.arange(size)[:, None]
            weights = np.bincount(flat.ravel(), minlength=size * picture_count).reshape(size, picture_count)
            means.append(weights @ sums / (weights @ rows)[:, None])
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(np.concatenate(means), (tail, 1 - tail), axis=0)
        found = iter(zip(low.tolist(), high.tolist(), strict=True))
        return [next(found) if column_usable else None for column_usable in usable]
