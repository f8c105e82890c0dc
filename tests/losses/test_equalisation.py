"""MEDFE's terms on structure and texture."""

import torch
from torch.testing import assert_close

from src.losses.equalisation import PartL1, edge_preserving, unfiltered
from src.losses.inputs import LossInput
from src.networks.interface import InpaintingOutput


def noisy_step() -> torch.Tensor:
    """A dark and a bright half with noise."""
    torch.manual_seed(0)
    step = torch.full((2, 3, 48, 64), 0.2)
    step[..., 32:] = 0.8
    return (step + 0.05 * torch.randn_like(step)).clamp(0, 1)


def test_filter_removes_noise_and_keeps_the_edge():
    image = noisy_step()
    smooth = edge_preserving(image)
    assert smooth.shape == image.shape
    assert float(smooth[..., :24].std()) < float(image[..., :24].std()) / 3
    jump = smooth[..., 34:40].mean() - smooth[..., 24:30].mean()
    assert 0.5 < float(jump) < 0.65
    assert_close(edge_preserving(image[1:]), smooth[1:])  # each image alone


def test_parts_are_compared_with_their_resized_targets():
    truth = noisy_step()
    parts = {"structure": torch.zeros(2, 3, 6, 8, requires_grad=True), "texture": torch.zeros(2, 3, 6, 8)}
    inputs = LossInput(truth, torch.ones(2, 1, 48, 64), InpaintingOutput(truth, parts=parts))
    expected = torch.nn.functional.interpolate(truth, size=(6, 8), mode="bilinear").mean()
    assert_close(PartL1("texture", unfiltered)(inputs), expected)
    structure = PartL1("structure", edge_preserving)(inputs)
    assert_close(structure, expected, atol=0.02, rtol=0)
    structure.backward()
    assert parts["structure"].grad.abs().sum() > 0
