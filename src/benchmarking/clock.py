"""Time a function, on the CPU or a GPU."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Record = dict[str, Any]
"""One row of records.parquet by column."""


@dataclass(frozen=True)
class MinDuration:
    """Minimum length of a measurement: `min_runs` runs and `min_seconds` in total."""

    min_runs: int
    min_seconds: float

    def is_reached(self, seconds: Sequence[float]) -> bool:
        """Return whether runs that took `seconds` are enough."""
        return len(seconds) >= self.min_runs and sum(seconds) >= self.min_seconds


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


def time_runs(run: Callable[[], object], device: torch.device, min_duration: MinDuration) -> list[float]:
    """Return the seconds of each run of a function that has been warmed up."""
    watch, seconds = Stopwatch(device), list[float]()
    while not min_duration.is_reached(seconds):
        watch.start()
        run()
        seconds.append(watch.stop())
    return seconds


def summarize(seconds: Sequence[float]) -> Record:
    """Return the number of runs, and the median and quartiles of their seconds."""
    lower, median, upper = (float(s) for s in np.percentile(seconds, [25, 50, 75]))
    return {"runs": len(seconds), "lower_quartile_s": lower, "median_s": median, "upper_quartile_s": upper}
