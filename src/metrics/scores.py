"""Per-image scores by name: which l1, which region and which normalisation.

The papers' tables print different quantities under one name: the l1 of LBAM Table 1 is a mean over all pixels, that of
Contextual Attention Table 1 is relative to the image's brightness, and Edge-LBAM defines a third one and prints the
first. Here every score has its formula and its source. On the raw prediction a score includes the network's known
pixels; on the composite only the hole differs from the truth.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace

import torch
from torch import Tensor

from src.metrics import functional, seams
from src.metrics.metric import Metric


@dataclass(frozen=True)
class Score(Metric):
    """A metric of single images, with the function (prediction, truth, mask) -> (B,) that computes it."""

    _: KW_ONLY
    function: Callable[[Tensor, Tensor, Tensor], Tensor]

    @torch.no_grad()
    def __call__(self, prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
        """Return the score of each image of a batch, computed with autocast off.

        Shapes:
            prediction, the raw output or the composite, and truth (B, 3, H, W) in [0, 1]; mask (B, 1, H, W),
            1 = known, 0 = hole; returns (B,), float32.
        Raises ValueError if a tensor has another shape.
        """
        if prediction.shape != truth.shape or mask.shape != (truth.shape[0], 1, *truth.shape[-2:]):
            raise ValueError(
                f"{self.name} needs prediction and truth of one shape (B, 3, H, W) and mask (B, 1, H, W), "
                f"got {tuple(prediction.shape)}, {tuple(truth.shape)} and {tuple(mask.shape)}"
            )
        with torch.autocast(truth.device.type, enabled=False):
            return self.function(prediction.float(), truth.float(), mask.float()).float()


PSNR = Score(
    "psnr", "PSNR", "dB", decimals=2, higher_is_better=True,
    function=functional.psnr,
    formula="10 log10(1 / mean d^2) over all pixels and channels, at most 100 dB",
    source="torchmetrics; the papers only name it",
)  # fmt: skip

SCORES: tuple[Score, ...] = (
    PSNR,
    Score(
        "ssim", "SSIM", "", decimals=3, higher_is_better=True,
        function=functional.ssim,
        formula="Gaussian window 11x11, sigma 1.5, K1 0.01, K2 0.03, per RGB channel, mirrored border, mean",
        source="Wang et al. 2004, through torchmetrics; the papers do not specify the variant",
    ),
    Score(
        "ssim_255_range_1", "SSIM 255 range 1", "", decimals=3, higher_is_better=True,
        function=functional.ssim_255_range_1,
        formula="Gaussian window 11x11, sigma 1.5, on 0..255 with C1 = 0.01^2, C2 = 0.03^2, per RGB channel, "
        "zeros beyond the border, mean",
        source="LBAM's and Edge-LBAM's test_random_batch.py: pytorch_ssim on 255 times the images",
    ),
    Score(
        "l1_percent", "l1", "%", decimals=2, higher_is_better=False,
        function=functional.l1_percent,
        formula="100 mean |d| over all pixels and channels",
        source="LBAM's and Edge-LBAM's test_random_batch.py; assumed for MPGA/GLA, which prints no normalisation",
    ),
    Score(
        "l1_hole_percent", "l1 hole", "%", decimals=2, higher_is_better=False,
        function=functional.l1_hole_percent,
        formula="100 mean |d| over the hole's pixels",
        source="as l1_percent, restricted to the hole",
    ),
    Score(
        "l1_relative_percent", "l1 relative", "%", decimals=2, higher_is_better=False,
        function=functional.l1_relative_percent,
        formula="100 sum |d| / sum |truth|, both over the hole",
        source="Edge-LBAM p. 9, M read as the hole",
    ),
    Score(
        "l1_relative_known_percent", "l1 relative known", "%", decimals=2, higher_is_better=False,
        function=functional.l1_relative_known_percent,
        formula="100 sum |d| / sum |truth|, both over the known pixels",
        source="Edge-LBAM p. 9, M read as in its Fig. 4",
    ),
    Score(
        "l1_relative_image_percent", "l1 relative image", "%", decimals=1, higher_is_better=False,
        function=functional.l1_relative_image_percent,
        formula="100 sum |d| / sum |truth|, both over all pixels and channels",
        source="Contextual Attention Table 1, according to its author in issue 146 of the release's repository",
    ),
    Score(
        "l2_percent", "l2", "%", decimals=2, higher_is_better=False,
        function=functional.l2_percent,
        formula="100 mean d^2 over all pixels and channels",
        source="assumed for MPGA/GLA's L2, which prints no normalisation",
    ),
    Score(
        "l2_relative_image_percent", "l2 relative image", "%", decimals=1, higher_is_better=False,
        function=functional.l2_relative_image_percent,
        formula="100 sum d^2 / sum truth^2, both over all pixels and channels",
        source="Contextual Attention Table 1, according to its author in issue 146 of the release's repository",
    ),
    Score(
        "l2_hole_percent", "l2 hole", "%", decimals=2, higher_is_better=False,
        function=functional.l2_hole_percent,
        formula="100 mean d^2 over the hole's pixels",
        source="as l2_percent, restricted to the hole",
    ),
    Score(
        "tv_percent", "TV", "%", decimals=1, higher_is_better=False,
        function=functional.tv_percent,
        formula="100 / (H W) sum of |differences| of neighbours over all channels, of the prediction only",
        source="assumed for the TV loss of Contextual Attention Table 1, which prints no normalisation",
    ),
)  # fmt: skip
"""The scores that every test computes; they need no pretrained weights."""

VARIANTS: tuple[Score, ...] = (
    Score(
        "ssim_zero_padded", "SSIM zero-padded", "", decimals=3, higher_is_better=True,
        function=functional.ssim_zero_padded,
        formula="as SSIM, with zeros beyond the border",
        source="LaMa's release, evaluation/losses/ssim.py",
    ),
    Score(
        "ssim_valid", "SSIM valid", "", decimals=3, higher_is_better=True,
        function=functional.ssim_valid,
        formula="as SSIM, only windows inside the image",
        source="MAT's release, cal_psnr_ssim_l1.py",
    ),
    Score(
        "ssim_uniform", "SSIM uniform", "", decimals=3, higher_is_better=True,
        function=functional.ssim_uniform,
        formula="uniform window 7x7, sample variances, K1 0.01, K2 0.03, per RGB channel, windows inside the image",
        source="AOT-GAN's release, metric.py, compare_ssim: scikit-image's default",
    ),
    Score(
        "ssim_uniform_grey_range_2", "SSIM uniform grey range 2", "", decimals=3, higher_is_better=True,
        function=functional.ssim_uniform_grey_range_2,
        formula="as SSIM uniform, on grey = 0.0721 R + 0.7154 G + 0.2125 B, with constants for a data range of 2",
        source="ZITS's release, inpainting_metrics.py",
    ),
    Score(
        "l1_aot_gan_percent", "l1 AOT-GAN", "%", decimals=2, higher_is_better=False,
        function=functional.l1_aot_gan_percent,
        formula="100 sum |d| / sum (truth + output), both over all pixels and channels",
        source="AOT-GAN's release, metric.py, compare_mae",
    ),
    Score(
        "seam_percent", "seam", "%", decimals=2, higher_is_better=False,
        function=seams.seam_percent,
        formula="100 max(0, mean |step of the output| - mean |step of the truth|), steps between neighbouring pixels "
        "on either side of the hole's border",
        source="ours",
    ),
    Score(
        "colour_shift_percent", "colour shift", "%", decimals=2, higher_is_better=False,
        function=seams.colour_shift_percent,
        formula="100 mean |local mean of d| over the hole's pixels within 8 px of its border",
        source="ours",
    ),
)  # fmt: skip
"""Further scores that need no pretrained weights, computed on request."""

LPIPS = Metric(
    "lpips", "LPIPS", "", decimals=4, higher_is_better=False,
    formula="sum over 5 layers of the mean over pixels of weighted squared differences of unit features",
    source="Zhang et al. 2018, v0.1, AlexNet, through the lpips package",
)  # fmt: skip
LPIPS_VGG = replace(
    LPIPS, name="lpips_vgg", label="LPIPS VGG", source="Zhang et al. 2018, v0.1, VGG-16, through the lpips package"
)
LPIPS_SQUEEZE = Metric(
    "lpips_squeeze", "LPIPS SqueezeNet", "", decimals=4, higher_is_better=False,
    formula="sum over 7 layers of the mean over pixels of weighted squared differences of unit features",
    source="Zhang et al. 2018, v0.1, SqueezeNet 1.1, through the lpips package",
)  # fmt: skip
DISTS = Metric(
    "dists", "DISTS", "", decimals=4, higher_is_better=False,
    formula="1 - weighted mean over channels of image and VGG-16 features of the similarity of means and of structure",
    source="Ding et al. 2020, through torchmetrics",
)  # fmt: skip
"""Descriptions of metrics that need pretrained weights; `src.metrics.deep` loads the scores themselves."""

STANDARD: tuple[Metric, ...] = (*SCORES, LPIPS)
"""The metrics of a table without further requests."""

METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (*SCORES, *VARIANTS, LPIPS, LPIPS_VGG, LPIPS_SQUEEZE, DISTS)
}
"""All per-image metrics by name, in the order of tables."""

VALIDATION_SCORES = tuple(score for score in SCORES if score.name in ("psnr", "ssim", "l1_percent"))
"""The scores that every validation computes; the test computes all of `SCORES`."""
