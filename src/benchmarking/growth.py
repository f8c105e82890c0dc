"""How cost grows: the exponent of a power law through measurements of several sizes, batches, workers or processes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

FEWEST = 3
"""Measurements from which an exponent is told: two lie on every power law."""

_KINDS = {
    "pixels": ("forward", "training", "layer", "masks"),
    "batch_size": ("forward", "training", "layer"),
    "workers": ("loading",),
    "processes": ("processes",),
}
_ALONGSIDE = ("batch_size", "workers", "processes")
PARALLEL = ("workers", "processes")
"""More of these share the work: what is told is the time of one sample, and perfect is an exponent of -1."""


@dataclass(frozen=True)
class Series:
    """What was measured of one thing along an axis.

    Args:
        what, name: as in the records.
        against: "pixels", "batch_size", "workers" or "processes".
        at: what stayed the same, in words.
        x: places on the axis, in order; each above 0.
        seconds: of a run, or along workers and processes of a sample.
        peak_bytes: beyond what is there before; None where memory was not measured everywhere.
    """

    what: str
    name: str
    against: str
    at: str
    x: NDArray[np.float64]
    seconds: NDArray[np.float64]
    peak_bytes: NDArray[np.float64] | None

    @property
    def time_exponent(self) -> float | None:
        """None for fewer than `FEWEST` measurements."""
        return exponent(self.x, self.seconds) if len(self.x) >= FEWEST else None

    @property
    def memory_exponent(self) -> float | None:
        """None where memory was not measured."""
        return None if self.peak_bytes is None else exponent(self.x, self.peak_bytes)


def exponent(x: ArrayLike, y: ArrayLike) -> float:
    """a of y = c x^a, by least squares on logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def series_of(frame: pd.DataFrame) -> list[Series]:
    """Whatever was measured at three or more places of an axis, or with two numbers of workers, all else the same.

    Args:
        frame: records of `src.benchmark`; those without a time are left out, as is the loader without workers.
    """
    if "median_s" not in frame:
        return []
    usable = frame[frame["median_s"].notna()]
    usable = usable.assign(pixels=usable["side_px"].astype(float) ** 2)
    return list(_all_series(usable))


def _all_series(frame: pd.DataFrame) -> Iterator[Series]:
    for against, kinds in _KINDS.items():
        if against not in frame:
            continue
        alike = ["what", "name", "device", *(c for c in ("pixels", *_ALONGSIDE) if c in frame and c != against)]
        for _, group in frame[frame["what"].isin(kinds)].groupby(alike, sort=False, dropna=False):
            points = group[group[against] > 0].drop_duplicates(against).sort_values(against)
            if len(points) >= (2 if against in PARALLEL else FEWEST):
                yield _series(points, against)


def _series(points: pd.DataFrame, against: str) -> Series:
    first = points.iloc[0]
    memory = None if against in PARALLEL or "peak_bytes" not in points else points["peak_bytes"].to_numpy(float)
    at = [f"batch {first['batch_size']:.0f}"] if against != "batch_size" and first["what"] != "masks" else []
    at += [f"{first['side_px']:.0f} px"] if against != "pixels" else []
    return Series(
        first["what"],
        first["name"],
        against,
        ", ".join(at),
        points[against].to_numpy(float),
        1 / points["per_second"].to_numpy(float) if against in PARALLEL else points["median_s"].to_numpy(float),
        memory if memory is not None and (memory > 0).all() else None,  # NaN is not, either
    )
