"""The loss term on structural similarity; alone in needing kornia beside torch."""

import torch
from kornia.metrics import ssim
from torch import Tensor, nn

from src.common.errors import InputError
from src.losses.inputs import LossInput, View

WINDOW_PX = 11


class SSIM(nn.Module):
    """1 - mean SSIM(I_out, I_gt), over all channels and pixels.

    Source: MPGA/GLA (Sensors 2020), L_SSIM of Eq. 13; Wang et al., IEEE TIP 2004, Eq. 13, with its Gaussian window of
    11 x 11 and sigma 1.5, K1 = 0.01 and K2 = 0.03, for a data range of 1.
    Decision where the paper is silent: 1 - SSIM, as SSIM is 1 for equal pictures; windows over the border see the
    picture mirrored, as in the SSIM metric.

    Raises:
        InputError: a picture is smaller than the window.
    """

    def __init__(self, view: View = "prediction") -> None:
        super().__init__()
        self.view: View = view

    def forward(self, inputs: LossInput) -> Tensor:
        """Of the view; a scalar in [0, 2]."""
        ours, truth = inputs.picture(self.view), inputs.picture("truth")
        height, width = truth.shape[-2:]
        if min(height, width) < WINDOW_PX:
            raise InputError(f"SSIM needs pictures of at least {WINDOW_PX} x {WINDOW_PX}, got {height} x {width}")
        # E[x^2] - E[x]^2 cancels; a GPU convolves float32 as TF32, whose error is as large as SSIM's constants
        precise = torch.float64 if truth.is_cuda else torch.float32
        similarity: Tensor = ssim(ours.to(precise), truth.to(precise), WINDOW_PX, max_val=1.0, eps=0.0).mean()
        return 1 - similarity.float()
