import numpy as np
import pandas as pd
import pytest

from src.benchmarking.growth import exponent, series_of


def records(**columns):
    common = {"what": "forward", "name": "net", "device": "cpu", "side_px": 64, "batch_size": 1}
    frame = pd.DataFrame({**common, **columns})
    return frame if "per_second" in frame else frame.assign(per_second=1 / frame["median_s"])


@pytest.mark.parametrize("power", [-1.0, 0.5, 2.0])
def test_the_exponent_of_a_power_law(power):
    x = np.array([1.0, 2.0, 5.0, 9.0])
    assert exponent(x, 7 * x**power) == pytest.approx(power)


def test_time_against_pixels_and_memory_too():
    side = np.array([128, 512, 256])  # in any order
    frame = records(side_px=side, median_s=3e-6 * side**3.0, peak_bytes=10.0 * side**4.0)
    (found,) = series_of(frame)
    assert (found.against, found.at, found.x.tolist()) == ("pixels", "batch 1", [128**2, 256**2, 512**2])
    assert found.time_exponent == pytest.approx(1.5)  # of pixels, not of the side
    assert found.memory_exponent == pytest.approx(2.0)


def test_batches_at_each_size_are_series_of_their_own():
    frame = pd.concat(
        [
            records(side_px=side, batch_size=[1, 2, 4], median_s=np.array([1, 2, 4]) ** power)
            for side, power in ((64, 1), (128, 2))
        ]
    )
    along_batch = [found for found in series_of(frame) if found.against == "batch_size"]
    assert [(found.at, round(found.time_exponent, 6)) for found in along_batch] == [("64 px", 1), ("128 px", 2)]


def test_workers_share_the_work():
    frame = records(what="loading", workers=[0, 1, 2, 4], median_s=1.0, per_second=[9.0, 10.0, 20.0, 40.0])
    (found,) = series_of(frame)
    assert found.x.tolist() == [1, 2, 4]  # none at all is no place of a power law
    assert found.time_exponent == pytest.approx(-1)
    assert found.memory_exponent is None


def test_two_points_are_no_law_and_failures_are_no_points():
    frame = records(side_px=[64, 128, 256], median_s=[1.0, 2.0, np.nan], peak_bytes=[1.0, 2.0, np.nan])
    assert series_of(frame) == []
    (two_processes,) = series_of(records(what="processes", processes=[1, 2], median_s=1.0))
    assert two_processes.time_exponent is None
    assert series_of(pd.DataFrame([{"what": "forward", "failure": "out of memory"}])) == []
