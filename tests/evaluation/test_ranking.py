"""Paired tests between all methods of a table, and ranks."""

import numpy as np
import pandas as pd
import pytest

from src.evaluation.bootstrap import Bootstrap
from src.evaluation.ranking import (
    few_images_notes,
    pair_frame,
    pair_table,
    pair_tests,
    ranked_table,
    ranks_of,
    sort_by_rank,
)
from src.evaluation.records import score_column
from src.evaluation.significance import holm, signed_rank_p
from src.evaluation.tables import comparison_table


@pytest.fixture(scope="module")
def records(make_records):
    """Return records of 12 images: `best` is always better than `a` and `b`, which differ by noise."""
    noise = np.random.default_rng(0).normal(size=12)
    base = np.linspace(20, 30, 12)
    psnr = {"a": base, "best": base + 5, "b": base + noise}
    l1 = {"a": base / 10, "best": base / 20, "b": base / 10 - noise}
    return pd.concat([make_records(name, psnr[name].tolist(), l1[name].tolist()) for name in psnr], ignore_index=True)


@pytest.fixture(scope="module")
def tests(records, psnr, l1):
    return pair_tests(records, [psnr, l1], Bootstrap(resamples=200))


def test_a_metric_that_is_0_for_all_methods_has_no_tests(records, psnr, l1):
    exact = records.assign(**{score_column("composite", l1.name): 0.0})
    tests = pair_tests(exact, [psnr, l1], Bootstrap(resamples=200))
    assert [test.metric.name for test in tests] == 3 * [psnr.name]


def test_every_pair_is_tested_in_the_direction_of_its_difference_and_adjusted_together(records, tests):
    scores = {name: rows.set_index("index") for name, rows in records.groupby("method")}
    pairs = [("best", "a"), ("a", "b"), ("best", "b")]
    by_hand = {
        (column, *pair): signed_rank_p(scores[pair[0]][column] - scores[pair[1]][column])
        for column in ("composite_psnr", "composite_l1_percent")
        for pair in pairs
    }
    found = {(f"composite_{t.metric.name}", t.better, t.worse): t for t in tests}
    assert {frozenset(key) for key in found} == {frozenset(key) for key in by_hand}
    adjusted = {frozenset(key): p for key, p in zip(by_hand, holm(list(by_hand.values())), strict=True)}
    for key, test in found.items():
        assert test.p_holm == adjusted[frozenset(key)]
        assert (test.difference.mean > 0) == (key[0] == "composite_psnr")  # lower l1 is better
        low, high = test.difference.interval
        assert low <= test.difference.mean <= high
    assert found["composite_psnr", "best", "a"].difference.mean == pytest.approx(5)


def test_ranks_are_ranges_where_the_tests_leave_the_order_open(records, tests, psnr, l1):
    ranks = ranks_of(tests)
    assert ranks == {
        (metric, method): (1, 1) if method == "best" else (2, 3)
        for metric in ("psnr", "l1_percent")
        for method in ("a", "b", "best")
    }
    table = sort_by_rank(comparison_table(records, [psnr, l1], caption="ranks"))
    assert [group.rows[0].method for group in table.groups] == ["best", "best"]
    text = ranked_table(table, ranks)
    assert [row[-1] for row in text.sections[0].rows] == ["1", "2-3", "2-3"]
    assert "Holm" in text.notes[1]
    pairs = pair_table(tests).to_markdown()
    assert "| PSNR (dB) ↑ | best | a | 5.00 [5.00, 5.00] |" in pairs
    assert pair_frame(tests)["significant"].sum() == 4


def test_a_value_that_is_not_finite_has_no_test(records, psnr):
    missing = records.assign(composite_psnr=records["composite_psnr"].where(records["method"] != "b"))
    tests = pair_tests(missing, [psnr], Bootstrap(resamples=10))
    assert [(test.better, test.worse) for test in tests] == [("best", "a")]
    assert ranks_of(tests) == {("psnr", "best"): (1, 1), ("psnr", "a"): (2, 2)}


def test_too_few_images_are_noted():
    assert few_images_notes(images=5, tests=1) == [
        "5 images are too few for any of 1 tests to be significant, however large the differences."
    ]
    assert few_images_notes(images=6, tests=1) == []  # p = 1/32
    assert signed_rank_p([1, 2, 3, 4, 5, 6]) == 2.0**-5
