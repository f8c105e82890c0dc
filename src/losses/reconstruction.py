"""Pixel loss terms: l1 over the image, the hole or the known pixels, spatially discounted l1, and total variation."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.common.errors import InputError
from src.losses.inputs import LossInput, View


class PixelTerm(nn.Module):
    """Base class of loss terms that compare an image with the truth pixel by pixel.

    Args:
        view: the image.
    """

    def __init__(self, view: View = "prediction") -> None:
        super().__init__()
        self.view: View = view

    def error(self, inputs: LossInput) -> Tensor:
        """Return |image - truth|, (B, 3, H, W)."""
        return (inputs.get_image(self.view) - inputs.get_image("truth")).abs()


class L1(PixelTerm):
    """mean |I_out - I_gt| over all pixels and channels, including known pixels.

    Source: Xie et al., ICCV 2019, Eq. 14; MPGA/GLA (Sensors 2020), L_L1 of Eq. 13.
    Decision where the papers are silent: LBAM prints an unnormalised ||.||_1; the weight 1 of Eq. 18 matches a mean.
    """

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the loss, a scalar."""
        return self.error(inputs).mean()


class HoleNormalisedL1(PixelTerm):
    """mean |I_out - I_gt| over all pixels and channels, divided by the mean hole ratio of the batch.

    Source: Nazeri et al., arXiv:1901.00212, Sec. 3.2: l1 "normalized by the mask size". Decision, as the release: the
    mean over the batch, as the errors of known pixels would make a sample with a hole of 1 % count 100 times. A mean
    hole below one pixel counts as one pixel.
    """

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the loss, a scalar."""
        hole_ratio = (1 - inputs.mask.float()).mean().clamp_min(1 / inputs.mask[0].numel())
        return self.error(inputs).mean() / hole_ratio


class HoleMSE(PixelTerm):
    """sum ((1 - M) (I_out - I_gt))^2 / N, N the number of ALL values.

    Source: GL (Iizuka et al., SIGGRAPH 2017), Eq. 2, there a sum; divided by N as in the PyTorch port.
    """

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the loss, a scalar."""
        return ((1 - inputs.mask) * self.error(inputs).square()).mean()


def over_all(error: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the error (B, 3, H, W): hole and known pixels have the same weight."""
    return error.mean()


def over_window_and_known(error: Tensor, mask: Tensor) -> Tensor:
    """Return sum((1 - M) E) / (H W / 4), a mean over a window of half the sides, plus the mean over the known pixels.

    Source: contextual attention's release (TensorFlow), which crops 128x128 pixels around the hole of a 256x256 image
    and adds the mean error over the crop and that over the known pixels. Hole pixels therefore have four times their
    weight in `over_all`, regardless of the hole's size.
    Departs from the release: known pixels inside the crop are not counted twice.

    Shapes:
        error (B, 3, H, W), >= 0; mask (B, 1, H, W), 1 = known, 0 = hole. Returns a scalar, the mean over samples.
    """
    in_window = 4 * ((1 - mask) * error).mean((1, 2, 3))
    return (in_window + mean_over(mask, error)).mean()


def mean_over(region: Tensor, error: Tensor) -> Tensor:
    """Return the mean of the error (B, 3, H, W) over a region (B, 1, H, W) of each sample, (B,); 0 if it is empty."""
    return (region * error).mean((1, 2, 3)) / region.mean((1, 2, 3)).clamp_min(torch.finfo(error.dtype).tiny)


class SpatiallyDiscountedL1(PixelTerm):
    """gamma^l |I_out - I_gt|, averaged over the image; l is the distance to the nearest known pixel in pixels.

    Known pixels have l = 0 and full weight, so the term also trains the network to reproduce its input.

    Source: Yu et al., CVPR 2018, Sec. 3, "Spatially discounted reconstruction loss"; gamma = 0.99.
    Decision where the paper is silent: an image without known pixels is not discounted.
    Departs from the release: l is the Euclidean distance in the sample's own mask, of any shape; the release has one
    rectangle per batch and measures l from its sides.

    Args:
        average: reduces the weighted error (B, 3, H, W) with the mask to a scalar: `over_window_and_known` (the
            release), or `over_all`, in which hole pixels have a quarter of the release's weight.
    """

    def __init__(
        self, gamma: float = 0.99, view: View = "prediction", average: Callable[[Tensor, Tensor], Tensor] = over_all
    ) -> None:
        super().__init__(view)
        if not 0 < gamma <= 1:
            raise InputError(f"gamma must lie in (0, 1], got {gamma}")
        self.gamma, self.average = gamma, average

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the loss, a scalar."""
        weight = torch.where(inputs.distance.isfinite(), self.gamma**inputs.distance, 1.0)
        return self.average(weight * self.error(inputs), inputs.mask.float())


class HoleL1(PixelTerm):
    """|(1 - M) * (I_out - I_gt)|_1 / N, N the number of ALL values, so small holes have little weight.

    Source: Liu et al., ECCV 2018, arXiv:1804.07723, Sec. 3.3, L_hole.
    """

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the loss, a scalar."""
        return ((1 - inputs.mask) * self.error(inputs)).mean()


class ValidL1(PixelTerm):
    """|M * (I_out - I_gt)|_1 / N, N the number of ALL values.

    Source: Liu et al., ECCV 2018, arXiv:1804.07723, Sec. 3.3, L_valid.
    """

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the loss, a scalar."""
        return (inputs.mask * self.error(inputs)).mean()


class TotalVariation(nn.Module):
    """Total variation of the composite over R, the hole dilated by one pixel.

    sum over (i, j), (i, j+1) in R of |I_comp(i, j+1) - I_comp(i, j)|_1 / N, plus the same over (i, j), (i+1, j);
    N is the number of ALL values of the image.

    Source: Liu et al., ECCV 2018, arXiv:1804.07723, Eq. 6.
    Decision where the paper is silent: the dilation includes all 8 neighbours.
    """

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the loss, a scalar."""
        image = inputs.get_image("composite")
        region = F.max_pool2d(1 - inputs.mask, kernel_size=3, stride=1, padding=1)
        across = (image[..., 1:] - image[..., :-1]).abs() * region[..., 1:] * region[..., :-1]
        down = (image[..., 1:, :] - image[..., :-1, :]).abs() * region[..., 1:, :] * region[..., :-1, :]
        return (across.sum() + down.sum()) / image.numel()
