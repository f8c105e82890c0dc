import sys

import cv2
import numpy as np
import pytest
import torch
from skimage.restoration import inpaint_biharmonic
from torch.testing import assert_close

from src.common.errors import InputError
from src.networks.classical import Biharmonic, MeanColour, NavierStokes, PatchMatch, Telea, has_patchmatch

needs_patchmatch = pytest.mark.skipif(not has_patchmatch(), reason="PyPatchMatch is not installed")
PATCHMATCH = pytest.param(PatchMatch, marks=needs_patchmatch)
METHODS = [MeanColour, Telea, NavierStokes, Biharmonic, PATCHMATCH]


def make_inputs():
    """Return a horizontal and a vertical coloured ramp with holes, not square."""
    rows, columns = torch.linspace(0.1, 0.9, 40).view(1, 40, 1), torch.linspace(0.2, 0.8, 56).view(1, 1, 56)
    colour = torch.tensor([1.0, 0.8, 0.6]).view(3, 1, 1)
    image = torch.stack([colour * rows.expand(1, 40, 56), colour * columns.expand(1, 40, 56)])
    mask = torch.ones(2, 1, 40, 56)
    mask[0, :, 10:22, 12:30] = 0
    mask[1, :, 25:, :20] = 0
    return image, mask


def test_mean_colour_is_per_image():
    image, mask = make_inputs()
    prediction = MeanColour()(torch.where(mask > 0, image, torch.nan), mask).prediction
    for i in range(2):
        known = image[i].flatten(1)[:, mask[i].flatten() > 0]
        assert_close(prediction[i], known.mean(1).view(3, 1, 1).expand(3, 40, 56))


@pytest.mark.parametrize("method", METHODS)
def test_image_without_known_pixels_is_grey(method):
    image, mask = make_inputs()
    mask[1] = 0  # one image of the batch only
    prediction = method()(image, mask).prediction
    assert (prediction[1] == 0.5).all()
    assert not (prediction[0] == 0.5).all()


@pytest.mark.parametrize("method", METHODS[1:])
def test_without_a_hole_the_image_is_unchanged(method):
    image, mask = make_inputs()
    assert torch.equal(method()(image, torch.ones_like(mask)).prediction, image)


@pytest.mark.parametrize("method", [Telea, NavierStokes, Biharmonic])
def test_continues_ramps(method):
    image, mask = make_inputs()
    output, mean = (network(image, mask).prediction for network in (method(), MeanColour()))
    error, mean_error = (((p - image).abs() * (1 - mask)).sum() / (3 * (1 - mask).sum()) for p in (output, mean))
    assert error < 0.5 * mean_error
    assert ((output - image).abs() * mask).max() <= 0.5 / 255 + 1e-6  # OpenCV's 8 bits


@pytest.mark.parametrize(("method", "flag"), [(Telea, cv2.INPAINT_TELEA), (NavierStokes, cv2.INPAINT_NS)])
@pytest.mark.parametrize("radius_px", [1.0, 5.0])
def test_opencv_methods_match_opencv(method, flag, radius_px):
    image, mask = make_inputs()
    prediction = method(radius_px)(image, mask).prediction
    for i in range(2):
        rgb = np.rint((image[i] * mask[i]).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        hole = (mask[i, 0] == 0).numpy().astype(np.uint8)
        expected = torch.from_numpy(cv2.inpaint(rgb, hole, radius_px, flag)).permute(2, 0, 1) / 255
        assert_close(prediction[i], expected)


def test_biharmonic_matches_scikit_image():
    image, mask = make_inputs()
    prediction = Biharmonic()(image, mask).prediction
    for i in range(2):
        rgb, hole = image[i].permute(1, 2, 0).double().numpy(), (mask[i, 0] == 0).numpy()
        expected = torch.from_numpy(inpaint_biharmonic(rgb, hole, channel_axis=-1)).permute(2, 0, 1)
        assert_close(prediction[i], expected.float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", [Telea, NavierStokes])
def test_single_row_is_filled_from_its_pixels(method):
    """OpenCV reads beyond a single row."""
    image = torch.linspace(0.2, 0.6, 9).view(1, 1, 1, 9).expand(1, 3, 1, 9).contiguous()
    mask = torch.ones(1, 1, 1, 9)
    mask[..., 3:6] = 0
    fills = []
    for noise in (0, 255, 77) * 5:
        _ = [np.full(size, noise, np.uint8) for size in (16, 32, 64, 100, 200, 500) for _ in range(50)]
        fills.append(method()(image, mask).prediction)
    assert all(torch.equal(fills[0], other) for other in fills)
    assert fills[0].min() > 0.19
    assert fills[0].max() < 0.61


@needs_patchmatch
def test_patchmatch_continues_a_texture_and_repeats_its_result():
    """A texture of period 4 has exact patches to copy; the mean colour is 0.5 off everywhere."""
    image = torch.tensor([[1.0, 0.0, 0.0, 1.0]]).T.repeat(12, 1).expand(1, 3, 48, 48).contiguous()
    mask = torch.ones(1, 1, 48, 48)
    mask[..., 18:30, 18:30] = 0
    filled = PatchMatch()(torch.where(mask > 0, image, torch.nan), mask).prediction
    assert ((filled - image).abs() * (1 - mask)).sum() < 0.2 * 3 * (1 - mask).sum()
    noise = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    first, again, other = (PatchMatch(seed=seed)(noise, mask).prediction for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_missing_patchmatch_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "patchmatch", None)
    with pytest.raises(InputError, match=r"pip install -e '.\[patchmatch\]'"):
        PatchMatch()
