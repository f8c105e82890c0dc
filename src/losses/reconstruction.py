"""Loss terms on pixels: l1 over the whole image, the hole or the known part, and total variation around the hole."""

from torch import Tensor, nn
from torch.nn import functional as F

from src.losses.inputs import LossInput


class L1(nn.Module):
    """mean |I_out - I_gt| over all pixels and channels, known ones too.

    Source: Xie et al., ICCV 2019, Eq. 14.
    Decision where the paper is silent: it prints an un-normalised ||.||_1, and the weight 1 of Eq. 18 fits a mean.
    """

    def forward(self, inputs: LossInput) -> Tensor:
        """Of the prediction; a scalar."""
        return (inputs.picture("prediction") - inputs.picture("truth")).abs().mean()


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

    def forward(self, inputs: LossInput) -> Tensor:
        """Of the prediction; a scalar."""
        difference = inputs.picture("prediction") - inputs.picture("truth")
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
