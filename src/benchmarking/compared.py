"""Time and peak memory of a run, and of another one in turn with it."""

import torch

from src.benchmarking.clock import Pace, Record, Run, ratio, seconds_in_turn, spread
from src.benchmarking.failures import attempt
from src.benchmarking.memory import PeakMemory


def measure_run(ours: Run, theirs: Run | None, device: torch.device, pace: Pace) -> Record:
    """Time and peak memory of `ours`; the baseline's in turn, if there is one, with the ratio of both.

    Where memory suffices for ours alone, the record holds ours and says so of the baseline's.
    """
    record: Record = {"peak_bytes": peak_of(ours, device)}
    runs = [ours]
    if theirs is not None:
        other = attempt(lambda: {"baseline_peak_bytes": peak_of(theirs, device)})
        if "failure" in other:
            record["baseline_failure"] = other["failure"]
        else:
            record |= other
            runs.append(theirs)
    seconds = seconds_in_turn(runs, device, pace, warm=device.type == "cuda")  # both have run twice
    return record | beside(seconds)


def peak_of(run: Run, device: torch.device) -> int | None:
    """The peak memory of a run's second time: the first also makes what all later ones use."""
    run()
    with PeakMemory(device) as peak:
        run()
    return peak.bytes


def beside(seconds: list[list[float]]) -> Record:
    """Columns of ours, and of the baseline if it was measured too."""
    record = spread(seconds[0])
    if len(seconds) > 1:
        record |= {f"baseline_{key}": value for key, value in spread(seconds[1]).items() if key != "runs"}
        record |= ratio(*seconds)
    return record
