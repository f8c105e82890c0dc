"""Perceptual and style loss terms on VGG features.

A norm reduces differences (B, ...) to one value per image (B,). Each paper's norm is an argument of the term.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from src.losses.inputs import LossInput, View

Norm = Callable[[Tensor], Tensor]


def root_mean_square(difference: Tensor) -> Tensor:
    """Return sqrt(mean d^2) per image, (B,).

    Eq. 15 of LBAM prints ||.||_2. Decision: normalised, so that the weight 0.05 acts alike at every resolution.
    """
    return euclidean(difference) / math.sqrt(difference[0].numel())


def mean_absolute(difference: Tensor) -> Tensor:
    """Return mean |d| per image, (B,): Liu et al. 2018, Eq. 3, ||.||_1 / N."""
    return difference.flatten(1).abs().mean(dim=1)


def euclidean(difference: Tensor) -> Tensor:
    """Return sqrt(sum d^2) per image, (B,); of a matrix, the Frobenius norm: LBAM, Eq. 16.

    The gradient at 0 is 0; torch.sqrt of the sum would give NaN there.
    """
    norms: Tensor = torch.linalg.vector_norm(difference.flatten(1), dim=1)
    return norms


def absolute_sum(difference: Tensor) -> Tensor:
    """Return sum |d| per image, (B,): Liu et al. 2018, Eqs. 4 and 5."""
    return difference.flatten(1).abs().sum(dim=1)


def mean_square(difference: Tensor) -> Tensor:
    """Return mean d^2 per image, (B,): Johnson et al., ECCV 2016, Eq. 2, ||.||_2^2 / (C H W)."""
    return difference.flatten(1).square().mean(dim=1)


def squared_sum(difference: Tensor) -> Tensor:
    """Return sum d^2 per image, (B,); of a matrix, the squared Frobenius norm: Johnson et al., ECCV 2016, Eq. 4."""
    return difference.flatten(1).square().sum(dim=1)


def gram(features: Tensor) -> Tensor:
    """Return F F^T / (C H W), F the features as (C, H W); in float32 also under autocast, as float16 would overflow.

    Source: Liu et al. 2018, Eqs. 4 and 5, with K_p = 1 / (C_p H_p W_p).
    Shapes:
        features (B, C, H, W); returns (B, C, C).
    """
    with torch.autocast(features.device.type, enabled=False):
        rows = features.float().flatten(2)
        return rows @ rows.mT / features[0].numel()


class Perceptual(nn.Module):
    """Feature distance of each view to the truth, summed over views: over_layers(norm(P_i(I) - P_i(I_gt))).

    Source: LBAM (Xie et al., ICCV 2019), Eq. 15: root_mean_square, torch.mean, the prediction.
        Liu et al., ECCV 2018, Eq. 3: mean_absolute, torch.sum, the prediction and the composite.
        Yu et al., CVPR 2018, Sec. 5.1 (tried and discarded): mean_square, torch.sum, the prediction.

    Args:
        norm: reduces a difference to one value per image.
        over_layers: reduces the values of the layers, (3,), to a scalar.
        views: images to compare with the truth.
        layers: places of the compared layers among those of the extractor, from 0; None for all.
        truth: the image that the views are compared with.
    """

    needs_features = True

    def __init__(
        self,
        norm: Norm,
        over_layers: Callable[[Tensor], Tensor],
        views: Sequence[View],
        layers: Sequence[int] | None = None,
        truth: View = "truth",
    ) -> None:
        super().__init__()
        self.norm, self.over_layers, self.views = norm, over_layers, tuple(views)
        self.layers = None if layers is None else tuple(layers)
        self.truth: View = truth

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the batch mean, summed over views; a scalar."""
        truth, total = self.described(inputs, self.truth), inputs.image.new_zeros(())
        for view in self.views:
            pairs = zip(self.described(inputs, view), truth, strict=True)
            total = total + self.over_layers(torch.stack([self.distance(*pair) for pair in pairs]))
        return total

    def described(self, inputs: LossInput, view: View) -> list[Tensor]:
        """Return what is compared, by layer: the features."""
        features = inputs.features(view)
        return list(features) if self.layers is None else [features[layer] for layer in self.layers]

    def distance(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Return the mean over the images of the norm of the difference in one layer, a scalar."""
        return self.norm(ours - theirs).mean()


class Style(Perceptual):
    """Distance of the Gram matrices of each view to those of the truth, summed over views.

    over_layers(norm(G_i(I) - G_i(I_gt)) / C_i^2), G_i the Gram matrix of layer i, C_i its number of channels.

    Source: LBAM (Xie et al., ICCV 2019), Eq. 16: torch.mean, the prediction; euclidean as printed, by default
            absolute_sum, the norm for which the weight of 120 was chosen (by Liu et al. and in the release).
        Liu et al., ECCV 2018, Eqs. 4 and 5: absolute_sum, torch.sum, the prediction and the composite.
        Yu et al., CVPR 2018, Sec. 5.1 (tried and discarded): squared_sum, torch.sum, the prediction.
    Decision where LBAM is silent: Eq. 16 has no 1 / (C H W), but defines the matrix "analogous to" Liu et al.,
    who have it; without it the term grows with the image area.

    Args:
        norm, over_layers, views, layers, truth: as for `Perceptual`.
    """

    def described(self, inputs: LossInput, view: View) -> list[Tensor]:
        """Return the Gram matrices by layer."""
        return [gram(layer) for layer in super().described(inputs, view)]

    def distance(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Return the mean of the norm of the difference over the images, divided by C^2, a scalar."""
        return super().distance(ours, theirs) / len(ours[0]) ** 2
