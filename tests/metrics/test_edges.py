import pytest
import torch

from src.metrics.binned import BinnedMean, hole_ratio
from src.metrics.edges import EdgeAccuracy


def make_image(predicted: list[float], true: list[int], hole: int, size: int = 10):
    """One image whose first pixels are listed, whose first `hole` pixels are the hole; (1, 1, 2, size / 2) each."""
    rows = torch.zeros(3, size)
    rows[0, : len(predicted)], rows[1, : len(true)], rows[2, hole:] = torch.tensor(predicted), torch.tensor(true), 1
    return tuple(row.view(1, 1, 2, size // 2) for row in rows)


# 2 of 3 predicted are edges, 2 of 4 edges are predicted; 0.5 itself is not predicted
FIRST = make_image([0.9, 0.6, 0.51, 0.5, 0.1], [1, 1, 0, 1, 1], hole=5)
# one predicted, one edge, one hit; the last two pixels are known, with errors
SECOND = make_image([1.0, 0.0, 1.0, 0.0], [1, 0, 0, 1], hole=2)
NO_EDGE = make_image([0.2, 0.7], [0, 0], hole=2)
NOT_PREDICTED = make_image([0.2, 0.3], [0, 1], hole=5)
EIGHT = [FIRST, SECOND, NO_EDGE, NOT_PREDICTED, FIRST, FIRST, SECOND, NO_EDGE]


def accumulate(*sizes: int, images=EIGHT) -> EdgeAccuracy:
    metric, start = EdgeAccuracy(), 0
    for size in sizes:
        metric.update(*(torch.cat(part) for part in zip(*images[start : start + size], strict=True)))
        start += size
    return metric


def values(metric: EdgeAccuracy) -> dict[str, float]:
    return {name: value.item() for name, value in metric.compute().items()}


def test_by_hand():
    expected = {
        "precision": 3 / 4, "precision/(0.1,0.2]": 1.0, "precision/(0.4,0.5]": 2 / 3,
        "recall": 3 / 5, "recall/(0.1,0.2]": 1.0, "recall/(0.4,0.5]": 2 / 4,
        "precision_exact_at_0.7": 1.0, "recall_exact_at_0.7": 2 / 5, "f1_exact_at_0.7": 4 / 7,
        "base_rate_exact": 5 / 7,
    }  # fmt: skip
    found = values(accumulate(2, images=[FIRST, SECOND]))
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def plane(*places: tuple[int, int], value: float = 1.0):
    """Return a 7x7 map with ones at some positions, (1, 1, 7, 7)."""
    made = torch.zeros(1, 1, 7, 7)
    for row, column in places:
        made[..., row, column] = value
    return made


HOLE = torch.ones(1, 1, 7, 7)
HOLE[..., :, :6] = 0  # the last column is known


def scores(predicted, true, mask=HOLE):
    metric = EdgeAccuracy()
    metric.update(predicted, true, mask)
    return values(metric)


def test_tolerance_is_one_pixel_in_any_direction():
    # true edges: (1, 1) has a hit at its corner, (4, 3) one two pixels away, (1, 4) none
    found = scores(plane((2, 2), (4, 1)), plane((1, 1), (1, 4), (4, 3)))
    assert found["precision_1px"] == pytest.approx(1 / 2)
    assert found["recall_1px"] == pytest.approx(1 / 3)
    assert found["f1"] == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
    assert found["precision"] == found["recall"] == found["f1_exact_at_0.5"] == 0
    # nine pixels around each of the three, which share (0, 2) to (2, 2) with (0, 3) to (2, 3) not at all
    assert found["base_rate_1px"] == pytest.approx(27 / 42)
    assert found["base_rate_exact"] == pytest.approx(3 / 42)


def test_base_rate_is_precision_of_marking_whole_hole():
    torch.manual_seed(0)
    true = (torch.rand(1, 1, 7, 7) > 0.9).float()
    found = scores(torch.ones(1, 1, 7, 7), true)
    assert found["precision_1px"] == found["base_rate_1px"]
    assert found["precision"] == found["base_rate_exact"]
    assert found["recall"] == found["recall_1px"] == 1


def test_known_edges_do_not_match_across_border():
    outside = plane((3, 6))  # known, next to the hole's last column
    assert scores(plane((3, 5)), outside)["precision_1px"] == 0
    assert scores(outside, plane((3, 5)))["recall_1px"] == 0


def test_threshold_maximises_f1():
    predicted = plane((1, 1), value=0.8) + plane((4, 4), value=0.6) + plane((6, 1), value=0.4)
    found = scores(predicted, plane((1, 1), (4, 5)))
    assert found["threshold"] == pytest.approx(0.5)
    assert found["f1"] == found["recall_1px"] == found["f1_1px_at_0.5"] == 1
    assert found["precision_1px_at_0.3"] == pytest.approx(2 / 3)
    assert found["recall_1px_at_0.7"] == pytest.approx(1 / 2)
    assert found["f1_1px_at_0.9"] == 0  # nothing predicted
    assert "precision_1px_at_0.9" not in found


def test_counts_are_summed_before_division():
    metric = accumulate(4)
    # 3 of 5 predicted are right, where the mean of 2/3, 1, 0 would be 5/9; 3 of 6 edges are found
    assert values(metric)["precision"] == pytest.approx(3 / 5)
    assert values(metric)["recall"] == pytest.approx(3 / 6)


@pytest.mark.parametrize("sizes", [(1,) * 8, (5, 3)], ids=["8 of one", "5 and 3"])
def test_result_does_not_depend_on_batches(sizes):
    assert values(accumulate(*sizes)) == values(accumulate(8))


def test_state_is_summed_over_processes():
    first, second = accumulate(3, images=EIGHT[:3]), accumulate(5, images=EIGHT[3:])
    first.merge_state(second)  # by each state's dist_reduce_fx, as over processes
    assert values(first) == values(accumulate(8))


def test_omits_values_of_0_by_0():
    no_edge, not_predicted = values(accumulate(1, images=[NO_EDGE])), values(accumulate(1, images=[NOT_PREDICTED]))
    assert not any(name.startswith("recall") for name in no_edge)
    assert no_edge["precision"] == no_edge["precision/(0.1,0.2]"] == no_edge["f1"] == no_edge["base_rate_1px"] == 0
    assert not {"precision", "precision_1px", "precision_1px_at_0.5"} & not_predicted.keys()
    assert not_predicted["recall"] == not_predicted["recall/(0.4,0.5]"] == not_predicted["f1"] == 0
    empty = values(accumulate(1, images=[make_image([0.1], [0], hole=2)]))
    assert empty == {name: 0.0 for name in empty if name.startswith("base_rate")}
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert EdgeAccuracy().compute() == {}


def test_image_without_hole_is_ignored_and_large_hole_counts_only_in_all():
    assert values(accumulate(1, images=[make_image([1.0], [1], hole=0)])) == {}
    large = values(accumulate(1, images=[make_image([1.0], [1], hole=9)]))
    assert large["precision"] == large["recall"] == large["f1"] == 1
    assert not any("/" in name for name in large)


@pytest.mark.parametrize("hole", range(1, 11))
def test_bins_match_binned_mean(hole):
    predicted, true, mask = make_image([1.0], [1], hole)
    metric, mean = EdgeAccuracy(), BinnedMean()
    metric.update(predicted, true, mask)
    mean.update(torch.ones(1), hole_ratio(mask))
    assert [name.removeprefix("recall/") for name in metric.compute() if "recall/" in name] == [
        name for name in mean.compute() if name != "all"
    ]


def test_ignores_known_pixels():
    predicted, true, mask = FIRST
    metric = EdgeAccuracy()
    metric.update(torch.where(mask > 0, torch.nan, predicted), torch.where(mask > 0, torch.nan, true), mask)
    assert values(metric) == values(accumulate(1, images=[FIRST]))


def test_rejects_wrong_shapes():
    with pytest.raises(ValueError, match=r"must share the shape \(B, 1, H, W\)"):
        EdgeAccuracy().update(torch.ones(2, 1, 4, 4), torch.ones(2, 1, 4, 4), torch.ones(1, 1, 4, 4))
    with pytest.raises(ValueError, match=r"must share the shape \(B, 1, H, W\)"):
        EdgeAccuracy().update(*[torch.ones(2, 3, 4, 4)] * 3)
