"""Effective number of attended patches, a measure of how sharp an attention is."""

import torch
from torch import Tensor
from torch.nn import functional as F


def effective_patches(weights: Tensor) -> Tensor:
    """Return the effective number of patches that each cell attends to: (sum_i p_i)^2 / sum_i p_i^2.

    n equal weights give n, a single patch gives 1, and a cell without any weight gives 0.
    Source: the inverse of Simpson's index of concentration (Simpson, Nature 163, 1949).

    Shapes:
        weights (B, patches, h, w), >= 0. Returns (B, h, w), float32: 0, or between 1 and the number of patches.
    """
    weights = weights.float()
    total = weights.sum(1)
    return torch.where(total > 0, total.square() / weights.square().sum(1).clamp_min(torch.finfo().tiny), 0.0)


def effective_patches_in_hole(weights: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `effective_patches` over the cells with a hole pixel, for each sample.

    Shapes:
        weights (B, patches, h, w), >= 0; mask (B, 1, H, W), 1 = known, 0 = hole. Returns float32 (B,); NaN for a
        sample without a hole.
    """
    in_hole = F.adaptive_max_pool2d(1 - mask.float(), (weights.shape[-2], weights.shape[-1]))[:, 0] > 0
    return (effective_patches(weights) * in_hole).sum((1, 2)) / in_hole.sum((1, 2))
