import pytest
import torch
from torch.testing import assert_close
from torchmetrics.functional.image import structural_similarity_index_measure

from src.common.errors import InputError
from src.losses.inputs import LossInput
from src.losses.structural import SSIM
from src.networks.interface import InpaintingOutput


def make_step(truth: torch.Tensor, prediction: torch.Tensor) -> LossInput:
    mask = (torch.rand(len(truth), 1, *truth.shape[-2:]) > 0.5).float()
    return LossInput(truth, mask, InpaintingOutput(prediction, coarse=prediction / 2))


def test_loss_is_1_minus_metric():
    torch.manual_seed(0)
    truth = torch.rand(2, 3, 24, 31)
    inputs = make_step(truth, (truth + 0.3 * torch.randn_like(truth)).clamp(0, 1))
    for view in ("prediction", "composite", "coarse"):
        metric = structural_similarity_index_measure(
            inputs.get_image(view), truth, sigma=1.5, kernel_size=11, data_range=1.0
        )
        assert_close(SSIM(view)(inputs), 1 - metric, atol=1e-5, rtol=0)


def test_constant_images_by_hand():  # without variance and covariance, only the means are compared
    inputs = make_step(torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.8))
    assert_close(SSIM()(inputs), torch.tensor(1 - (2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, None])
def test_equal_images_have_zero_loss_and_finite_gradients(value):
    torch.manual_seed(0)
    truth = torch.rand(2, 3, 16, 20) if value is None else torch.full((2, 3, 16, 20), value)
    prediction = truth.clone().requires_grad_()
    loss = SSIM()(make_step(truth, prediction))
    assert_close(loss, torch.tensor(0.0), atol=1e-6, rtol=0)
    loss.backward()
    assert prediction.grad.isfinite().all()


def test_loss_is_float32_under_autocast():
    torch.manual_seed(0)
    inputs = make_step(torch.rand(2, 3, 16, 20), torch.rand(2, 3, 16, 20, requires_grad=True))
    expected = SSIM()(inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(SSIM()(inputs), expected)
    (gradient,) = torch.autograd.grad(expected, inputs.output.prediction)
    assert (gradient != 0).any()


def test_rejects_images_smaller_than_window():
    with pytest.raises(InputError, match="at least 11x11, got 10x16"):
        SSIM()(make_step(torch.rand(1, 3, 10, 16), torch.rand(1, 3, 10, 16)))
