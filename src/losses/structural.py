"""The loss term on structural similarity; alone in needing kornia beside torch."""

from kornia.metrics import ssim
from torch import Tensor, nn

from src.errors import InputError
from src.losses.inputs import LossInput, View

WINDOW_PX = 11


class SSIM(nn.Module):
    """1 - mean SSIM(I_out, I_gt), over channels and all places where the window fits into the picture.

    Source: MPGA/GLA (Sensors 2020), L_SSIM of Eq. 13; Wang et al., IEEE TIP 2004, Eq. 13, with its Gaussian window of
    11 x 11 and sigma 1.5, K1 = 0.01 and K2 = 0.03, for a data range of 1.
    Decision where the paper is silent: 1 - SSIM, as SSIM is 1 for equal pictures; nothing is padded, so that it is the
    number the SSIM metric gives.

    Raises:
        InputError: a picture is smaller than the window.
    """

    def __init__(self, view: View = "prediction") -> None:
        super().__init__()
        self.view: View = view

    def forward(self, inputs: LossInput) -> Tensor:
        """Of the view; a scalar in [0, 2]."""
        ours, truth = inputs.picture(self.view), inputs.picture("truth")
        if min(truth.shape[-2:]) < WINDOW_PX:
            raise InputError(
                f"SSIM needs pictures of at least {WINDOW_PX} x {WINDOW_PX}, got {tuple(truth.shape[-2:])}"
            )
        similarity: Tensor = ssim(ours, truth, WINDOW_PX, max_val=1.0, eps=0.0, padding="valid").mean()
        return 1 - similarity
