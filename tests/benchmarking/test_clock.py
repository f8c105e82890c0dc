import time

import numpy as np
import pytest
import torch

from src.benchmarking import clock
from src.benchmarking.clock import MinDuration, compare, summarize, time_interleaved

CPU = torch.device("cpu")


@pytest.fixture
def fake_clock(monkeypatch):
    """A clock that only the timed functions advance."""
    now = [0.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_a_timing_counts_every_run_but_the_first(fake_clock):
    durations = iter([9.0, 1.0, 2.0, 3.0, 4.0])
    (seconds,) = time_interleaved([lambda: fake_clock(next(durations))], CPU, MinDuration(4, 0.0))
    assert summarize(seconds) == {"runs": 4, "lower_quartile_s": 1.75, "median_s": 2.5, "upper_quartile_s": 3.25}


def test_a_timing_lasts_as_long_as_asked(fake_clock):
    assert len(time_interleaved([lambda: fake_clock(0.25)], CPU, MinDuration(1, 2.0))[0]) == 8


def test_it_is_the_time_that_passes():
    (seconds,) = time_interleaved([lambda: time.sleep(0.01)], CPU, MinDuration(2, 0.0))
    assert min(seconds) >= 0.01


def test_runs_take_turns(fake_clock):
    order = []
    runs = [lambda: (order.append("a"), fake_clock(1.0)), lambda: (order.append("b"), fake_clock(3.0))]
    seconds = time_interleaved(runs, CPU, MinDuration(3, 0.0))
    assert "".join(order) == "ab" + "abbaab"  # a run of each that is not counted, then rounds
    assert seconds == [[1.0] * 3, [3.0] * 3]


def test_the_shortest_of_several_lasts_as_long_as_asked(fake_clock):
    seconds = time_interleaved(
        [lambda: fake_clock(4.0), lambda: fake_clock(1.0)], CPU, MinDuration(1, 3.0), warm_up=False
    )
    assert seconds == [[4.0] * 3, [1.0] * 3]


def test_a_ratio_is_of_medians_and_keeps_rounds_together():
    load = np.array([1.0, 5.0, 1.0, 3.0, 1.0, 8.0, 1.0])  # what slows both in a round leaves their ratio as it is
    found = compare(2 * load, 4 * load)
    assert found == pytest.approx({"ratio": 0.5, "ratio_lower": 0.5, "ratio_upper": 0.5})


def test_few_rounds_have_no_interval():
    assert compare([1.0] * 4, [2.0] * 4) == {"ratio": 0.5}
    assert set(compare([1.0] * 5, [2.0] * 5)) == {"ratio", "ratio_lower", "ratio_upper"}


def test_a_ratios_interval_holds_it_and_narrows_with_rounds():
    rng = np.random.default_rng(0)

    def width(rounds: int) -> float:
        found = compare(1 + 0.1 * rng.random(rounds), 2 + 0.2 * rng.random(rounds))
        assert found["ratio_lower"] <= found["ratio"] <= found["ratio_upper"]
        return found["ratio_upper"] - found["ratio_lower"]

    assert width(400) < width(20) / 2


def test_quartiles():
    assert summarize([1.0, 2.0, 3.0, 4.0, 5.0]) == {
        "runs": 5,
        "lower_quartile_s": 2.0,
        "median_s": 3.0,
        "upper_quartile_s": 4.0,
    }
