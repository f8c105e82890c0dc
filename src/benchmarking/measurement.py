"""Measure time and peak memory of a run, and optionally of a baseline that alternates with it."""

import torch

from src.benchmarking.clock import MinDuration, Record, Run, compare, summarize, time_interleaved
from src.benchmarking.failures import attempt
from src.benchmarking.memory import PeakMemory


def measure_run(ours: Run, baseline: Run | None, device: torch.device, min_duration: MinDuration) -> Record:
    """Measure time and peak memory of `ours`, and of an alternating baseline, with the ratio of their times.

    If the baseline runs out of memory, the record has its failure instead.
    """
    record: Record = {"peak_bytes": measure_peak(ours, device)}
    runs = [ours]
    if baseline is not None:
        baseline_record = attempt(lambda: {"baseline_peak_bytes": measure_peak(baseline, device)})
        if "failure" in baseline_record:
            record["baseline_failure"] = baseline_record["failure"]
        else:
            record |= baseline_record
            runs.append(baseline)
    seconds = time_interleaved(runs, device, min_duration, warm_up=device.type == "cuda")  # both have run twice
    return record | summarize_with_baseline(seconds)


def measure_peak(run: Run, device: torch.device) -> int | None:
    """Measure the peak memory of a second run; the first one allocates what all later runs share."""
    run()
    with PeakMemory(device) as peak:
        run()
    return peak.bytes


def summarize_with_baseline(seconds: list[list[float]]) -> Record:
    """Return the columns of our times, and of the baseline's if `seconds` has a second list."""
    record = summarize(seconds[0])
    if len(seconds) > 1:
        record |= {f"baseline_{key}": value for key, value in summarize(seconds[1]).items() if key != "runs"}
        record |= compare(*seconds)
    return record
