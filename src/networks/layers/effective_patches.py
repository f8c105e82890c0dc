"""How sharp an attention is: the number of patches over which each cell in the hole spreads its shares."""

import torch
from torch import Tensor
from torch.nn import functional as F


def effective_patches(shares: Tensor) -> Tensor:
    """Effective number of patches that each cell attends to: (sum_i p_i)^2 / sum_i p_i^2.

    n equal shares give n, a single patch gives 1, and a cell without shares 0. The factor in front makes it independent
    of the sum of the shares, which some releases leave below 1.

    Source: the inverse of Simpson's index of concentration (Simpson, Nature 163, 1949).

    Shapes:
        shares (B, patches, h, w), >= 0. Returns (B, h, w), float32, 0 or from 1 to the number of patches.
    """
    shares = shares.float()
    total = shares.sum(1)
    return torch.where(total > 0, total.square() / shares.square().sum(1).clamp_min(torch.finfo().tiny), 0.0)


def effective_patches_in_hole(shares: Tensor, mask: Tensor) -> Tensor:
    """Mean of `effective_patches` over the cells that hold a hole pixel, for each sample.

    Shapes:
        shares (B, patches, h, w), >= 0; mask (B, 1, H, W), 1 = known, 0 = hole. Returns (B,), float32; NaN for a sample
        without a hole.
    """
    in_hole = F.adaptive_max_pool2d(1 - mask.float(), (shares.shape[-2], shares.shape[-1]))[:, 0] > 0
    return (effective_patches(shares) * in_hole).sum((1, 2)) / in_hole.sum((1, 2))
