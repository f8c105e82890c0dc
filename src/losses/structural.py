"""The SSIM loss term; the only one that needs kornia besides torch."""

import torch
from kornia.metrics import ssim
from torch import Tensor

from src.common.errors import InputError
from src.losses.inputs import LossInput
from src.losses.reconstruction import PixelTerm

WINDOW_PX = 11


class SSIM(PixelTerm):
    """1 - mean SSIM(I_out, I_gt), over all channels and pixels.

    Source: MPGA/GLA (Sensors 2020), L_SSIM of Eq. 13; Wang et al., IEEE TIP 2004, Eq. 13, with its Gaussian window of
    11x11 and sigma 1.5, K1 = 0.01 and K2 = 0.03, for a data range of 1.
    Decision where the paper is silent: 1 - SSIM, as SSIM is 1 for equal images; the border is mirrored, as in
    the SSIM metric.

    Raises InputError if an image is smaller than the window.
    """

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the loss, a scalar in [0, 2]."""
        ours, truth = inputs.get_image(self.view), inputs.get_image("truth")
        height, width = truth.shape[-2:]
        if min(height, width) < WINDOW_PX:
            raise InputError(f"the SSIM loss needs images of at least {WINDOW_PX}x{WINDOW_PX}, got {height}x{width}")
        # E[x^2] - E[x]^2 cancels; GPUs convolve float32 in TF32, with errors as large as the constants of SSIM
        precise = torch.float64 if truth.is_cuda else torch.float32
        similarity: Tensor = ssim(ours.to(precise), truth.to(precise), WINDOW_PX, max_val=1.0, eps=0.0).mean()
        return 1 - similarity.float()
