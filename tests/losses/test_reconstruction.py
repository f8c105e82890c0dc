"""By hand: 2x3 pixels, one of them a hole."""

import pytest
import torch
from torch.testing import assert_close

from src.losses.inputs import LossInput
from src.losses.reconstruction import L1, HoleL1, TotalVariation, ValidL1
from src.networks.interface import InpaintingOutput

TERMS = (L1, HoleL1, ValidL1, TotalVariation)


def two_rows() -> LossInput:
    truth = torch.zeros(1, 3, 2, 3)
    prediction = torch.tensor([[0.6, 0.1, 0.1], [0.1, 0.1, 0.1]]).expand(1, 3, 2, 3).clone().requires_grad_()
    mask = torch.ones(1, 1, 2, 3)
    mask[..., 0, 0] = 0.0
    return LossInput(truth, mask, InpaintingOutput(prediction), extractor=None)


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (L1(), (0.6 + 5 * 0.1) / 6),
        (HoleL1(), 0.6 / 6),  # divided by all 6 pixels, not by the hole's 1
        (ValidL1(), 5 * 0.1 / 6),
        # The composite is 0.6 in the corner and 0 elsewhere; the hole grown by one pixel is the left 2x2 block.
        (TotalVariation(), (0.6 + 0.6) / 6),
    ],
    ids=lambda value: type(value).__name__,
)
def test_terms_by_hand(term, expected):
    assert_close(term(two_rows()), torch.tensor(expected))


def test_total_variation_leaves_out_steps_beyond_one_pixel_from_the_hole():
    truth, mask = torch.zeros(1, 3, 5, 7), torch.ones(1, 1, 5, 7)
    mask[..., 2, 2] = 0.0
    truth[..., 4:] = 1.0  # a step between columns 3 and 4; the grown hole ends at column 3
    output = InpaintingOutput(torch.zeros(1, 3, 5, 7))
    assert TotalVariation()(LossInput(truth, mask, output, None)) == 0
    truth[..., 3] = 1.0  # now between columns 2 and 3, in rows 1 to 3: |1 - 0| three times in each channel
    assert_close(TotalVariation()(LossInput(truth, mask, output, None)), torch.tensor(3 / 35))


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.__name__)
def test_gradients_are_finite_where_prediction_equals_truth(term):
    truth, mask = torch.rand(2, 3, 12, 16), torch.ones(2, 1, 12, 16)
    mask[..., :8] = 0.0
    prediction = truth.clone().requires_grad_()
    term()(LossInput(truth, mask, InpaintingOutput(prediction), None)).backward()
    assert prediction.grad.isfinite().all()


def test_terms_see_half_precision_output_in_float32():
    truth, mask = torch.rand(1, 3, 12, 16), torch.zeros(1, 1, 12, 16)
    inputs = LossInput(truth, mask, InpaintingOutput(truth.bfloat16()), None)
    assert {inputs.picture(view).dtype for view in ("truth", "prediction", "composite")} == {torch.float32}
    assert_close(L1()(inputs), (truth.bfloat16().float() - truth).abs().mean())
