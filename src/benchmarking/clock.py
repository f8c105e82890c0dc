"""Time one function, or several alternately, so that their ratio is meaningful on a shared machine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Run = Callable[[], object]

Record = dict[str, Any]
"""One row of records.parquet by column."""

WARM_UP_RUNS = {"cuda": 3}
"""Untimed runs by device type, 1 if not listed. They fill caches and select algorithms."""

MIN_ROUNDS = 5
"""Rounds that the interval of a ratio needs: with fewer, the bootstrap interval is too narrow."""

_RESAMPLES = 2000


@dataclass(frozen=True)
class MinDuration:
    """Minimum length of a measurement: `min_runs` runs and `min_seconds` in total."""

    min_runs: int
    min_seconds: float


class Stopwatch:
    """Seconds between `start` and `stop`; on a GPU those of the work submitted in between, measured by events."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.started = device, 0.0
        if device.type == "cuda":
            self.begin, self.end = (
                torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
                for _ in range(2)
            )

    def start(self) -> None:
        """Start the clock."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # so that earlier work is not counted
            self.begin.record()
        else:
            self.started = time.perf_counter()

    def stop(self) -> float:
        """Return the seconds since `start`."""
        if self.device.type == "cuda":
            self.end.record()
            self.end.synchronize()
            return float(self.begin.elapsed_time(self.end)) / 1e3
        return time.perf_counter() - self.started


def time_interleaved(
    runs: Sequence[Run], device: torch.device, min_duration: MinDuration, *, warm_up: bool = True
) -> list[list[float]]:
    """Time the runs alternately, round by round, so that a temporary slowdown of the machine affects all of them.

    Every other round is in reverse order, as caches, heat and freed memory depend on what ran before.

    Args:
        warm_up: whether to run each once or more before timing.
    Returns:
        The seconds of each run; the k-th entries of all lists are from one round.
    """
    watch = Stopwatch(device)
    if warm_up:
        for run in runs:
            for _ in range(WARM_UP_RUNS.get(device.type, 1)):
                run()
    seconds: list[list[float]] = [[] for _ in runs]
    while len(seconds[0]) < min_duration.min_runs or min(map(sum, seconds)) < min_duration.min_seconds:
        for i in round_order(len(runs), len(seconds[0])):
            watch.start()
            runs[i]()
            seconds[i].append(watch.stop())
    return seconds


def round_order(number: int, rounds_before: int) -> Sequence[int]:
    """Return the order of the runs in a round: every other round is reversed."""
    return range(number)[:: -1 if rounds_before % 2 else 1]


def summarize(seconds: Sequence[float]) -> Record:
    """Return the number of runs, and the median and quartiles of their seconds."""
    lower, median, upper = (float(s) for s in np.percentile(seconds, [25, 50, 75]))
    return {"runs": len(seconds), "lower_quartile_s": lower, "median_s": median, "upper_quartile_s": upper}


def compare(ours: Sequence[float], baseline: Sequence[float]) -> Record:
    """Return the ratio of two medians, with a 95% interval from `MIN_ROUNDS` rounds on.

    ratio = median(ours) / median(baseline); the interval is that of a paired bootstrap over rounds.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, Sec. 13.3 (percentile interval).

    Args:
        ours, baseline: seconds from `time_interleaved`: the k-th entries are from one round.
    """
    a, b = np.asarray(ours), np.asarray(baseline)
    comparison = {"ratio": float(np.median(a) / np.median(b))}
    if len(a) < MIN_ROUNDS:
        return comparison
    resamples = np.random.default_rng(0).integers(len(a), size=(_RESAMPLES, len(a)))
    low, high = np.quantile(np.median(a[resamples], axis=1) / np.median(b[resamples], axis=1), [0.025, 0.975])
    return comparison | {"ratio_lower": float(low), "ratio_upper": float(high)}
