"""Confidence-driven reconstruction (GMCNN): pixels of the hole count by their confidence, which falls with depth."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from src.common.errors import InputError
from src.losses.inputs import LossInput
from src.losses.reconstruction import PixelTerm, mean_over
from src.networks.layers.coarse_to_fine import mirror_pad


@dataclass(frozen=True)
class Confidence:
    """Weights of the pixels of an image: 1 where known, and falling from the border of the hole to its inside.

    w_0 = m;  w_i = m + (1 - m) (g * w_{i - 1}), i = 1 ... rounds
    Source: Wang et al., NeurIPS 2018, "Spatial variant reconstruction loss": g is a Gaussian of 64x64 px with a
    standard deviation of 40 px. Where the paper is silent, as the release: 7 rounds, reflection padding, sizes for
    images of 256 px. The window has an odd side, so that it has a centre.

    Args:
        window_ratio: side of the window over the image's shorter side.
        sigma_ratio: standard deviation over the image's shorter side; infinite for a box, as in the release.
        rounds: number of repetitions.
    """

    window_ratio: float = 64 / 256
    sigma_ratio: float = 40 / 256
    rounds: int = 7

    def __post_init__(self) -> None:
        if not (0 < self.window_ratio <= 1 and self.sigma_ratio > 0 and self.rounds >= 1):
            raise InputError(
                "confidence needs 0 < window_ratio <= 1, sigma_ratio > 0 and rounds >= 1, "
                f"got {self.window_ratio:g}, {self.sigma_ratio:g} and {self.rounds}"
            )

    def __call__(self, mask: Tensor) -> Tensor:
        """Return the weights (B, 1, H, W) in [0, 1] of a mask (B, 1, H, W), 1 = known, 0 = hole."""
        side = min(mask.shape[-2:])
        margin = round(self.window_ratio * side / 2)
        offset = torch.arange(-margin, margin + 1, device=mask.device, dtype=torch.float32)
        gaussian = torch.exp(-offset.square() / (2 * (self.sigma_ratio * side) ** 2))
        gaussian = gaussian / gaussian.sum()
        known = mask.float()
        weights = known
        for _ in range(self.rounds):
            blurred = F.conv2d(mirror_pad(weights, margin), gaussian.view(1, 1, 1, -1))
            weights = known + (1 - known) * F.conv2d(blurred, gaussian.view(1, 1, -1, 1))
        return weights


@dataclass(frozen=True)
class ConfidentSlope:
    """Weights a critic's slope by the confidence in the hole; the `part` of a `GradientPenalty`.

    Source: Wang et al., NeurIPS 2018, "Adversarial loss", whose penalty is on the slope times these weights.
    """

    confidence: Confidence

    def __call__(self, slope: Tensor, mask: Tensor) -> Tensor:
        """Return the weighted slope, (B, 3, H, W)."""
        return slope * (self.confidence(mask) * (1 - mask))


class ConfidenceL1(PixelTerm):
    """Mean over the hole of w |I_out - I_gt|, w the confidence; the mean is per sample.

    Source: Wang et al., NeurIPS 2018, "Spatial variant reconstruction loss". Where the paper is silent, as the release:
    divided by the hole's area.
    """

    def __init__(self, confidence: Confidence) -> None:
        super().__init__("prediction")
        self.confidence = confidence

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the loss, a scalar."""
        return mean_over(1 - inputs.mask.float(), self.confidence(inputs.mask) * self.error(inputs)).mean()


class KnownL1(PixelTerm):
    """Mean over the known pixels of |I_out - I_gt|; the mean is per sample.

    Source: GMCNN's release.
    """

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the loss, a scalar."""
        return mean_over(inputs.mask.float(), self.error(inputs)).mean()
