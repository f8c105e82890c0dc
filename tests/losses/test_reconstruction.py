"""Pixel terms by hand, on 2x3 pixels with one hole pixel."""

import pytest
import torch
from torch.testing import assert_close

from src.common.errors import InputError
from src.losses.inputs import LossInput
from src.losses.reconstruction import (
    L1,
    HoleL1,
    SpatiallyDiscountedL1,
    TotalVariation,
    ValidL1,
    over_window_and_known,
)
from src.networks.interface import InpaintingOutput

TERMS = (L1, HoleL1, ValidL1, SpatiallyDiscountedL1, TotalVariation)


def make_two_rows() -> LossInput:
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
    assert_close(term(make_two_rows()), torch.tensor(expected))


def test_total_variation_ignores_pixels_away_from_hole():
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


def test_terms_convert_half_precision_to_float32():
    truth, mask = torch.rand(1, 3, 12, 16), torch.zeros(1, 1, 12, 16)
    inputs = LossInput(truth, mask, InpaintingOutput(truth.bfloat16()), None)
    assert {inputs.get_image(view).dtype for view in ("truth", "prediction", "composite")} == {torch.float32}
    assert_close(L1()(inputs), (truth.bfloat16().float() - truth).abs().mean())


def discounted(gamma: float, view: str, mask: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
    truth = torch.rand(len(mask), 3, *mask.shape[-2:])
    output = InpaintingOutput(truth + difference, coarse=truth - 2 * difference)
    return SpatiallyDiscountedL1(gamma, view)(LossInput(truth, mask, output))


def test_discounted_by_hand():
    # a row of known, known, hole, hole, hole: distances 0 0 1 2 3; the image is 0.1 to 0.5 off
    mask, difference = torch.tensor([1.0, 1, 0, 0, 0]).view(1, 1, 1, 5), torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    for gamma in (0.99, 0.5, 1.0):
        expected = (0.1 + 0.2 + gamma * 0.3 + gamma**2 * 0.4 + gamma**3 * 0.5) / 5
        assert_close(discounted(gamma, "prediction", mask, difference), torch.tensor(expected))
        assert_close(discounted(gamma, "coarse", mask, difference), torch.tensor(2 * expected))


def test_discount_uses_each_mask_and_is_1_without_known_pixels():
    torch.manual_seed(0)
    mask = torch.stack([torch.ones(1, 6, 8), torch.zeros(1, 6, 8), (torch.rand(1, 6, 8) < 0.1).float()])
    truth, prediction = torch.rand(3, 3, 6, 8), torch.rand(3, 3, 6, 8)
    expected = 0.0
    for b in range(3):
        known = mask[b, 0].nonzero().float()
        for y in range(6):
            for x in range(8):
                nearest = min(((known - torch.tensor([y, x])) ** 2).sum(1).sqrt().tolist(), default=0.0)
                expected += 0.9**nearest * (truth - prediction)[b, :, y, x].abs().sum()
    loss = SpatiallyDiscountedL1(0.9)(LossInput(truth, mask, InpaintingOutput(prediction)))
    assert_close(loss, expected / truth.numel())


def test_hole_and_known_pixels_are_averaged_separately():
    expected = 0.6 / (6 / 4) + 0.1  # a window of half the sides has a quarter of the 6 pixels
    assert_close(SpatiallyDiscountedL1(1.0, average=over_window_and_known)(make_two_rows()), torch.tensor(expected))


def test_average_uses_each_samples_mask():
    average = over_window_and_known
    torch.manual_seed(0)
    mask = torch.ones(3, 1, 6, 8)
    mask[1, :, :3, :4] = 0  # as large as the window; the first sample has no hole, the last no known pixel
    mask[2] = 0
    truth, prediction = torch.rand(3, 3, 6, 8), torch.rand(3, 3, 6, 8).requires_grad_()
    singles = [
        SpatiallyDiscountedL1(0.9, average=average)(
            LossInput(truth[i : i + 1], mask[i : i + 1], InpaintingOutput(prediction[i : i + 1]))
        )
        for i in range(3)
    ]
    loss = SpatiallyDiscountedL1(0.9, average=average)(LossInput(truth, mask, InpaintingOutput(prediction)))
    assert_close(loss, torch.stack(singles).mean())
    assert_close(singles[0], (truth[0] - prediction[0]).abs().mean())
    loss.backward()
    assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("known", [0.0, 1.0])
def test_gamma_1_and_constant_masks_give_plain_l1(known):
    torch.manual_seed(0)
    truth, prediction = torch.rand(2, 3, 6, 8), torch.rand(2, 3, 6, 8)
    irregular = (torch.rand(2, 1, 6, 8) > 0.7).float()
    for gamma, mask in ((1.0, irregular), (0.5, torch.full((2, 1, 6, 8), known))):
        inputs = LossInput(truth, mask, InpaintingOutput(prediction))
        assert_close(SpatiallyDiscountedL1(gamma)(inputs), L1()(inputs))
    inputs = LossInput(truth, irregular, InpaintingOutput(prediction))
    assert SpatiallyDiscountedL1(0.5)(inputs) < L1()(inputs)


@pytest.mark.parametrize("gamma", [0.0, 1.1, -0.5, float("nan")])
def test_rejects_gamma_out_of_range(gamma):
    with pytest.raises(InputError, match=r"gamma must lie in \(0, 1\]"):
        SpatiallyDiscountedL1(gamma)


@pytest.mark.parametrize(("term", "expected"), [(L1, 0.25), (ValidL1, 0.25 * 5 / 6)])
def test_terms_use_configured_view(term, expected):
    inputs = make_two_rows()
    output = InpaintingOutput(inputs.output.prediction, coarse=torch.full((1, 3, 2, 3), 0.25))
    assert_close(term("coarse")(LossInput(inputs.image, inputs.mask, output)), torch.tensor(expected))
