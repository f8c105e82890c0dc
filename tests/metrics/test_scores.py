import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2gray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch.testing import assert_close

from src.common.errors import InputError
from src.metrics.scores import METRICS, PSNR, SCORES, VARIANTS

BY_NAME = {score.name: score for score in (*SCORES, *VARIANTS)}


@pytest.fixture
def images():
    """Return prediction, truth and mask: noise of three strengths with different masks."""
    torch.manual_seed(0)
    truth = torch.rand(3, 3, 48, 64)
    noise = torch.tensor([0.01, 0.1, 0.5]).view(3, 1, 1, 1) * torch.randn(3, 3, 48, 64)
    mask = (torch.rand(3, 1, 48, 64) > 0.3).float()
    return (truth + noise).clamp(0, 1), truth, mask


def channels_last(image):
    return image.permute(1, 2, 0).double().numpy()


def test_psnr_matches_scikit_image(images):
    prediction, truth, _ = images
    pairs = zip(truth, prediction, strict=True)
    theirs = [peak_signal_noise_ratio(channels_last(t), channels_last(p), data_range=1) for t, p in pairs]
    assert_close(BY_NAME["psnr"](*images), torch.tensor(theirs, dtype=torch.float32))


def test_ssim_matches_scikit_image(images):
    prediction, truth, mask = images
    # The two mirror the border differently, so 10 px at the border are equal here.
    prediction, inner = prediction.clone(), torch.zeros(48, 64, dtype=torch.bool)
    inner[10:-10, 10:-10] = True
    prediction = torch.where(inner, prediction, truth)
    theirs = []
    for t, p in zip(truth, prediction, strict=True):
        _, similarity = structural_similarity(
            channels_last(t), channels_last(p), data_range=1, channel_axis=-1, full=True,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )  # fmt: skip
        theirs.append(similarity.mean())
    ours = BY_NAME["ssim"](prediction, truth, mask)
    assert_close(ours, torch.tensor(theirs, dtype=torch.float32), atol=1e-5, rtol=0)  # the CPU's float32
    assert ours[0] > 0.99 > ours[2]


def slow_ssim(prediction, truth, largest=255):
    """Compute the definition pixel by pixel and channel by channel from (3, H, W) in [0, 1]."""
    x, y = (np.pad(largest * image.double().numpy(), [(0, 0), (5, 5), (5, 5)]) for image in (prediction, truth))
    window = np.array([[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)])
    window /= window.sum()
    found = []
    for channel, row, column in np.ndindex(*truth.shape):
        p, t = (image[channel, row : row + 11, column : column + 11] for image in (x, y))
        m_p, m_t = (window * p).sum(), (window * t).sum()
        v_p, v_t = (window * p * p).sum() - m_p**2, (window * t * t).sum() - m_t**2
        covariance = (window * p * t).sum() - m_p * m_t
        luminance = (2 * m_p * m_t + 0.01**2) / (m_p**2 + m_t**2 + 0.01**2)
        found.append(luminance * (2 * covariance + 0.03**2) / (v_p + v_t + 0.03**2))
    return np.mean(found)


@pytest.mark.parametrize("contrast", [1.0, 0.1, 0.002])
def test_ssim_255_range_1_matches_definition(contrast):
    """At the lowest contrast, the variance is 1e-6 of the squares from which it is computed."""
    rng = torch.Generator().manual_seed(0)
    truth, noise = torch.rand(2, 2, 3, 12, 15, generator=rng)
    truth = 1 - contrast * truth
    prediction = truth - 0.3 * contrast * noise
    ours = BY_NAME["ssim_255_range_1"](prediction, truth, torch.ones(2, 1, 12, 15))
    slow = [slow_ssim(p, t) for p, t in zip(prediction, truth, strict=True)]
    assert_close(ours, torch.tensor(slow, dtype=torch.float32), atol=2e-7, rtol=0)


def test_ssim_zero_padded_matches_definition():
    rng = torch.Generator().manual_seed(0)
    truth, noise = torch.rand(2, 1, 3, 12, 15, generator=rng)
    prediction = truth - 0.3 * noise
    ours = BY_NAME["ssim_zero_padded"](prediction, truth, torch.ones(1, 1, 12, 15))
    assert ours.item() == pytest.approx(slow_ssim(prediction[0], truth[0], largest=1), abs=2e-7)


def test_ssim_valid_matches_scikit_image(images):
    """Its mean, too, leaves out the windows that cross the border."""
    prediction, truth, mask = images
    theirs = [
        structural_similarity(
            channels_last(t), channels_last(p), data_range=1, channel_axis=-1,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
        for t, p in zip(truth, prediction, strict=True)
    ]  # fmt: skip
    ours = BY_NAME["ssim_valid"](prediction, truth, mask)
    assert_close(ours, torch.tensor(theirs, dtype=torch.float32), atol=1e-6, rtol=0)


def test_ssim_uniform_matches_scikit_image(images):
    prediction, truth, mask = images
    prediction, truth, mask = prediction[..., :-1], truth[..., :-1], mask[..., :-1]  # an odd width
    pairs = [(channels_last(t), channels_last(p)) for t, p in zip(truth, prediction, strict=True)]
    theirs = [structural_similarity(t, p, data_range=1, channel_axis=-1) for t, p in pairs]
    ours = BY_NAME["ssim_uniform"](prediction, truth, mask)
    assert_close(ours, torch.tensor(theirs, dtype=torch.float32), atol=1e-6, rtol=0)
    grey = [[rgb2gray(image[..., ::-1]) for image in pair] for pair in pairs]  # files are read as BGR
    theirs = [structural_similarity(t, p, data_range=2) for t, p in grey]
    ours = BY_NAME["ssim_uniform_grey_range_2"](prediction, truth, mask)
    assert_close(ours, torch.tensor(theirs, dtype=torch.float32), atol=1e-6, rtol=0)


def test_ssim_255_range_1_is_lower_in_flat_regions():
    """Noise of one grey level on flat grey, which does not change `ssim`."""
    rng = torch.Generator().manual_seed(0)
    truth, mask = torch.full((1, 3, 40, 40), 0.5), torch.ones(1, 1, 40, 40)
    noisy = truth + torch.randn(truth.shape, generator=rng) / 255
    assert BY_NAME["ssim"](noisy, truth, mask).item() > 0.95
    assert BY_NAME["ssim_255_range_1"](noisy, truth, mask).item() < 0.5
    assert BY_NAME["ssim_255_range_1"](truth, truth, mask).item() == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # d is 0.2 and -0.4 in the hole, 0.1 and 0.1 outside it; the truth there 0.5, 0.5 and 0.25, 0.25
        ("l1_percent", 100 * 0.8 / 4),
        ("l1_hole_percent", 100 * 0.6 / 2),
        ("l1_relative_percent", 100 * 0.6 / 1.0),
        ("l1_relative_known_percent", 100 * 0.2 / 0.5),
        ("l1_relative_image_percent", 100 * 0.8 / 1.5),
        ("l1_aot_gan_percent", 100 * 0.8 / (1.5 + 1.5)),
        ("l2_relative_image_percent", 100 * (0.04 + 0.16 + 0.01 + 0.01) / (2 * 0.25 + 2 * 0.0625)),
        ("l2_percent", 100 * (0.04 + 0.16 + 0.01 + 0.01) / 4),
        ("l2_hole_percent", 100 * (0.04 + 0.16) / 2),
        ("psnr", 10 * math.log10(1 / 0.055)),
        # the prediction's rows are 0.7, 0.1 and 0.35, 0.35: across 0.6 and 0, down 0.35 and 0.25, in three channels
        ("tv_percent", 100 * 3 * (0.6 + 0.0 + 0.35 + 0.25) / 4),
    ],
)
def test_scores_by_hand(name, expected):
    truth = torch.tensor([[0.5, 0.5], [0.25, 0.25]]).expand(1, 3, 2, 2)
    prediction = torch.tensor([[0.7, 0.1], [0.35, 0.35]]).expand(1, 3, 2, 2)
    mask = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).view(1, 1, 2, 2)
    assert_close(BY_NAME[name](prediction, truth, mask), torch.tensor([expected]))


@pytest.mark.parametrize("score", BY_NAME.values(), ids=BY_NAME)
def test_batch_equals_singles(score, images):
    together = score(*images)
    singles = [score(*(t[i : i + 1] for t in images)) for i in range(3)]
    assert together.shape == (3,)
    assert together.dtype == torch.float32
    assert_close(together, torch.cat(singles))


@pytest.mark.parametrize("score", BY_NAME.values(), ids=BY_NAME)
def test_autocast_does_not_change_scores(score, images):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = score(*images)
    assert torch.equal(under_autocast, score(*images))


@pytest.mark.parametrize("score", BY_NAME.values(), ids=BY_NAME)
def test_better_images_have_better_scores(score, images):
    noisy, clean, mask = images
    truth = torch.linspace(0.2, 0.8, 64).expand(3, 3, 48, 64)  # smooth: noise adds total variation
    prediction = truth + 0.1 * (noisy - clean)
    better, worse = score(truth, truth, mask), score(prediction, truth, mask)
    assert ((better > worse) if score.higher_is_better else (better < worse)).all()


@pytest.mark.parametrize("score", BY_NAME.values(), ids=BY_NAME)
def test_composite_scores_ignore_predicted_known_pixels(score, images):
    prediction, truth, mask = images
    pasted = torch.where(mask > 0, truth, prediction)
    if score.name == "l1_relative_known_percent":
        assert (score(pasted, truth, mask) == 0).all()
    elif score.name == "l1_hole_percent":
        assert_close(score(pasted, truth, mask), score(prediction, truth, mask))
        hole_ratio = 1 - mask.mean(dim=(1, 2, 3))
        assert_close(score(pasted, truth, mask) * hole_ratio, BY_NAME["l1_percent"](pasted, truth, mask))


def test_identical_images_have_100_db():
    truth = torch.rand(2, 3, 16, 16)
    assert_close(BY_NAME["psnr"](truth, truth, torch.ones(2, 1, 16, 16)), torch.tensor([100.0, 100.0]))


@pytest.mark.parametrize("name", [name for name in BY_NAME if "relative" in name and "known" not in name])
def test_black_image_has_finite_relative_error(name):
    truth, mask = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    value = BY_NAME[name](truth + 1 / 255, truth, mask)
    assert_close(value, torch.tensor([100.0]))  # one grey level off, of one grey level


@pytest.mark.parametrize("name", [name for name in BY_NAME if name.startswith("ssim")])
def test_ssim_rejects_images_smaller_than_window(name):
    side = 7 if "uniform" in name else 11
    with pytest.raises(InputError, match=rf"at least {side}x{side} pixels.*got {side - 1}x64"):
        BY_NAME[name](*torch.rand(2, 1, 3, side - 1, 64), torch.ones(1, 1, side - 1, 64))
    assert BY_NAME[name](torch.ones(1, 3, side, 64), torch.ones(1, 3, side, 64), torch.ones(1, 1, side, 64)) == 1


def test_rejects_wrong_shapes():
    image = torch.rand(1, 3, 16, 16)
    with pytest.raises(ValueError, match="l1_percent needs"):
        BY_NAME["l1_percent"](image, image, image)
    with pytest.raises(ValueError, match="psnr needs"):
        BY_NAME["psnr"](image, image[..., 1:], torch.ones(1, 1, 16, 16))


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_heading_has_unit_and_arrow(metric):
    assert metric.heading.startswith(metric.label)
    assert metric.heading.endswith("↑" if metric.higher_is_better else "↓")
    assert (f"({metric.unit})" in metric.heading) == bool(metric.unit)


def test_labels_are_unique_and_readable():
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)
    assert [METRICS[name].label for name in ("psnr", "l1_percent", "l1_hole_percent")] == ["PSNR", "l1", "l1 hole"]
    assert PSNR.heading == "PSNR (dB) ↑"


def test_scores_are_documented_and_names_are_unique():
    assert len(METRICS) == len(BY_NAME) + 4  # three LPIPS and DISTS
    for score in BY_NAME.values():
        assert score.formula
        assert score.source
        assert score.function.__doc__


def test_psnr_of_known_noise():
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.normal(0, 0.1, (1, 3, 256, 256))).float()
    value = BY_NAME["psnr"](0.5 + noise, torch.full_like(noise, 0.5), torch.ones(1, 1, 256, 256))
    assert value.item() == pytest.approx(20.0, abs=0.05)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(
    size=st.tuples(st.integers(11, 24), st.integers(11, 24)),
    hole_pixels=st.integers(1, 120),
    flat=st.sampled_from(["nothing", "truth", "both"]),
    seed=st.integers(0, 2**31),
)
def test_scores_are_finite_with_hole_and_known_pixels(size, hole_pixels, flat, seed):
    rng = torch.Generator().manual_seed(seed)
    truth, prediction = torch.rand(2, 1, 3, *size, generator=rng)
    truth = truth * 0 if flat != "nothing" else truth
    prediction = truth.clone() if flat == "both" else prediction
    mask = torch.ones(size[0] * size[1])
    mask[torch.randperm(len(mask), generator=rng)[:hole_pixels]] = 0
    for score in BY_NAME.values():
        assert score(prediction, truth, mask.view(1, 1, *size)).isfinite().all(), score.name
