"""Selection of the records in a printed bin, and means over them."""

import numpy as np
import pandas as pd
import pytest

from src.common.errors import InputError
from src.evaluation.bootstrap import Bootstrap, Estimate
from src.reproduction.estimates import Series, estimate_means, select_records

RECORDS = pd.DataFrame(
    {
        "hole_ratio": [0.2, np.nextafter(0.2, 1), 0.46, 0.7],
        "bin": ["(0.1,0.2]", "(0.2,0.3]", "(0.4,0.5]", ""],
    }
)
BINS = {
    "(0.1,0.5]": [0, 1, 2],
    "(0.1,0.2]": [0],
    "(0.2,0.3]": [1],
    "(0.5,0.6]": [],
    "all": [0, 1, 2, 3],
    "(0.15,0.45]": [0, 1],
    "(0.46,0.7]": [3],
    "(0.45,1]": [2, 3],
}


@pytest.mark.parametrize("label", BINS)
def test_bins_contain_their_upper_edge_and_may_be_wider_than_those_of_the_bank(label):
    found = select_records([label], RECORDS)
    assert list(found) == [label]
    assert np.flatnonzero(found[label]).tolist() == BINS[label]


def test_the_column_bin_decides_on_an_edge():
    found = select_records(["(0.1,0.2]", "(0.2,0.3]"], RECORDS.assign(bin="(0.1,0.2]"))
    assert [int(chosen.sum()) for chosen in found.values()] == [4, 0, 4]


def test_the_mean_is_over_all_printed_bins():
    found = select_records(["(0.1,0.2]", "(0.4,0.5]"], RECORDS)
    assert list(found) == ["(0.1,0.2]", "(0.4,0.5]", "mean"]
    assert found["mean"].tolist() == [True, False, True, False]
    assert "mean" not in select_records(["(0.1,0.2]", "all"], RECORDS)


@pytest.mark.parametrize("label", ["20-30%", "(0.1,0.2)", "[0.1,0.2]", "mean"])
def test_rejects_an_invalid_bin(label):
    with pytest.raises(InputError, match=r"must be \(low,high\]"):
        select_records([label], RECORDS)


def test_means_are_over_the_chosen_records_and_seeds():
    series = Series.of({0: np.array([1.0, 3.0, 100.0]), 4: np.array([2.0, 6.0, 100.0])})
    chosen, images = np.array([True, True, False]), np.array(["a", "b", "c"])
    assert estimate_means({"k": series}, chosen, images, Bootstrap()) == {
        "k": Estimate(3.0, (1.5, 4.5), {0: 2.0, 4: 4.0})
    }
    assert estimate_means({"k": series}, np.zeros(3, dtype=bool), images, Bootstrap()) == {}
    assert estimate_means({}, chosen, images, Bootstrap()) == {}


def test_a_difference_is_over_all_seeds_and_by_seed_over_common_ones():
    one, other = (
        Series.of({0: np.array([1.0]), 1: np.array([3.0])}),
        Series.of({1: np.array([1.0]), 2: np.array([5.0])}),
    )
    difference = one.minus(other)
    assert difference.mean.tolist() == [-1.0]
    assert {seed: own.tolist() for seed, own in difference.by_seed.items()} == {1: [2.0]}
