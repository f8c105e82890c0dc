"""GMCNN's confidence weights and its l1 terms."""

import math

import pytest
import torch
from torch.testing import assert_close

from src.common.errors import InputError
from src.losses.confidence import Confidence, ConfidenceL1, ConfidentSlope, KnownL1
from src.losses.inputs import LossInput
from src.networks.interface import InpaintingOutput


def make_mask() -> torch.Tensor:
    mask = torch.ones(2, 1, 32, 40)
    mask[0, :, 8:24, 10:30] = 0
    mask[1, :, 4:8, 4:8] = 0
    return mask


def test_weights_are_one_where_known_and_fall_towards_the_centre():
    mask = make_mask()
    weights = Confidence()(mask)
    assert_close(weights[mask > 0], torch.ones(int(mask.sum())))
    row = weights[0, 0, 16, 10:20]
    assert (row[:-1] > row[1:]).all()
    assert 0 < float(row[-1]) < float(row[0]) < 1


def test_one_round_of_a_box_is_the_ratio_of_known_pixels_in_the_window():
    mask = make_mask()[:1]
    weights = Confidence(window_ratio=4 / 32, sigma_ratio=math.inf, rounds=1)(mask)
    assert_close(weights[0, 0, 10, 12], mask[0, 0, 8:13, 10:15].mean())  # all hole
    assert_close(weights[0, 0, 8, 10], mask[0, 0, 6:11, 8:13].mean())


def test_terms_are_means_over_hole_and_known_pixels_of_each_sample():
    mask, truth = make_mask(), torch.zeros(2, 3, 32, 40)
    prediction = torch.where(mask > 0, 0.25, 0.5).expand_as(truth)
    inputs = LossInput(truth, mask, InpaintingOutput(prediction))
    confidence = Confidence()
    weights = confidence(mask)
    expected = torch.stack([0.5 * weights[i][mask[i] == 0].mean() for i in range(2)]).mean()
    assert_close(ConfidenceL1(confidence)(inputs), expected)
    assert_close(KnownL1()(inputs), torch.tensor(0.25))


def test_all_known_and_all_hole_give_finite_values():
    for known in (0.0, 1.0):
        mask = torch.full((1, 1, 16, 16), known)
        inputs = LossInput(torch.rand(1, 3, 16, 16), mask, InpaintingOutput(torch.rand(1, 3, 16, 16)))
        assert ConfidenceL1(Confidence())(inputs).isfinite()
        assert KnownL1()(inputs).isfinite()


def test_slope_is_weighted_in_the_hole_only():
    mask, confidence = make_mask(), Confidence()
    slope = ConfidentSlope(confidence)(torch.ones(2, 3, 32, 40), mask)
    assert (slope.masked_select(mask > 0) == 0).all()
    assert_close(slope[:, :1], confidence(mask) * (1 - mask))


def test_impossible_settings_raise():
    with pytest.raises(InputError, match=r"got 0, 0\.15625 and 7"):
        Confidence(window_ratio=0)
