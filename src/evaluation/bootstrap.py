"""Percentile bootstrap of means over images."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

_WEIGHTS_PER_BLOCK = 1 << 22  # 32 MiB of float64 at a time


@dataclass(frozen=True)
class Estimate:
    """A mean over records, its interval over images, and the mean of each training seed if there are several runs."""

    mean: float
    interval: Interval | None = None
    by_seed: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bootstrap:
    """Percentile intervals: outer quantiles of `resamples` means over images drawn with replacement.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, Sec. 13.3 (percentile interval).
    """

    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 1 or not 0 < self.confidence < 1:
            raise ValueError(f"resamples must be positive and confidence lie in (0, 1), got {self}")

    def intervals(self, values: NDArray[np.float64], images: NDArray[np.generic]) -> list[Interval | None]:
        """Return an interval for the mean of each column of `values`.

        mean* = sum_p w_p s_p / sum_p w_p n_p,  w ~ Multinomial(P; 1/P ...)
        for P images with n_p rows that sum to s_p. Whole images are resampled, as masks on one image are not
        independent. All columns and calls share the resamples: an interval does not depend on the other methods.

        Shapes:
            values (N, K), one row per record; images (N,), the image of each record. Returns K intervals; None
            if a value of the column is not finite, or if there are fewer than two images.
        """
        _, image = np.unique(images, return_inverse=True)
        image_count = int(image.max()) + 1 if len(image) else 0
        usable = np.all(np.isfinite(values), axis=0)
        if image_count < 2:
            return [None] * values.shape[1]
        rows = np.bincount(image, minlength=image_count).astype(np.float64)
        sums = np.zeros((image_count, int(usable.sum())))
        np.add.at(sums, image, values[:, usable])

        rng = np.random.default_rng(self.seed)
        block = max(1, _WEIGHTS_PER_BLOCK // image_count)
        means = []
        for start in range(0, self.resamples, block):
            size = min(block, self.resamples - start)
            drawn = rng.integers(image_count, size=(size, image_count))
            flat = drawn + image_count * np.arange(size)[:, None]
            weights = np.bincount(flat.ravel(), minlength=size * image_count).reshape(size, image_count)
            means.append(weights @ sums / (weights @ rows)[:, None])
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(np.concatenate(means), (tail, 1 - tail), axis=0)
        found = iter(zip(low.tolist(), high.tolist(), strict=True))
        return [next(found) if column_usable else None for column_usable in usable]


def image_means(values: NDArray[np.float64], images: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the mean over the masks of each image: (N,) values of the records of (N,) images to (images,)."""
    _, index = np.unique(images, return_inverse=True)
    means: NDArray[np.float64] = np.bincount(index, weights=values) / np.bincount(index)
    return means
