"""Loss terms on pixels: l1 over the image, the hole, the known part or fading into the hole, and total variation."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.common.errors import InputError
from src.losses.inputs import LossInput, View


class L1(nn.Module):
    """mean |I_out - I_gt| over all pixels and channels, known ones too.

    Source: Xie et al., ICCV 2019, Eq. 14; MPGA/GLA (Sensors 2020), L_L1 of Eq. 13.
    Decision where the papers are silent: LBAM prints an un-normalised ||.||_1, and the weight 1 of Eq. 18 fits a mean.
    """

    def __init__(self, view: View = "prediction") -> None:
        super().__init__()
        self.view: View = view

    def forward(self, inputs: LossInput) -> Tensor:
        """Of the view; a scalar."""
        return (inputs.picture(self.view) - inputs.picture("truth")).abs().mean()


def over_all(error: Tensor, mask: Tensor) -> Tensor:
    """Mean of the error (B, 3, H, W) over all values: a hole pixel counts as much as a known one."""
    return error.mean()


def over_window_and_known(error: Tensor, mask: Tensor) -> Tensor:
    """Mean over a window of half the sides, (1 - M) E summed by H W / 4, plus the mean over the known pixels.

    Source: contextual attention's release (TensorFlow), which crops 128 x 128 pixels around the hole of 256 x 256 and
    adds the mean error over that crop and the mean over the known pixels, with the same weight. A hole pixel so counts
    four times as much as in `over_all`, whatever the hole's size.
    Departs from the release: known pixels within the crop are not counted a second time.

    Shapes:
        error (B, 3, H, W), >= 0; mask (B, 1, H, W), 1 = known, 0 = hole. Returns a scalar, the mean over samples.
    """
    in_window = 4 * ((1 - mask) * error).mean((1, 2, 3))
    return (in_window + _mean_over(mask, error)).mean()


def over_hole_and_known(error: Tensor, mask: Tensor) -> Tensor:
    """Mean over the hole plus the mean over the known pixels, each sample's own; shapes as in `over_window_and_known`.

    The smaller a hole, the more each of its pixels counts.
    """
    return (_mean_over(1 - mask, error) + _mean_over(mask, error)).mean()


def _mean_over(region: Tensor, error: Tensor) -> Tensor:
    """Of each sample, (B,); 0 where the region is empty."""
    return (region * error).mean((1, 2, 3)) / region.mean((1, 2, 3)).clamp_min(torch.finfo(error.dtype).tiny)


class SpatiallyDiscountedL1(nn.Module):
    """gamma^l |I_out - I_gt|, averaged over the image, l the distance to the nearest known pixel in pixels.

    The deeper in the hole, the more than one answer is right, and the less a pixel counts. Known pixels have l = 0 and
    count fully, so the term also asks the network to repeat what it is given. gamma = 1 with `over_all` is `L1`.

    Source: Yu et al., CVPR 2018, Sec. 3, "Spatially discounted reconstruction loss"; gamma = 0.99.
    Decision where the paper is silent: a picture without a known pixel has no distance to go by and is not discounted.
    Departs from the release: l is the Euclidean distance in the sample's own mask, of any shape; the release has one
    rectangle for the batch and takes l from its sides.

    Args:
        average: the weighted error (B, 3, H, W) and the mask to a scalar: `over_window_and_known` (the release),
            `over_hole_and_known` or `over_all`, whose hole pixels count a quarter of the first one's.
    """

    def __init__(
        self,
        gamma: float = 0.99,
        view: View = "prediction",
        average: Callable[[Tensor, Tensor], Tensor] = over_all,
    ) -> None:
        super().__init__()
        if not 0 < gamma <= 1:
            raise InputError(f"gamma must be above 0 and at most 1, got {gamma}")
        self.gamma, self.average = gamma, average
        self.view: View = view

    def forward(self, inputs: LossInput) -> Tensor:
        """Of the view; a scalar."""
        weight = torch.where(inputs.distance.isfinite(), self.gamma**inputs.distance, 1.0)
        error = (weight * (inputs.picture(self.view) - inputs.picture("truth"))).abs()
        return self.average(error, inputs.mask.float())


class HoleL1(nn.Module):
    """|(1 - M) * (I_out - I_gt)|_1 / N, N the number of ALL values, so a small hole counts little.

    Source: Liu et al., ECCV 2018, arXiv:1804.07723, Sec. 3.3, L_hole.
    """

    def forward(self, inputs: LossInput) -> Tensor:
        """Of the prediction; a scalar."""
        difference = inputs.picture("prediction") - inputs.picture("truth")
        return ((1 - inputs.mask) * difference).abs().mean()


class ValidL1(nn.Module):
    """|M * (I_out - I_gt)|_1 / N, N the number of ALL values.

    Source: Liu et al., ECCV 2018, arXiv:1804.07723, Sec. 3.3, L_valid.
    """

    def __init__(self, view: View = "prediction") -> None:
        super().__init__()
        self.view: View = view

    def forward(self, inputs: LossInput) -> Tensor:
        """Of the view; a scalar."""
        difference = inputs.picture(self.view) - inputs.picture("truth")
        return (inputs.mask * difference).abs().mean()


class TotalVariation(nn.Module):
    """Smoothness of the composite over R, the hole grown by one pixel.

    sum over (i, j), (i, j+1) in R of |I_comp(i, j+1) - I_comp(i, j)|_1 / N, and the same down the columns;
    N is the number of ALL values of the image.

    Source: Liu et al., ECCV 2018, arXiv:1804.07723, Eq. 6.
    Decision where the paper is silent: R grows to all 8 neighbours.
    """

    def forward(self, inputs: LossInput) -> Tensor:
        """Of the composite; a scalar."""
        picture = inputs.picture("composite")
        region = F.max_pool2d(1 - inputs.mask, kernel_size=3, stride=1, padding=1)
        across = (picture[..., 1:] - picture[..., :-1]).abs() * region[..., 1:] * region[..., :-1]
        down = (picture[..., 1:, :] - picture[..., :-1, :]).abs() * region[..., 1:, :] * region[..., :-1, :]
        return (across.sum() + down.sum()) / picture.numel()
