"""Timing: something alone, or several things in turn, so that their ratio holds on a machine that others use too."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Run = Callable[[], object]

Record = dict[str, Any]
"""Columns of a row of the Parquet file, by name."""

WARM_RUNS = {"cuda": 3}
"""Runs that are not counted, by device; 1 elsewhere. They fill caches and choose algorithms."""

FEWEST_ROUNDS = 5
"""From which a ratio's interval is told: the bootstrap of fewer holds them less often than it says."""

_RESAMPLES = 2000


@dataclass(frozen=True)
class Pace:
    """How long is measured: `min_runs` runs, or as many more as take `min_seconds`."""

    min_runs: int
    min_seconds: float


class Stopwatch:
    """Seconds between `start` and `stop`; on a GPU, which works on after a call has returned, of what it was given."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.started = device, 0.0
        if device.type == "cuda":
            self.begin, self.end = (
                torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
                for _ in range(2)
            )

    def start(self) -> None:
        """Begin to count."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # nothing of an earlier run is left to be waited for
            self.begin.record()
        else:
            self.started = time.perf_counter()

    def stop(self) -> float:
        """Seconds since `start`."""
        if self.device.type == "cuda":
            self.end.record()
            self.end.synchronize()
            return float(self.begin.elapsed_time(self.end)) / 1e3
        return time.perf_counter() - self.started


def seconds_in_turn(runs: Sequence[Run], device: torch.device, pace: Pace, *, warm: bool = True) -> list[list[float]]:
    """Time each run, one after the other, round by round: whatever slows the machine for a while slows all of them.

    Every other round is in reverse order, as what came before makes a difference: caches, heat, freed memory.

    Args:
        warm: first run each without counting.
    Returns:
        The seconds of each run, equally many: the k-th of all were measured in one round.
    """
    watch = Stopwatch(device)
    if warm:
        for run in runs:
            for _ in range(WARM_RUNS.get(device.type, 1)):
                run()
    seconds: list[list[float]] = [[] for _ in runs]
    while len(seconds[0]) < pace.min_runs or min(map(sum, seconds)) < pace.min_seconds:
        for i in in_turn(len(runs), len(seconds[0])):
            watch.start()
            runs[i]()
            seconds[i].append(watch.stop())
    return seconds


def in_turn(number: int, rounds_before: int) -> Sequence[int]:
    """The order of a round: every other one is reversed."""
    return range(number)[:: -1 if rounds_before % 2 else 1]


def timing(run: Run, device: torch.device, pace: Pace) -> Record:
    """Time one thing alone; what `spread` returns."""
    (seconds,) = seconds_in_turn([run], device, pace)
    return spread(seconds)


def spread(seconds: Sequence[float]) -> Record:
    """The number of runs, and the median and quartiles of their seconds."""
    lower, median, upper = (float(s) for s in np.percentile(seconds, [25, 50, 75]))
    return {"runs": len(seconds), "lower_quartile_s": lower, "median_s": median, "upper_quartile_s": upper}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Record:
    """The ratio of two medians, and from `FEWEST_ROUNDS` on between which bounds it lies.

    ratio = median(ours) / median(theirs);  bounds: 2.5% and 97.5% of its bootstrap over rounds, both drawn together
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, Sec. 13.3 (percentile interval).

    Args:
        ours, theirs: as `seconds_in_turn` measured them: the k-th of both in one round.
    """
    a, b = np.asarray(ours), np.asarray(theirs)
    found = {"ratio": float(np.median(a) / np.median(b))}
    if len(a) < FEWEST_ROUNDS:
        return found
    drawn = np.random.default_rng(0).integers(len(a), size=(_RESAMPLES, len(a)))
    low, high = np.quantile(np.median(a[drawn], axis=1) / np.median(b[drawn], axis=1), [0.025, 0.975])
    return found | {"ratio_lower": float(low), "ratio_upper": float(high)}
