import math

import pandas as pd
import pytest

from src.common.errors import InputError
from src.evaluation.bootstrap import Bootstrap
from src.evaluation.tables import comparison_table, is_best

NAN = math.nan


def table_of(*frames, metrics, **options):
    return comparison_table(pd.concat(frames, ignore_index=True), metrics, caption="Made data", **options)


def values_of(table):
    return {(group.metric.label, row.method): list(row.means) for group in table.groups for row in group.rows}


def best_of(table):
    found = {}
    for group in table.groups:
        by_column = [is_best(means, group.metric) for means in zip(*(row.means for row in group.rows), strict=True)]
        for row, best in zip(group.rows, zip(*by_column, strict=True), strict=True):
            found[group.metric.label, row.method] = list(best)
    return found


def test_means_per_bin_and_over_all_records(make_records, psnr, l1):
    table = table_of(
        make_records("lbam", [20.0, 30.0, 22.0, 34.0, 10.0], [5.0, 1.0, 4.0, 2.0, 9.0]),
        make_records("telea", [21.0, 29.0, 23.0, 33.0, 11.0], [5.0, 3.0, 5.0, 2.0, 9.0]),
        metrics=[psnr, l1],
    )
    # Bins by hole ratio, not in the records' order; the image above the last bin counts in "all" only.
    assert [(column.label, column.count) for column in table.columns] == [
        ("(0.1,0.2]", 2),
        ("(0.4,0.5]", 2),
        ("all", 5),
    ]
    assert values_of(table) == {
        ("PSNR", "lbam"): pytest.approx([32.0, 21.0, 23.2]),
        ("PSNR", "telea"): pytest.approx([31.0, 22.0, 23.4]),
        ("l1", "lbam"): pytest.approx([1.5, 4.5, 4.2]),
        ("l1", "telea"): pytest.approx([2.5, 5.0, 4.8]),
    }
    assert best_of(table) == {
        ("PSNR", "lbam"): [True, False, False],
        ("PSNR", "telea"): [False, True, True],
        ("l1", "lbam"): [True, True, True],  # lower is better
        ("l1", "telea"): [False, False, False],
    }


def test_equal_printed_values_tie_for_best(make_records, psnr):
    frames = [make_records(name, [value]) for name, value in (("a", 20.001), ("b", 20.004), ("c", 19.99))]
    assert [cells[0] for cells in best_of(table_of(*frames, metrics=[psnr])).values()] == [True, True, False]


def test_nan_is_never_best_and_has_a_note(make_records, psnr, l1):
    table = table_of(
        make_records("a", [20.0, 30.0], [NAN, NAN]), make_records("b", [NAN, 29.0], [NAN, NAN]), metrics=[psnr, l1]
    )
    assert best_of(table) == {
        ("PSNR", "a"): [True, False, False],  # in the last two columns no other method has a value
        ("PSNR", "b"): [False, False, False],
        ("l1", "a"): [False] * 3,
        ("l1", "b"): [False] * 3,
    }
    assert values_of(table)["PSNR", "b"] == pytest.approx([29.0, NAN, NAN], nan_ok=True)
    assert "PSNR of b: 1 of 2 records have no value, so their means are left out." in table.notes


def test_single_method_is_not_best(make_records, psnr):
    assert best_of(table_of(make_records("a", [20.0]), metrics=[psnr])) == {("PSNR", "a"): [False, False]}


def test_absent_metric_has_a_note_with_the_reason(make_records, psnr, l1):
    reasons = {"lpips": "AlexNet weights not found: put them there"}
    table = table_of(make_records("a", [20.0]), metrics=[psnr, l1], absent=reasons)
    assert [group.metric.label for group in table.groups] == ["PSNR"]
    assert "l1 is not shown: not computed" in table.notes
    assert "LPIPS is not shown: AlexNet weights not found: put them there" in table.notes
    assert "PSNR: 10 log10(1 / mean d^2)." in table.notes


def test_table_does_not_depend_on_the_order_of_records(make_records, psnr):
    a, b = make_records("a", [20.0, 30.0, 22.0, 34.0]), make_records("b", [21.0, 29.0, 23.0, 33.0])
    straight = table_of(a, b, metrics=[psnr], bootstrap=Bootstrap())
    assert table_of(a, b[::-1], metrics=[psnr], bootstrap=Bootstrap()) == straight


def test_several_masks_per_image_are_matched_by_mask_index(make_records, psnr):
    a = make_records("a", [20.0, 30.0]).assign(path="/photos/0.png", index=0, mask_index=[0, 1])
    b = a[::-1].assign(method="b")
    assert table_of(a, b, metrics=[psnr]).columns[-1].count == 2


def test_images_are_matched_by_file_name(make_records, psnr):
    a = make_records("a", [20.0, 30.0])
    b = a.assign(method="b", path=a["path"].str.replace("/photos", "/mnt/elsewhere"))
    assert table_of(a, b, metrics=[psnr]).columns[-1].count == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame[:-1],
        lambda frame: frame.assign(hole_ratio=frame["hole_ratio"] + 0.01),
        lambda frame: frame.assign(path="/photos/other.png"),
        lambda frame: frame.assign(data="places"),
        lambda frame: frame.assign(index=frame["index"] + 1),
    ],
    ids=["fewer", "other masks", "other images", "other data", "other indices"],
)
def test_rejects_methods_scored_on_different_samples(make_records, psnr, change):
    a = make_records("a", [20.0, 30.0, 22.0])
    with pytest.raises(InputError, match=r"a .* and b .* were not scored on the same images and masks"):
        table_of(a, change(a.assign(method="b")), metrics=[psnr])


def test_rejects_empty_records(make_records, psnr):
    with pytest.raises(ValueError, match="needs records"):
        table_of(make_records("a", []), metrics=[psnr])


def test_intervals_contain_the_means(make_records, psnr):
    table = table_of(
        make_records("a", [20.0, 30.0, 22.0, 34.0]), make_records("b", [20.0] * 4), metrics=[psnr],
        bootstrap=Bootstrap(resamples=300),
    )  # fmt: skip
    first, second = table.groups[0].rows
    for estimate in first.estimates:
        low, high = estimate.interval
        assert low <= estimate.mean <= high
    assert {estimate.interval for estimate in second.estimates} == {(20.0, 20.0)}
    assert "300 resamples of the 4 images" in table.interval_note


def test_no_row_is_best_if_all_tie(psnr):
    assert is_best([20.001, 20.002, 20.003], psnr) == [False, False, False]
    assert is_best([20.001, 20.002, 19.0], psnr) == [True, True, False]
