import numpy as np
import pytest
import torch
from torch.testing import assert_close

from src.common.errors import InputError
from src.networks.layers.canny import DEFAULT_CANNY, RELEASED_CANNY, Canny, canny_edges

REACH = 10  # px: the smoothing is cut off at 4 sigma = 8; gradient and maximum add 1 each


def step(height=48, width=64, column=30):
    """Return an image that is dark to the left of `column` and bright from there."""
    image = torch.full((2, 3, height, width), 0.2)
    image[..., column:] = 0.9
    return image


def masks():
    """Return masks: a block in the middle, specks and strokes."""
    block, specks = torch.ones(2, 1, 1, 48, 64)
    block[..., 10:30, 15:40] = 0
    specks[..., ::7, ::5] = 0
    specks[..., 20, :] = 0
    return torch.cat([block, specks])


def away_from(mask, px=REACH):
    """Return the known pixels without hole or border within `px`."""
    hole = torch.nn.functional.pad(1 - mask, (px,) * 4, value=1.0)
    return torch.nn.functional.max_pool2d(hole, 2 * px + 1, stride=1) == 0


def test_finds_step_edge():
    edges = DEFAULT_CANNY.known_edges(step(), torch.ones(2, 1, 48, 64))
    assert edges.shape == (2, 1, 48, 64)
    found = edges[0, 0].nonzero()
    assert set(found[:, 1].tolist()) <= {29, 30}  # the step lies between them
    assert set(found[:, 0].tolist()) == set(range(1, 47))  # all rows except those of the border


# scikit-image's Sobel sums 4 differences over two pixels: next to a step of height s, smoothed by sigma = 2, that is
# 4 s (Phi(1.5 / 2) - Phi(-0.5 / 2)), Phi being the normal distribution.
MAGNITUDE_OF_A_STEP = 4 * (0.7734 - 0.4013)


def test_hysteresis_uses_both_thresholds():
    heights = np.linspace(0.0, 0.2, 96)  # of the step, row by row
    growing, even = np.zeros((2, 96, 64))
    growing[:, 32:] = heights[:, None]
    rows = canny_edges(growing).any(axis=1).nonzero()[0]
    assert heights[rows.min()] * MAGNITUDE_OF_A_STEP == pytest.approx(0.1, abs=0.01)
    assert rows.tolist() == [*range(rows.min(), 95)]
    for height in (heights[rows.min()] + 0.02, 0.97 * 0.2 / MAGNITUDE_OF_A_STEP):
        even[:, 32:] = height
        assert not canny_edges(even).any()  # not connected to a stronger edge
    even[:, 32:] = 1.03 * 0.2 / MAGNITUDE_OF_A_STEP
    assert canny_edges(even).any()


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_mask_border_is_no_edge(value):
    """A constant image has no edge with any mask, although zeroed holes have an outline."""
    image = torch.full((2, 3, 48, 64), value)
    random = (torch.rand(2, 1, 48, 64, generator=torch.Generator().manual_seed(0)) > 0.4).float()
    for mask in (masks(), random, torch.zeros_like(random), torch.ones_like(random)):
        assert not DEFAULT_CANNY.known_edges(image, mask).any()
    emptied = (image * masks())[0].mean(0).numpy()
    assert canny_edges(emptied).any() == (value > 0)  # without the mask, the outline is an edge


def test_edges_away_from_hole_match_whole_image():
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    discs = ((x - 40) ** 2 + (y - 48) ** 2 < 900) | ((x - 100) ** 2 + (y - 30) ** 2 < 400)
    image = discs.float().expand(2, 3, -1, -1) * 0.7 + 0.1
    mask = torch.ones(2, 1, 96, 128)
    mask[0, :, 30:60, 40:90] = 0
    mask[1, :, :, 60:62] = 0
    whole, known = DEFAULT_CANNY.known_edges(image, torch.ones_like(mask)), DEFAULT_CANNY.known_edges(image, mask)
    clear = away_from(mask)
    assert whole[clear].sum() > 50
    assert torch.equal(whole[clear], known[clear])


def test_edge_ends_at_hole():
    mask = torch.ones(2, 1, 48, 64)
    mask[..., 20:30, :] = 0
    rows = DEFAULT_CANNY.known_edges(step(), mask)[0, 0].any(dim=1).nonzero().flatten().tolist()
    assert rows == [*range(1, 19), *range(31, 47)]  # all known rows except those that touch the hole or the border


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, 1e30, 1.0])
def test_hole_pixels_are_never_read(poison):
    image, mask = step(), masks()
    image[:, :, 5:9] = 0.5
    emptied, poisoned = torch.where(mask > 0, image, 0.0), torch.where(mask > 0, image, poison)
    assert torch.equal(DEFAULT_CANNY.known_edges(emptied, mask), DEFAULT_CANNY.known_edges(poisoned, mask))
    assert DEFAULT_CANNY.known_edges(emptied, mask).any()


def test_each_sample_has_its_own_mask():
    image, mask = step(), masks()
    singles = [DEFAULT_CANNY.known_edges(image[i : i + 1], mask[i : i + 1]) for i in range(2)]
    assert torch.equal(DEFAULT_CANNY.known_edges(image, mask), torch.cat(singles))
    assert not torch.equal(*singles)


def test_no_mask_is_a_mask_of_ones():
    one = step()[0].mean(0).numpy()
    assert (canny_edges(one) == canny_edges(one, np.ones((48, 64), bool))).all()


def test_edges_have_no_gradient_and_dtype_of_image():
    image = step().to(torch.bfloat16).requires_grad_()
    edges = DEFAULT_CANNY.known_edges(image, torch.ones(2, 1, 48, 64))
    assert edges.dtype == torch.bfloat16
    assert not edges.requires_grad
    assert set(edges.unique().tolist()) == {0.0, 1.0}


def test_gray_is_the_luma_of_bt_601():
    image = torch.eye(3).view(3, 3, 1, 1)  # pure red, green and blue
    assert_close(DEFAULT_CANNY.gray(image).flatten(), torch.tensor([0.299, 0.587, 0.114]))
    assert_close(DEFAULT_CANNY.gray(torch.ones(1, 3, 2, 2)), torch.ones(1, 1, 2, 2))


def test_settings_affect_gray_and_edges():
    image, mask = step() * torch.tensor([1.0, 0.5, 0.2]).view(3, 1, 1), masks()
    assert Canny(sigma=2.0, luma=(0.299, 0.587, 0.114)) == DEFAULT_CANNY
    other = Canny(sigma=1.0, luma=[0.0, 0.0, 1.0])
    assert torch.equal(other.gray(image), image[:, 2:])
    expected = canny_edges(image[0, 2].numpy(), mask[0, 0].bool().numpy(), sigma=1.0)
    assert np.array_equal(other.known_edges(image, mask)[0, 0].bool().numpy(), expected)
    assert not torch.equal(Canny(sigma=1.0).known_edges(image, mask), DEFAULT_CANNY.known_edges(image, mask))


def test_released_settings_match_scikit_image():
    from skimage.color import rgb2gray

    image = torch.rand(1, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    assert_close(RELEASED_CANNY.gray(image)[0, 0], torch.from_numpy(rgb2gray(image[0].permute(1, 2, 0).numpy())))
    assert RELEASED_CANNY.sigma == 1.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sigma": 0.0}, "sigma must be > 0"),
        ({"luma": (1.0, 0.0)}, "luma must"),
        ({"luma": (1, 1, 1)}, "luma must"),
    ],
)
def test_rejects_invalid_settings(wrong, message):
    with pytest.raises(InputError, match=message):
        Canny(**wrong)


def test_rejects_wrong_shapes():
    with pytest.raises(ValueError, match=r"must share \(H, W\)"):
        canny_edges(np.zeros((4, 4)), np.ones((4, 5), bool))
    with pytest.raises(ValueError, match=r"must share \(H, W\)"):
        canny_edges(np.zeros((1, 4, 4)))
