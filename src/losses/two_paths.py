"""PICNet's terms on its two paths: l1 at several scales, and the divergences of its latent distributions."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from src.losses.inputs import LossInput

Divergence = Callable[[Normal, Normal], Tensor]
"""Mean divergence of two distributions over all elements, a scalar."""


def everywhere(mask: Tensor) -> Tensor:
    """Return a weight of 1 for all pixels, (B, 1, H, W)."""
    return torch.ones_like(mask)


def in_known(mask: Tensor) -> Tensor:
    """Return a weight of 1 for known pixels and 0 in the hole, (B, 1, H, W)."""
    return mask


class PyramidL1(nn.Module):
    """sum over scales s of mean w_s |I_s - I_gt,s| over all pixels, truth and weight w resized to each scale.

    Source: Zheng et al., CVPR 2019, arXiv:1903.04227, Eqs. 10 and 11: the reconstruction is compared everywhere, the
    generated image on known pixels only. Where the paper is silent, as the release: the scales, bilinear resizing with
    aligned corners, and a division by the number of all pixels.

    Args:
        image: the path.
        weight: makes the weight of each pixel from the mask.
    """

    def __init__(
        self, image: Literal["prediction", "reconstruction"], weight: Callable[[Tensor], Tensor] = everywhere
    ) -> None:
        super().__init__()
        self.image: Literal["prediction", "reconstruction"] = image
        self.weight = weight

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the loss, a scalar."""
        parts = inputs.output.parts
        coarser = [part.float() for name, part in parts.items() if name.startswith(f"{self.image}_level_")]
        truth, weight = inputs.get_image("truth"), self.weight(inputs.mask.float())
        losses = [(weight * (inputs.get_image(self.image) - truth).abs()).mean()]
        for ours in coarser:
            small_truth, small_weight = (
                F.interpolate(t, size=ours.shape[-2:], mode="bilinear", align_corners=True) for t in (truth, weight)
            )
            losses.append((small_weight * (ours - small_truth).abs()).mean())
        return torch.stack(losses).sum()


def forward_kl(p: Normal, q: Normal) -> Tensor:
    """Return mean KL(p || q)."""
    return kl_divergence(p, q).mean()


def reverse_kl(p: Normal, q: Normal) -> Tensor:
    """Return mean KL(q || p)."""
    return kl_divergence(q, p).mean()


class PosteriorKL(nn.Module):
    """Divergence of the posterior from N(0, s^2), s = sigmoid(8 (hole ratio - 0.2)) of each sample.

    Source: Zheng et al., CVPR 2019, Eq. 8: the larger the hole, the more may its content vary. s is the release's.

    Args:
        divergence: `forward_kl`, as printed, or `reverse_kl`, as in the release.
    """

    def __init__(self, divergence: Divergence = forward_kl) -> None:
        super().__init__()
        self.divergence = divergence

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the divergence, a scalar."""
        posterior = inputs.output.latents["posterior"]
        hole_ratio = 1 - inputs.mask.float().mean((1, 2, 3), keepdim=True)
        spread = (8 * (hole_ratio - 0.2)).sigmoid().expand_as(posterior.mean)
        return self.divergence(posterior, Normal(torch.zeros_like(spread), spread, validate_args=False))


class PriorKL(nn.Module):
    """mean KL(posterior || prior).

    Source: Zheng et al., CVPR 2019, Eq. 9. As in the release, the posterior gets no gradient, so it need not be
    predictable from the known pixels.
    """

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the divergence, a scalar."""
        posterior, prior = (inputs.output.latents[name] for name in ("posterior", "prior"))
        fixed = Normal(posterior.mean.detach(), posterior.stddev.detach(), validate_args=False)
        return forward_kl(fixed, prior)
