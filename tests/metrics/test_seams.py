"""Seams and colour shifts: answers known by hand, invariances, and growth with the fault."""

import pytest
import torch
from torch.testing import assert_close

from src.metrics.seams import RING_PX, colour_shift_percent, seam_percent

MASK = torch.ones(1, 1, 40, 48)
MASK[..., 8:32, 10:40] = 0


@pytest.fixture
def truth():
    return 0.25 + 0.5 * torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(0))


def add_in_hole(truth, value):
    return truth + value * (1 - MASK)


@pytest.mark.parametrize("score", [seam_percent, colour_shift_percent])
def test_truth_scores_zero_and_flips_change_nothing(score, truth):
    assert score(truth, truth, MASK).item() == 0
    filled = add_in_hole(truth, torch.linspace(0, 0.2, 48))
    value = score(filled, truth, MASK)
    assert value.item() > 0
    for dims in ([-1], [-2], [-1, -2]):
        assert_close(score(*(image.flip(dims) for image in (filled, truth, MASK))), value)
    assert_close(score(filled + 0.1, truth + 0.1, MASK), value)


@pytest.mark.parametrize("score", [seam_percent, colour_shift_percent])
def test_scores_grow_with_a_step(score, truth):
    values = [score(add_in_hole(truth, step), truth, MASK).item() for step in (0.0, 0.05, 0.1, 0.2, 0.4)]
    assert values == sorted(values)
    assert values[-1] > values[1] + 5


def test_a_step_beside_flat_regions_is_its_size_in_percent():
    flat = torch.full((1, 3, 40, 48), 0.5)
    filled = add_in_hole(flat, torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1))
    for score in (seam_percent, colour_shift_percent):
        assert score(filled, flat, MASK).item() == pytest.approx(20)


def test_a_seam_is_not_a_wrong_pixel(truth):
    """Another texture with steps of the same size, or a flat fill, has no seam, until its colour is shifted."""
    other = torch.where(MASK > 0, truth, truth.flip(1))  # another channel's texture
    smooth = torch.where(MASK > 0, truth, truth.mean())
    assert seam_percent(other, truth, MASK).item() < 2
    assert seam_percent(smooth, truth, MASK).item() == 0
    assert seam_percent(add_in_hole(other, 0.3), truth, MASK).item() > 15


def test_noise_is_not_a_colour_shift_but_a_local_tint_is(truth):
    noise = 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    tint = 0.1 * torch.where(torch.arange(48) < 24, 1.0, -1.0)  # 0 on average
    shifts = [colour_shift_percent(add_in_hole(truth, error), truth, MASK).item() for error in (noise, tint)]
    assert shifts[0] < 1
    assert shifts[1] > 6


def test_pixels_far_from_the_border_do_not_matter(truth):
    depth = RING_PX + 2
    inside = torch.zeros_like(truth)
    inside[..., 8 + depth : 32 - depth, 10 + depth : 40 - depth] = 0.3
    assert inside.any()
    for score in (seam_percent, colour_shift_percent):
        assert score(truth + inside, truth, MASK).item() == 0


def test_without_a_border_there_is_no_value(truth):
    assert seam_percent(truth, truth, torch.ones_like(MASK)).isnan()
    assert colour_shift_percent(truth, truth, torch.ones_like(MASK)).isnan()
