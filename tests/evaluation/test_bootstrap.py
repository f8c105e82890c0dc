import numpy as np
import pytest
from scipy import stats

from src.evaluation.bootstrap import Bootstrap, image_means


def test_interval_agrees_with_scipy():
    values = np.random.default_rng(1).gamma(2.0, 3.0, size=60)
    ((low, high),) = Bootstrap(resamples=20_000).intervals(values[:, None], np.arange(60))
    reference = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert low == pytest.approx(reference.low, abs=0.05)
    assert high == pytest.approx(reference.high, abs=0.05)


def test_interval_covers_the_mean_at_its_confidence_level():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        ((low, high),) = Bootstrap(resamples=400).intervals(rng.normal(5, 2, size=(50, 1)), np.arange(50))
        covered += low < 5 < high
    assert 180 <= covered <= 198  # 190 expected, standard deviation 3; percentile intervals run a little short


def test_interval_depends_on_the_seed_but_not_on_other_columns():
    values = np.random.default_rng(0).normal(size=(30, 2))
    alone = Bootstrap(seed=3).intervals(values[:, :1], np.arange(30))
    together = Bootstrap(seed=3).intervals(values, np.arange(30))
    assert alone[0] == pytest.approx(together[0], rel=1e-12)
    assert together == Bootstrap(seed=3).intervals(values, np.arange(30))
    assert together != Bootstrap(seed=4).intervals(values, np.arange(30))


def test_block_size_does_not_change_intervals(monkeypatch):
    values = np.random.default_rng(0).normal(size=(30, 1))
    whole = Bootstrap(resamples=100).intervals(values, np.arange(30))
    monkeypatch.setattr("src.evaluation.bootstrap._WEIGHTS_PER_BLOCK", 30 * 7)
    assert Bootstrap(resamples=100).intervals(values, np.arange(30))[0] == pytest.approx(whole[0], rel=1e-12)


def test_masks_on_one_image_are_resampled_together():
    values = np.random.default_rng(0).normal(size=20)
    ((low, high),) = Bootstrap().intervals(values[:, None], np.arange(20))
    repeated = Bootstrap().intervals(np.repeat(values, 9)[:, None], np.repeat(np.arange(20), 9))
    assert repeated[0] == pytest.approx((low, high))  # nine equal masks per image add no evidence


def test_one_image_or_non_finite_values_have_no_interval():
    assert Bootstrap().intervals(np.ones((3, 1)), np.zeros(3)) == [None]
    assert Bootstrap().intervals(np.empty((0, 2)), np.empty(0)) == [None, None]
    values = np.array([[1.0, np.nan, np.inf, 2.0], [2.0, 1.0, 1.0, 2.0]])
    first, *spoiled, last = Bootstrap().intervals(values, np.arange(2))
    assert first == (1.0, 2.0)
    assert spoiled == [None, None]
    assert last == (2.0, 2.0)


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"confidence": 0.0}, {"confidence": 95.0}])
def test_rejects_invalid_settings(wrong):
    with pytest.raises(ValueError, match="resamples must be positive"):
        Bootstrap(**wrong)


def test_an_image_counts_once_regardless_of_its_number_of_masks():
    assert image_means(np.array([1.0, 2.0, 3.0, 9.0]), np.array(["b", "a", "b", "b"])).tolist() == [2.0, 13 / 3]
