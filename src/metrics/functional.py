"""Per-image scores as pure functions: (prediction, truth, mask) -> (B,), in formulas d = prediction - truth.

Shapes of all:
    prediction, truth (B, 3, H, W) in [0, 1], float32; mask (B, 1, H, W), 1 = known, 0 = hole. Returns (B,).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
    total_variation,
)

from src.common.errors import InputError

PSNR_CEILING_DB = 100.0
SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5
GREY_LEVEL = 1 / 255


def psnr(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """10 log10(1 / mean d^2), at most 100 dB.

    Identical images have an infinite PSNR, and one of them would make the mean of its bin infinite: they count as
    100 dB, which is a mean squared error of 1e-10, far below what 8 bits can tell apart.
    """
    decibels = peak_signal_noise_ratio(prediction, truth, data_range=1.0, dim=(1, 2, 3), reduction="none")
    return decibels.clamp(max=PSNR_CEILING_DB)


def ssim(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Structural similarity: a Gaussian window of 11x11 and sigma 1.5, K1 0.01, K2 0.03, per RGB channel, averaged.

    Windows that reach over the border see the image mirrored, and count. Papers differ in all of this (grey or colour,
    7x7 uniform or 11x11 Gaussian, border cropped or not), and by more than the third decimal they print.
    """
    _require_ssim_window(truth)
    # E[x^2] - E[x]^2 cancels, badly where a GPU convolves in TF32. The CPU's float32 is good to 1e-5,
    # and its float64 25 times slower.
    precise = torch.float64 if truth.is_cuda else torch.float32
    similarity = structural_similarity_index_measure(
        prediction.to(precise), truth.to(precise), sigma=SSIM_SIGMA_PX, data_range=1.0, reduction="none"
    )
    assert isinstance(similarity, Tensor)  # a tuple only if the full map is asked for
    return similarity


def ssim_255_range_1(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Structural similarity as LBAM's and Edge-LBAM's evaluation computes it, for their tables.

    mean (2 m_x m_y + 0.01^2)(2 s_xy + 0.03^2) / ((m_x^2 + m_y^2 + 0.01^2)(s_x^2 + s_y^2 + 0.03^2)), x and y in 0..255

    m, s^2 and s_xy are means, variances and covariance under an 11x11 Gaussian window, sigma 1.5, per RGB channel. Two
    things differ from `ssim`. The constants are those of images in 0..1, so that they stabilise nothing: noise in flat
    regions counts as lost structure, and values are lower (0.669 where `ssim` has 0.811, on one image). And windows at
    the border see zeros outside the image, not its mirror image.

    Computed in float64: s^2 = mean(x^2) - m^2 subtracts numbers of up to 65,025, where float32's spacing is 0.0078 and
    s^2 of a flat region is compared with 0.0009.
    Source: `test_random_batch.py` of both releases, which calls the package pytorch_ssim on 255 times its images.
    """
    _require_ssim_window(truth)
    x, y = 255 * prediction.double(), 255 * truth.double()
    mean_x, mean_y = _gaussian_mean(x), _gaussian_mean(y)
    variances = _gaussian_mean(x * x + y * y) - mean_x.square() - mean_y.square()
    covariance = _gaussian_mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x.square() + mean_y.square() + c1) * (variances + c2)
    )
    return similarity.mean(dim=(1, 2, 3))


def _gaussian_mean(values: Tensor) -> Tensor:
    """Mean under a Gaussian window around every pixel, zeros outside; added up in place, 10 times as fast as conv2d."""
    height, width = values.shape[-2:]
    reach = SSIM_WINDOW_PX // 2
    weights = [math.exp(-((k - reach) ** 2) / (2 * SSIM_SIGMA_PX**2)) for k in range(SSIM_WINDOW_PX)]
    total = sum(weights)
    padded = F.pad(values, [reach] * 4)
    across = torch.zeros_like(padded[..., :width])
    mean = torch.zeros_like(values)
    for k, weight in enumerate(weights):
        across.add_(padded[..., k : k + width], alpha=weight / total)
    for k, weight in enumerate(weights):
        mean.add_(across[..., k : k + height, :], alpha=weight / total)
    return mean


def _require_ssim_window(truth: Tensor) -> None:
    if min(truth.shape[-2:]) < SSIM_WINDOW_PX:
        raise InputError(
            f"SSIM needs images of at least {SSIM_WINDOW_PX}x{SSIM_WINDOW_PX} pixels, its window, "
            f"got {truth.shape[-2]}x{truth.shape[-1]}: score larger images, or leave SSIM out"
        )


def l1_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """100 * mean |d| over all pixels and channels."""
    return 100 * (prediction - truth).abs().mean(dim=(1, 2, 3))


def l1_hole_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """100 * mean |d| over the hole's pixels and their channels; not a number where there is no hole."""
    hole = 1 - mask
    return 100 * _sum(hole * (prediction - truth).abs()) / (truth.shape[1] * _sum(hole))


def l1_relative_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """100 * sum |d| / sum |truth|, both over the hole.

    Edge-LBAM, p. 9, prints |M * (I_gt - I_out)|_1 / |M * I_gt|_1 and calls M the mask region: the hole is meant, as its
    composites have no error elsewhere. See `l1_relative_known_percent` for the letter of it.
    """
    return _relative_percent(prediction, truth, 1 - mask)


def l1_relative_known_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """100 * sum |d| / sum |truth|, both over the known pixels: 0 on every composite.

    The formula of `l1_relative_percent` to the letter, M being 1 where a pixel is known in Edge-LBAM's Fig. 4.
    """
    return _relative_percent(prediction, truth, mask)


def l1_relative_image_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """100 * sum |d| / sum |truth|, both over the whole image: the relative l1 error of contextual attention's author.

    Scale-free, but not shift-free: images are in [0, 1], where black is 0.
    """
    return _relative_percent(prediction, truth, torch.ones_like(mask))


def l2_relative_image_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """100 * sum d^2 / sum truth^2, both over the whole image: the author's "squared relative L2 error"."""
    darkest = GREY_LEVEL**2 * truth[0].numel()
    return 100 * _sum((prediction - truth).square()) / _sum(truth.square()).clamp_min(darkest)


def _relative_percent(prediction: Tensor, truth: Tensor, region: Tensor) -> Tensor:
    # A black region would make the ratio infinite, and its bin's mean with it: it counts as one grey level bright.
    darkest = GREY_LEVEL * truth.shape[1] * _sum(region)
    return 100 * _sum(region * (prediction - truth).abs()) / torch.maximum(_sum(region * truth), darkest)


def l2_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """100 * mean d^2 over all pixels and channels."""
    return 100 * (prediction - truth).square().mean(dim=(1, 2, 3))


def l2_hole_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """100 * mean d^2 over the hole's pixels and their channels; not a number where there is no hole."""
    hole = 1 - mask
    return 100 * _sum(hole * (prediction - truth).square()) / (truth.shape[1] * _sum(hole))


def tv_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """100 / (H W) * the sum of |differences| of neighbours, across and down, over all three channels.

    Of the prediction alone: a real photo has some, and copied patches have less than invented ones.
    """
    return 100 * total_variation(prediction, reduction="none") / (truth.shape[-2] * truth.shape[-1])


def _sum(values: Tensor) -> Tensor:
    return values.sum(dim=(1, 2, 3))
