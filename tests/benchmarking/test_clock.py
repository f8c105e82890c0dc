import time

import pytest
import torch

from src.benchmarking import clock
from src.benchmarking.clock import MinDuration, summarize, time_runs

CPU = torch.device("cpu")


@pytest.fixture
def fake_clock(monkeypatch):
    """A clock that only the timed functions advance."""
    now = [0.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_every_run_is_timed(fake_clock):
    durations = iter([1.0, 2.0, 3.0, 4.0])
    seconds = time_runs(lambda: fake_clock(next(durations)), CPU, MinDuration(4, 0.0))
    assert summarize(seconds) == {"runs": 4, "lower_quartile_s": 1.75, "median_s": 2.5, "upper_quartile_s": 3.25}


def test_a_measurement_has_at_least_the_minimum_duration(fake_clock):
    assert len(time_runs(lambda: fake_clock(0.25), CPU, MinDuration(1, 2.0))) == 8


def test_wall_time_is_measured():
    assert min(time_runs(lambda: time.sleep(0.01), CPU, MinDuration(2, 0.0))) >= 0.01
