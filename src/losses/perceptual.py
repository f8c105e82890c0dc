"""Loss terms on VGG features, LBAM's and Liu et al.'s: how far apart they lie, and how far their Gram matrices do.

A norm takes differences (B, ...) to one number per image (B,); each paper's own is handed to the term.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from src.losses.inputs import LossInput, View

Norm = Callable[[Tensor], Tensor]


def root_mean_square(difference: Tensor) -> Tensor:
    """sqrt(mean d^2) per image, (B,).

    Eq. 15 of LBAM prints ||.||_2 without a normalisation. Decision: divided by the root of the number of values, so
    that the weight 0.05 means the same at every resolution and layer.
    """
    return euclidean(difference) / math.sqrt(difference[0].numel())


def mean_absolute(difference: Tensor) -> Tensor:
    """mean |d| per image, (B,): Liu et al. 2018, Eq. 3, ||.||_1 / N."""
    return difference.flatten(1).abs().mean(dim=1)


def euclidean(difference: Tensor) -> Tensor:
    """sqrt(sum d^2) per image, (B,); of a matrix, the Frobenius norm: LBAM, Eq. 16.

    Its gradient at 0 is taken as 0; that of a written-out sqrt is not a number there.
    """
    norms: Tensor = torch.linalg.vector_norm(difference.flatten(1), dim=1)
    return norms


def absolute_sum(difference: Tensor) -> Tensor:
    """sum |d| per image, (B,): Liu et al. 2018, Eqs. 4 and 5."""
    return difference.flatten(1).abs().sum(dim=1)


def mean_square(difference: Tensor) -> Tensor:
    """mean d^2 per image, (B,): Johnson et al., ECCV 2016, Eq. 2, ||.||_2^2 / (C H W)."""
    return difference.flatten(1).square().mean(dim=1)


def squared_sum(difference: Tensor) -> Tensor:
    """sum d^2 per image, (B,); of a matrix, the squared Frobenius norm: Johnson et al., ECCV 2016, Eq. 4."""
    return difference.flatten(1).square().sum(dim=1)


def gram(features: Tensor) -> Tensor:
    """F F^T / (C H W), F the features as (C, H W); in float32 under autocast too, where the sum leaves float16's range.

    Source: Liu et al. 2018, Eqs. 4 and 5, with K_p = 1 / (C_p H_p W_p).
    Shapes:
        features (B, C, H, W); returns (B, C, C).
    """
    with torch.autocast(features.device.type, enabled=False):
        rows = features.float().flatten(2)
        return rows @ rows.mT / features[0].numel()


class Perceptual(nn.Module):
    """Distance of the features of each view from the truth's: over_layers(norm(P_i(I) - P_i(I_gt))), views added up.

    Source: LBAM (Xie et al., ICCV 2019), Eq. 15: root_mean_square, torch.mean, the prediction.
        Liu et al., ECCV 2018, Eq. 3: mean_absolute, torch.sum, the prediction and the composite.
        Yu et al., CVPR 2018, Sec. 5.1 (tried and left out): mean_square, torch.sum, the prediction.

    Args:
        norm: see the top of this file.
        over_layers: the layers' values (3,) to one number.
    """

    needs_features = True

    def __init__(self, norm: Norm, over_layers: Callable[[Tensor], Tensor], views: Sequence[View]) -> None:
        super().__init__()
        self.norm, self.over_layers, self.views = norm, over_layers, tuple(views)

    def forward(self, inputs: LossInput) -> Tensor:
        """Batch mean, views added up; a scalar."""
        truth, total = inputs.features("truth"), inputs.image.new_zeros(())
        for view in self.views:
            pairs = zip(inputs.features(view), truth, strict=True)
            total = total + self.over_layers(torch.stack([self.norm(ours - theirs).mean() for ours, theirs in pairs]))
        return total


class Style(nn.Module):
    """Distance of the Gram matrices of each view from the truth's, views added up.

    over_layers(norm(G_i(I) - G_i(I_gt)) / C_i^2), G_i the Gram matrix of layer i and C_i its channels.

    Source: LBAM (Xie et al., ICCV 2019), Eq. 16: torch.mean, the prediction, and as printed euclidean; by default
            absolute_sum, the norm that its weight of 120 was chosen for (Liu et al.'s, and the release's).
        Liu et al., ECCV 2018, Eqs. 4 and 5: absolute_sum, torch.sum, the prediction and the composite.
        Yu et al., CVPR 2018, Sec. 5.1 (tried and left out): squared_sum, torch.sum, the prediction.
    Decision where LBAM is silent: its Eq. 16 has no 1 / (C H W), but builds the matrix "analogous to" Liu et al.,
    who have it; without it the term grows with the image's area.

    Args: as Perceptual.
    """

    needs_features = True

    def __init__(self, norm: Norm, over_layers: Callable[[Tensor], Tensor], views: Sequence[View]) -> None:
        super().__init__()
        self.norm, self.over_layers, self.views = norm, over_layers, tuple(views)

    def forward(self, inputs: LossInput) -> Tensor:
        """Batch mean, views added up; a scalar."""
        truth, total = [gram(layer) for layer in inputs.features("truth")], inputs.image.new_zeros(())
        for view in self.views:
            pairs = zip((gram(layer) for layer in inputs.features(view)), truth, strict=True)
            total = total + self.over_layers(
                torch.stack([self.norm(ours - theirs).mean() / len(ours[0]) ** 2 for ours, theirs in pairs])
            )
        return total
