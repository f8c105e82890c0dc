"""DFNet: results at several scales, and the loss terms on them."""

import pytest
import torch
from torch.testing import assert_close

from src.losses.inputs import LossInput
from src.losses.levels import OverLevels
from src.losses.reconstruction import L1, TotalVariation
from src.networks.dfnet import DFNet, FusionBlock
from src.training.schedules import step_decay


def make_output(levels=4):
    torch.manual_seed(0)
    image, mask = torch.rand(2, 3, 32, 48), torch.ones(2, 1, 32, 48)
    mask[:, :, 8:20, 10:30] = 0
    with torch.no_grad():
        return image, mask, DFNet(width=1 / 16, levels=levels).eval()(image, mask)


def test_each_level_halves_the_size():
    _, _, output = make_output()
    assert {name: tuple(part.shape) for name, part in output.parts.items()} == {
        f"level_{level}": (2, 3, 32 // 2**level, 48 // 2**level) for level in (1, 2, 3)
    }


def test_opacity_selects_completion_or_known_image():
    torch.manual_seed(0)
    block, x, image = FusionBlock(8, 4).eval(), torch.rand(1, 8, 16, 16), torch.rand(1, 3, 16, 16)
    for bias, expected in ((100.0, block.to_image(x)), (-100.0, image)):
        torch.nn.init.zeros_(block.alpha[-2].weight)
        torch.nn.init.constant_(block.alpha[-2].bias, bias)
        assert_close(block(x, image), expected)


def test_terms_are_averaged_over_the_levels():
    image, mask, output = make_output()
    inputs = LossInput(image, mask, output)
    by_hand = [(output.prediction - image).abs().mean()] + [
        (output.parts[f"level_{level}"] - inputs.at_level(level).image).abs().mean() for level in (1, 2)
    ]
    assert_close(OverLevels(L1(), 3)(inputs), torch.stack(by_hand).mean())
    assert_close(OverLevels(L1(), 1)(inputs), by_hand[0])
    assert_close(OverLevels(L1(), 4)(inputs), OverLevels(L1(), 9)(inputs))  # there are four
    assert inputs.at_level(1) is inputs.at_level(1)  # whose features are computed once


def test_total_variation_is_of_the_result_and_has_a_gradient():
    """In the release it is of the target."""
    image, mask, output = make_output()
    result = output.prediction.requires_grad_()
    OverLevels(TotalVariation(), 1)(LossInput(image, mask, output)).backward()
    assert result.grad.abs().sum() > 0


def test_cells_at_a_level_are_known_if_all_their_pixels_are():
    image, mask, output = make_output()
    known = LossInput(image, mask, output).at_level(1).mask
    assert_close(known, torch.nn.functional.max_pool2d(-mask, 2).neg())


@pytest.mark.parametrize(
    ("progress", "factor"), [(0, 1), (0.24, 1), (0.25, 0.1), (0.5, 0.01), (0.99, 0.001), (1, 0.001)]
)
def test_step_decay(progress, factor):
    assert step_decay(progress, steps=4) == pytest.approx(factor)
