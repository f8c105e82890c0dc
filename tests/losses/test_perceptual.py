import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from src.losses.inputs import LossInput
from src.losses.perceptual import (
    Perceptual,
    Style,
    absolute_sum,
    euclidean,
    gram,
    mean_absolute,
    mean_square,
    root_mean_square,
    squared_sum,
)
from src.networks.interface import InpaintingOutput

LBAM = {"over_layers": torch.mean, "views": ("prediction",)}
LIU = {"over_layers": torch.sum, "views": ("prediction", "composite")}
YU = {"over_layers": torch.sum, "views": ("prediction",)}
TERMS = {
    "lbam perceptual": Perceptual(root_mean_square, **LBAM),
    "lbam style": Style(absolute_sum, **LBAM),
    "printed lbam style": Style(euclidean, **LBAM),
    "liu perceptual": Perceptual(mean_absolute, **LIU),
    "liu style": Style(absolute_sum, **LIU),
    "yu perceptual": Perceptual(mean_square, **YU),
    "yu style": Style(squared_sum, **YU),
    "edge_connect perceptual": Perceptual(mean_absolute, **YU, layers=[0]),
    "edge_connect style": Style(absolute_sum, torch.sum, ["prediction_in_hole"], layers=[1], truth="truth_in_hole"),
}


class Pixels(nn.Module):
    """Two "layers": the first two channels, and twice the third."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return image[:, :2], 2 * image[:, 2:]


def make_1x2_input() -> LossInput:
    """Truth 0; the prediction is 1 at the left pixel, a hole, and 2 at the right one, which is known."""
    prediction = torch.tensor([1.0, 2.0]).expand(1, 3, 1, 2).clone().requires_grad_()
    mask = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    return LossInput(torch.zeros(1, 3, 1, 2), mask, InpaintingOutput(prediction), Pixels())


def test_gram_by_hand():
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 1, 2)
    assert_close(gram(features), torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / 4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # layer 1 differs by 1, 2, 1, 2 and layer 2 by 2, 4: mean squares 10/4 and 20/2
        ("lbam perceptual", (math.sqrt(2.5) + math.sqrt(10)) / 2),
        # Gram matrices: layer 1 has four entries (1 + 4) / 4 and C^2 = 4; layer 2 one entry (4 + 16) / 2
        ("lbam style", (4 * 1.25 / 4 + 10) / 2),
        ("printed lbam style", (math.sqrt(4 * 1.25**2) / 4 + 10) / 2),
        # the composite is 1, 0: layer 1 differs by 1, 0, 1, 0 and layer 2 by 2, 0
        ("liu perceptual", (6 / 4 + 6 / 2) + (2 / 4 + 2 / 2)),
        # its Gram matrices: four entries 1/4 over 4, one entry 4/2
        ("liu style", (4 * 1.25 / 4 + 10) + (4 * 0.25 / 4 + 2)),
        ("yu perceptual", 2.5 + 10),
        ("yu style", 4 * 1.25**2 / 4 + 10**2),
        ("edge_connect perceptual", 6 / 4),  # layer 1 only
        ("edge_connect style", 4 / 2),  # layer 2 only, and the prediction is 1, 0
    ],
)
def test_terms_by_hand(name, expected):
    assert_close(TERMS[name](make_1x2_input()), torch.tensor(expected))


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_batch_equals_mean_of_singles(term):
    torch.manual_seed(0)
    truth, prediction = torch.rand(3, 3, 6, 8), torch.rand(3, 3, 6, 8)
    mask = (torch.rand(3, 1, 6, 8) > 0.5).float()

    def value(rows: slice) -> Tensor:
        return term(LossInput(truth[rows], mask[rows], InpaintingOutput(prediction[rows]), Pixels()))

    assert_close(value(slice(None)), torch.stack([value(slice(i, i + 1)) for i in range(3)]).mean())


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_gradient_is_finite_for_equal_images(term):
    torch.manual_seed(0)
    truth = torch.rand(2, 3, 6, 8)
    prediction = truth.clone().requires_grad_()
    value = term(LossInput(truth, torch.zeros(2, 1, 6, 8), InpaintingOutput(prediction), Pixels()))
    value.backward()
    assert value == 0
    assert prediction.grad.isfinite().all()


def test_root_mean_square_does_not_depend_on_resolution():
    small, large = torch.full((2, 3, 4, 4), 0.3), torch.full((2, 3, 64, 64), 0.3)
    assert_close(root_mean_square(small), root_mean_square(large))
    assert_close(root_mean_square(small), torch.tensor([0.3, 0.3]))


def test_gram_stays_in_float32_under_autocast():
    features = torch.rand(1, 4, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = gram(features)
    assert under_autocast.dtype == torch.float32
    assert torch.equal(under_autocast, gram(features))
