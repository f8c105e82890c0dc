import math

import pytest
import torch
from torch.testing import assert_close

from src.metrics.binned import BinnedMean, hole_ratio

SHARES = torch.tensor([0.05, 0.1, 0.11, 0.3, 0.6, 0.65, 0.2, 0.55], dtype=torch.float64)
VALUES = torch.tensor([1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0])
MEANS = {"(0,0.1]": 2.0, "(0.1,0.2]": 9.0, "(0.2,0.3]": 7.0, "(0.5,0.6]": 12.0, "all": 8.0}


def accumulate(*sizes: int) -> BinnedMean:
    metric, start = BinnedMean(), 0
    for size in sizes:
        metric.update(VALUES[start : start + size], SHARES[start : start + size])
        start += size
    return metric


@pytest.mark.parametrize("sizes", [(8,), (1,) * 8, (5, 3)], ids=["one of 8", "8 of one", "5 and 3"])
def test_means_do_not_depend_on_the_batches(sizes):
    means = accumulate(*sizes).compute()
    assert {name: mean.item() for name, mean in means.items()} == MEANS  # 0.65 only counts in "all"
    assert list(means)[-1] == "all"


def test_state_is_summed_over_processes():
    first, second = BinnedMean(), BinnedMean()
    first.update(VALUES[:3], SHARES[:3])
    second.update(VALUES[3:], SHARES[3:])
    first.merge_state(second)  # by each state's dist_reduce_fx, as over processes
    assert {name: mean.item() for name, mean in first.compute().items()} == MEANS


def test_bin_edges_belong_to_lower_bin():
    for tenths, name in enumerate(["(0,0.1]", "(0.1,0.2]", "(0.2,0.3]", "(0.3,0.4]", "(0.4,0.5]", "(0.5,0.6]"], 1):
        mask = torch.ones(1, 1, 10, 10)
        mask.view(-1)[: 10 * tenths] = 0.0
        metric = BinnedMean()
        metric.update(torch.tensor([1.0]), hole_ratio(mask))
        assert list(metric.compute()) == [name, "all"]
        mask.view(-1)[10 * tenths] = 0.0  # one pixel more
        metric.reset()
        metric.update(torch.tensor([1.0]), hole_ratio(mask))
        assert name not in metric.compute()


def test_hole_ratio_is_exact():
    mask = torch.ones(2, 1, 5, 6)
    mask[0, 0, 0, :3] = 0.0
    assert hole_ratio(mask).tolist() == [0.1, 0.0]
    assert (1 - mask.mean(dim=(1, 2, 3)))[0].item() > 0.1  # in float32


def test_nan_stays_in_its_bin():
    metric = BinnedMean()
    metric.update(torch.tensor([math.nan, 2.0]), torch.tensor([0.05, 0.15], dtype=torch.float64))
    means = metric.compute()
    assert means["(0,0.1]"].isnan()
    assert means["(0.1,0.2]"] == 2.0
    assert means["all"].isnan()


def test_no_images_give_no_means():
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert BinnedMean().compute() == {}


def test_rejects_wrong_input():
    with pytest.raises(ValueError, match=r"\(B,\)"):
        BinnedMean().update(torch.ones(2, 1), torch.ones(2, 1, dtype=torch.float64))
    with pytest.raises(ValueError, match="float64"):
        BinnedMean().update(torch.ones(2), torch.ones(2))


def test_sums_are_precise():
    metric = BinnedMean()
    metric.update(torch.full((1000,), 0.1), torch.full((1000,), 0.25, dtype=torch.float64))
    assert_close(metric.compute()["all"], torch.tensor(0.1))
