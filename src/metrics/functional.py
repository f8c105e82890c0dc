"""Per-image scores as pure functions: (prediction, truth, mask) -> (B,), in formulas d = prediction - truth.

Shapes of all:
    prediction, truth (B, 3, H, W) in [0, 1], float32; mask (B, 1, H, W), 1 = known, 0 = hole. Returns (B,).
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure, total_variation

from src.common.errors import InputError

PSNR_CEILING_DB = 100.0
SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5
UNIFORM_WINDOW_PX = 7
GREY_LEVEL = 1 / 255


def psnr(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return 10 log10(1 / mean d^2), at most 100 dB.

    The PSNR of identical images is infinite and would make the mean of their bin infinite.
    """
    decibels = peak_signal_noise_ratio(prediction, truth, data_range=1.0, dim=(1, 2, 3), reduction="none")
    return decibels.clamp(max=PSNR_CEILING_DB)


def ssim(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return structural similarity: a Gaussian window of 11x11 and sigma 1.5, K1 0.01, K2 0.03, per RGB channel, mean.

    The border is mirrored and included. Papers differ in these choices (grey or colour, 7x7 uniform or 11x11 Gaussian,
    cropped border or not), by more than the third decimal that they print.
    """
    _require_ssim_window(truth)
    # E[x^2] - E[x]^2 cancels, severely in TF32 on GPUs; on CPUs float32 is accurate to 1e-5
    precise = torch.float64 if truth.is_cuda else torch.float32
    similarity = structural_similarity_index_measure(
        prediction.to(precise), truth.to(precise), sigma=SSIM_SIGMA_PX, data_range=1.0, reduction="none"
    )
    assert isinstance(similarity, Tensor)  # a tuple only with return_full_image
    return similarity


def ssim_255_range_1(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return structural similarity as in the evaluation code of LBAM and Edge-LBAM.

    mean (2 m_x m_y + 0.01^2)(2 s_xy + 0.03^2) / ((m_x^2 + m_y^2 + 0.01^2)(s_x^2 + s_y^2 + 0.03^2)), x and y in 0..255

    m, s^2 and s_xy are means, variances and covariance under an 11x11 Gaussian window, sigma 1.5, per RGB channel.
    Unlike in `ssim`, the constants are those for images in 0..1 and do not stabilise the quotient: noise in flat
    regions counts as lost structure, and values are lower. The border is padded with zeros.

    Computed in float64: s^2 = mean(x^2) - m^2 subtracts values up to 65,025, where the spacing of float32 is 0.0078,
    but s^2 of a flat region is compared with 0.0009.
    Source: `test_random_batch.py` of both releases, which calls the package pytorch_ssim on 255 times its images.
    """
    return _ssim_map(255 * prediction.double(), 255 * truth.double()).mean(dim=(1, 2, 3))


def ssim_zero_padded(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return structural similarity as in LaMa's evaluation: as `ssim`, but with zeros beyond the border.

    At the border the zeros, equal in both images, lower the means and raise the variances of both.
    Source: `saicinpainting/evaluation/losses/ssim.py` of its release; on 8-bit outputs there.
    """
    return _ssim_map(prediction.double(), truth.double()).mean(dim=(1, 2, 3))


def ssim_valid(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return structural similarity as in MAT's evaluation: as `ssim`, but without windows that cross the border.

    The mean is over the (H - 10)(W - 10) inner pixels, so errors at the border count less.
    Source: `calculate_ssim` in `cal_psnr_ssim_l1.py` of its release, with OpenCV's filter2D; on 8-bit outputs there.
    """
    reach = SSIM_WINDOW_PX // 2
    inner = _ssim_map(prediction.double(), truth.double())[..., reach:-reach, reach:-reach]
    return inner.mean(dim=(1, 2, 3))


def ssim_uniform(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return structural similarity as in AOT-GAN's evaluation: scikit-image's default, a uniform window of 7x7 pixels.

    Per RGB channel, with sample variances (divided by 48, not 49), and without windows that cross the border.
    Source: `compare_ssim` in `metric.py` of its release; on 8-bit outputs there.
    """
    return _uniform_ssim_map(prediction.double(), truth.double()).mean(dim=(1, 2, 3))


def ssim_uniform_grey_range_2(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return structural similarity as in ZITS's evaluation: as `ssim_uniform` on grey images, with a data range of 2.

    The images are in 0..1, but scikit-image took floats to be in -1..1, which makes both constants 4 times as large.
    The weights of scikit-image's `rgb2gray` are for red, green and blue, but the release reads files in the order blue,
    green and red: grey = 0.0721 R + 0.7154 G + 0.2125 B.
    Source: `inpainting_metrics.py` of its release; on 8-bit outputs there.
    """
    weights = torch.tensor([0.0721, 0.7154, 0.2125], dtype=torch.float64, device=truth.device).view(3, 1, 1)
    prediction, truth = ((weights * image.double()).sum(dim=1, keepdim=True) for image in (prediction, truth))
    return _uniform_ssim_map(prediction, truth, data_range=2.0).mean(dim=(1, 2, 3))


def _ssim_map(x: Tensor, y: Tensor) -> Tensor:
    """Return the map of similarities under the Gaussian window, with zeros beyond the border."""
    _require_ssim_window(y)
    return _similarity(x, y, _gaussian_mean)


def _uniform_ssim_map(x: Tensor, y: Tensor, data_range: float = 1.0) -> Tensor:
    """Return the map of similarities under the uniform window, only where it is inside the image."""
    _require_ssim_window(y, UNIFORM_WINDOW_PX)
    pixels = UNIFORM_WINDOW_PX**2
    mean = partial(F.avg_pool2d, kernel_size=UNIFORM_WINDOW_PX, stride=1)
    return _similarity(x, y, mean, data_range=data_range, correction=pixels / (pixels - 1))


def _similarity(
    x: Tensor, y: Tensor, mean: Callable[[Tensor], Tensor], *, data_range: float = 1.0, correction: float = 1.0
) -> Tensor:
    """Return (2 m_x m_y + c1)(2 s_xy + c2) / ((m_x^2 + m_y^2 + c1)(s_x^2 + s_y^2 + c2)).

    Variances and the covariance are multiplied by `correction`; c1 = (0.01 data_range)^2, c2 = (0.03 data_range)^2.
    """
    mean_x, mean_y = mean(x), mean(y)
    variances = correction * (mean(x * x + y * y) - mean_x.square() - mean_y.square())
    covariance = correction * (mean(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    return ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x.square() + mean_y.square() + c1) * (variances + c2)
    )


def _gaussian_mean(values: Tensor) -> Tensor:
    """Return the mean under a Gaussian window with zero padding; in-place sums are 10 times as fast as conv2d."""
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


def _require_ssim_window(truth: Tensor, window_px: int = SSIM_WINDOW_PX) -> None:
    if min(truth.shape[-2:]) < window_px:
        raise InputError(
            f"SSIM needs images of at least {window_px}x{window_px} pixels, the size of its window, "
            f"got {truth.shape[-2]}x{truth.shape[-1]}: evaluate larger images"
        )


def l1_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return 100 * mean |d| over all pixels and channels."""
    return 100 * (prediction - truth).abs().mean(dim=(1, 2, 3))


def l1_hole_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return 100 * mean |d| over hole pixels and channels; NaN without a hole."""
    hole = 1 - mask
    return 100 * _sum(hole * (prediction - truth).abs()) / (truth.shape[1] * _sum(hole))


def l1_relative_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return 100 * sum |d| / sum |truth|, both over the hole.

    Edge-LBAM, p. 9, prints |M * (I_gt - I_out)|_1 / |M * I_gt|_1 with M the mask region. We read M as the hole, as its
    composites have no error elsewhere; `l1_relative_known_percent` is the literal reading.
    """
    return _relative_percent(prediction, truth, 1 - mask)


def l1_relative_known_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return 100 * sum |d| / sum |truth|, both over known pixels: 0 for every composite.

    The literal reading of the formula in `l1_relative_percent`: in Edge-LBAM's Fig. 4, M is 1 on known pixels.
    """
    return _relative_percent(prediction, truth, mask)


def l1_relative_image_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return 100 * sum |d| / sum |truth|, both over the whole image: contextual attention's relative l1 error.

    Invariant to scale but not to shift: images are in [0, 1], and black is 0.
    """
    return _relative_percent(prediction, truth, torch.ones_like(mask))


def l1_aot_gan_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return 100 * sum |d| / sum (truth + prediction) over the whole image: what AOT-GAN's release calls MAE.

    Source: `compare_mae` in `src/metric/metric.py` of its release. It is about half of `l1_relative_image_percent`.
    """
    darkest = GREY_LEVEL * truth[0].numel()
    return 100 * _sum((prediction - truth).abs()) / _sum(truth + prediction).clamp_min(darkest)


def l2_relative_image_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return 100 * sum d^2 / sum truth^2 over the whole image: contextual attention's "squared relative L2 error"."""
    darkest = GREY_LEVEL**2 * truth[0].numel()
    return 100 * _sum((prediction - truth).square()) / _sum(truth.square()).clamp_min(darkest)


def _relative_percent(prediction: Tensor, truth: Tensor, region: Tensor) -> Tensor:
    # A black region would give an infinite ratio and mean, so its brightness is at least one grey level.
    darkest = GREY_LEVEL * truth.shape[1] * _sum(region)
    return 100 * _sum(region * (prediction - truth).abs()) / torch.maximum(_sum(region * truth), darkest)


def l2_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return 100 * mean d^2 over all pixels and channels."""
    return 100 * (prediction - truth).square().mean(dim=(1, 2, 3))


def l2_hole_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return 100 * mean d^2 over hole pixels and channels; NaN without a hole."""
    hole = 1 - mask
    return 100 * _sum(hole * (prediction - truth).square()) / (truth.shape[1] * _sum(hole))


def tv_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return 100 / (H W) * sum of |differences| of horizontal and vertical neighbours over all channels.

    It depends on the prediction only; the total variation of real images is not 0 either.
    """
    return 100 * total_variation(prediction, reduction="none") / (truth.shape[-2] * truth.shape[-1])


def _sum(values: Tensor) -> Tensor:
    return values.sum(dim=(1, 2, 3))
