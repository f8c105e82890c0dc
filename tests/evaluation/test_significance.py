"""Paired tests and rank correlations against scipy, slow references, and examples worked by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from src.evaluation.significance import holm, rank_agreement, signed_rank_p


def agreement(printed, ours, *, higher_is_better=True):
    return rank_agreement("abcdefgh"[: len(printed)], printed, ours, higher_is_better=higher_is_better)


def test_signed_rank_p_counts_all_sign_patterns():
    differences = np.array([0.3, -1.2, 2.5, 0.7, -0.1, 3.1, 1.9])
    ranks = stats.rankdata(np.abs(differences))
    total = ranks.sum()
    seen = abs(2 * ranks[differences > 0].sum() - total)
    all_signs = [abs(2 * ranks[list(signs)].sum() - total) for signs in itertools.product([True, False], repeat=7)]
    assert signed_rank_p(differences) == pytest.approx(np.mean(np.array(all_signs) >= seen))


@pytest.mark.parametrize("count", [12, 40, 100])
def test_signed_rank_p_agrees_with_scipy_for_both_signs(count):
    differences = np.random.default_rng(count).normal(0.3, 1, size=count)
    expected = stats.wilcoxon(differences, alternative="two-sided").pvalue
    assert signed_rank_p(differences) == pytest.approx(expected)
    assert signed_rank_p(-differences[::-1]) == pytest.approx(expected)


def test_signed_rank_p_ignores_zeros_and_is_one_without_other_values():
    assert signed_rank_p(np.zeros(5)) == 1.0
    assert signed_rank_p([0.4]) == 1.0  # a single image
    with_ties = [0.5, 0.5, 1.0, -0.5, 2.0, 2.0]
    assert signed_rank_p([*with_ties, 0.0, 0.0]) == pytest.approx(stats.wilcoxon(with_ties).pvalue)


def test_holm_of_examples_worked_by_hand():
    # Sorted: 0.005 * 4 = 0.02; 0.01 * 3 = 0.03; 0.03 * 2 = 0.06; 0.04 * 1, raised to 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.4]) == pytest.approx([0.8, 0.8])
    assert holm([0.9, 0.8, 0.7]) == [1.0, 1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_holm_does_not_depend_on_the_order():
    p = np.random.default_rng(0).random(9) ** 3
    shuffled = np.random.default_rng(1).permutation(9)
    assert holm(p[shuffled]) == pytest.approx(np.array(holm(p))[shuffled])


PRINTED = {"distinct": [1.0, 4.0, 2.0, 3.0, 5.0], "ties": [1.0, 2.0, 2.0, 3.0, 3.0]}


@pytest.mark.parametrize("printed", PRINTED.values(), ids=PRINTED)
def test_coefficients_agree_with_scipy_and_p_counts_all_permutations(printed):
    ours = [2.0, 1.0, 3.0, 3.0, 4.0]
    found = agreement(printed, ours)
    for name, function in (("spearman", stats.spearmanr), ("kendall", stats.kendalltau)):
        seen = function(printed, ours).statistic
        orders = np.array([function(order, ours).statistic for order in itertools.permutations(printed)])
        assert getattr(found, name).value == pytest.approx(seen)
        assert getattr(found, name).p == pytest.approx(np.mean(np.abs(orders) >= abs(seen) - 1e-9))


def test_kendalls_p_agrees_with_scipys_exact_p():
    printed, ours = [1.0, 4.0, 2.0, 3.0, 5.0, 6.0], [2.0, 1.0, 3.5, 3.0, 4.0, 6.0]
    assert agreement(printed, ours).kendall.p == pytest.approx(stats.kendalltau(printed, ours, method="exact").pvalue)


def test_three_rows_in_the_same_order_are_not_significant():
    found = agreement([1, 2, 3], [10, 20, 30])
    assert (found.spearman.value, found.kendall.value) == (pytest.approx(1), pytest.approx(1))
    assert (found.spearman.p, found.kendall.p) == (pytest.approx(1 / 3), pytest.approx(1 / 3))  # 2 of 6 orders


def test_metrics_direction_affects_only_the_best_row():
    printed, ours = [3.0, 1.0, 2.0, 4.0], [5.0, 2.0, 1.0, 6.0]
    higher, lower = agreement(printed, ours), agreement(np.negative(printed), np.negative(ours), higher_is_better=False)
    assert higher == lower
    assert (higher.best_printed, higher.best_ours, higher.same_best) == (("d",), ("d",), True)
    other = agreement(printed, ours, higher_is_better=False)
    assert (other.best_printed, other.best_ours, other.same_best) == (("b",), ("c",), False)
    assert other.spearman == higher.spearman
    assert (higher.pairs_alike, higher.pairs) == (5, 6)  # all but b and c


def test_agreement_does_not_depend_on_the_order_of_rows():
    printed, ours = np.array([3.0, 1.0, 2.0, 4.0, 2.5]), np.array([5.0, 2.0, 1.0, 6.0, 3.0])
    turned = rank_agreement("edcba", printed[::-1], ours[::-1], higher_is_better=True)
    assert turned.spearman.value == pytest.approx(agreement(printed, ours).spearman.value)
    assert turned.kendall.p == pytest.approx(agreement(printed, ours).kendall.p)
    assert turned.best_ours == agreement(printed, ours).best_ours


def test_two_rows_have_no_correlation_and_one_row_has_no_agreement():
    same, turned = agreement([1, 2], [5, 6]), agreement([1, 2], [6, 5])
    assert (same.spearman, same.kendall, same.pairs, same.pairs_alike) == (None, None, 1, 1)
    assert (turned.pairs, turned.pairs_alike, turned.same_best) == (1, 0, False)
    assert agreement([1, 2], [5, 5]).pairs_alike == 0
    assert agreement([1], [1]) is None
    assert agreement([], []) is None


def test_ties_are_no_pairs_and_may_share_the_best_rank():
    found = agreement([2.0, 2.0, 1.0], [1.0, 3.0, 2.0])
    assert (found.pairs, found.pairs_alike) == (2, 1)
    assert found.best_printed == ("a", "b")
    assert found.same_best
    constant = agreement([2.0, 2.0, 2.0], [1.0, 3.0, 2.0])
    assert (constant.spearman, constant.kendall, constant.pairs) == (None, None, 0)


def test_infinity_ranks_highest():
    found = agreement([1, 2, 3, 4], [1, 2, math.inf, math.inf])
    assert found.best_ours == ("c", "d")
    assert found.spearman.value == pytest.approx(stats.spearmanr([1, 2, 3, 4], [1, 2, 3, 3]).statistic)


def test_many_rows_use_a_fixed_sample_of_permutations():
    printed = np.random.default_rng(0).normal(size=11)
    ours = printed + np.random.default_rng(1).normal(size=11)
    names = [str(i) for i in range(11)]
    first, again = (rank_agreement(names, printed, ours, higher_is_better=True) for _ in range(2))
    assert first == again
    assert first.spearman.p == pytest.approx(stats.spearmanr(printed, ours).pvalue, abs=0.01)


def test_p_is_one_if_ranks_contradict_the_mean():
    differences = np.r_[-0.075 - 0.001 * np.arange(90), 2.5 + 0.01 * np.arange(10)]
    assert differences.mean() > 0
    assert stats.wilcoxon(differences).pvalue < 1e-6
    assert signed_rank_p(differences) == signed_rank_p(-differences) == 1.0
