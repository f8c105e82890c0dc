"""Loss terms on pixels: l1 over the image, the hole, the known part or fading into the hole, and total variation."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.errors import InputError
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


class SpatiallyDiscountedL1(nn.Module):
    """mean of gamma^l |I_out - I_gt| over all pixels and channels, l the distance to the nearest known pixel.

    The deeper in the hole, the more than one answer is right, and the less a pixel counts. Known pixels have l = 0 and
    count fully, so the term also asks the network to repeat what it is given. gamma = 1 is `L1`.

    Source: Yu et al., CVPR 2018, Sec. 3, "Spatially discounted reconstruction loss"; gamma = 0.99.
    Decision where the paper is silent: the mean is over all values, whatever their weights; a picture without a known
    pixel has no distance to go by and is not discounted.
    Departs from the release: l is the Euclidean distance in the sample's own mask, of any shape; the release has one
    rectangle for the batch and takes l from its sides, and it divides the hole's part by the rectangle's values.
    """

    def __init__(self, gamma: float = 0.99, view: View = "prediction") -> None:
        super().__init__()
        if not 0 < gamma <= 1:
            raise InputError(f"gamma must be above 0 and at most 1, got {gamma}")
        self.gamma = gamma
        self.view: View = view

    def forward(self, inputs: LossInput) -> Tensor:
        """Of the view; a scalar."""
        weight = torch.where(inputs.distance.isfinite(), self.gamma**inputs.distance, 1.0)
        return (weight * (inputs.picture(self.view) - inputs.picture("truth"))).abs().mean()


class HoleL1(nn.Module):
    """|(1 - M) * (I_out - I_gt)|_1 / N, N the number of ALL values, so a small hole counts little.

    Source: Liu et al., ECCV 2018, arXiv:1804.07723, Eq. 1, L_hole.
    """

    def forward(self, inputs: LossInput) -> Tensor:
        """Of the prediction; a scalar."""
        difference = inputs.picture("prediction") - inputs.picture("truth")
        return ((1 - inputs.mask) * difference).abs().mean()


class ValidL1(nn.Module):
    """|M * (I_out - I_gt)|_1 / N, N the number of ALL values.

    Source: Liu et al., ECCV 2018, arXiv:1804.07723, Eq. 1, L_valid.
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
