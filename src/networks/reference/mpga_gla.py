"""Literal forms of MPGA and GLA: full score matrices, and a loop over samples whose patches are filters."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.coarse_to_fine import zero_pad
from src.networks.layers.global_attention import (
    GlobalAttention,
    MaskedAttention,
    Prune,
    exclude_hole_keys,
    full_precision,
    multiply_hole_keys,
    multiply_known_queries,
    resize_mask,
)
from src.networks.layers.global_local_attention import GlobalLocalAttention, ReleasedGlobalLocalAttention


def excluded(rho: Tensor, known: Tensor) -> Tensor:
    """Set hole keys to -inf, or all to 0 if nothing is known."""
    nothing = known.sum(dim=-1, keepdim=True) == 0
    return rho.masked_fill(known == 0, -torch.inf).masked_fill(nothing, 0.0)


PRUNED: dict[Prune, Callable[[Tensor, Tensor], Tensor]] = {
    exclude_hole_keys: excluded,
    multiply_hole_keys: lambda rho, known: rho * known,  # Eq. 2
    multiply_known_queries: lambda rho, known: rho * (1 - known).transpose(-2, -1),
}
"""Functions from rho (..., queries, keys) and M (..., 1, n) to rho_M, by the layer's pruning."""


class LiteralGlobalAttention(MaskedAttention):
    """`GlobalAttention` as Eqs. 1 to 5, or as the release."""

    def __init__(self, layer: GlobalAttention) -> None:
        super().__init__()
        self.query, self.key, self.value, self.merge = layer.query, layer.key, layer.value, layer.merge
        self.pruned = PRUNED[layer.scores.prune]

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Compute the attended features; shapes as in `MaskedAttention`."""
        with full_precision(features):
            x = features.float()
            return self.attend(x, x, resize_mask(mask, x)).to(features.dtype)

    def attend(self, foreground: Tensor, background: Tensor, mask: Tensor) -> Tensor:
        """Complete features (B, C, h, w) by weighted sums of known features; mask (B, 1, h, w)."""
        correlation = self.query(foreground).flatten(2).transpose(1, 2) @ self.key(background).flatten(2)
        pruned = self.pruned(correlation, mask.flatten(2))
        attended = self.value(foreground).flatten(2) @ pruned.softmax(dim=-1).transpose(1, 2)
        return self.merge(foreground, attended.reshape(foreground.shape), mask)


def patches(padded: Tensor, dilation: int) -> Tensor:
    """Extract patches (N, C, 9) of one padded sample; contiguous, as products are 6 times slower otherwise."""
    return F.unfold(padded, 3, dilation).view(padded.shape[1], 9, -1).permute(2, 0, 1).contiguous()


class LiteralGlobalLocalAttention(MaskedAttention):
    """`GlobalLocalAttention` as Eqs. 6 to 12."""

    def __init__(self, layer: GlobalLocalAttention) -> None:
        super().__init__()
        self.whole, self.dilation, self.scale = LiteralGlobalAttention(layer.whole), layer.dilation, layer.scores.scale

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Compute the attended features; shapes as in `MaskedAttention`."""
        with full_precision(features):
            foreground = features.float()
            known = resize_mask(mask, foreground)
            completed = self.whole.attend(foreground, known * foreground, known)
            samples = zip(*(x.unsqueeze(1) for x in (foreground, completed, known)), strict=True)
            return torch.cat([self.rebuild(*sample) for sample in samples]).to(features.dtype)

    def rebuild(self, foreground: Tensor, completed: Tensor, known: Tensor) -> Tensor:
        """Rebuild one sample (1, C, h, w) from its pruned 3x3 patches."""
        d = self.dilation
        front, back, mask = (zero_pad(x, d) for x in (foreground, known * foreground, known))
        query, key, value, p_f, p_m = (
            patches(x, d) for x in (self.whole.query(front), self.whole.key(back), self.whole.value(front), front, mask)
        )
        kappa = self.whole.pruned(query.transpose(1, 2) @ key, p_m).softmax(dim=-1)
        pruned = p_m * p_f + (1 - p_m) * (value @ kappa.transpose(1, 2))
        units = F.normalize(pruned.flatten(1), dim=1, eps=1e-4).view(-1, pruned.shape[1], 3, 3)
        norms = F.unfold(completed, 3, d, padding=d).norm(dim=1).clamp_min(1e-4).view_as(known)
        cosines = F.conv2d(completed, units, padding=d, dilation=d) / norms
        scores = (self.scale * cosines).softmax(dim=1)
        summed = F.conv_transpose2d(scores, pruned.view_as(units), padding=d, dilation=d)
        overlaps = F.conv2d(torch.ones_like(known), known.new_ones(1, 1, 3, 3), padding=d, dilation=d)
        return summed / overlaps


class LiteralReleasedGlobalLocalAttention(MaskedAttention):
    """`ReleasedGlobalLocalAttention` as the release computes it."""

    def __init__(self, layer: ReleasedGlobalLocalAttention) -> None:
        super().__init__()
        self.whole = LiteralGlobalAttention(layer.whole)
        self.query, self.key, self.value = layer.query, layer.key, layer.value

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Compute the attended features; shapes as in `MaskedAttention`."""
        with full_precision(features):
            foreground = features.float()
            known = resize_mask(mask, foreground)
            background = known * foreground
            completed = self.whole.attend(foreground, background, known)
            samples = zip(*(x.unsqueeze(1) for x in (background, completed, known)), strict=True)
            return torch.cat([self.rebuild(*sample) for sample in samples]).to(features.dtype)

    def rebuild(self, background: Tensor, completed: Tensor, known: Tensor) -> Tensor:
        """Rebuild one sample (1, C, h, w) from its pruned 3x3 patches."""
        back = zero_pad(background, 1)
        query, key, value, p, hole = (
            patches(x, 1) for x in (self.query(back), self.key(back), self.value(back), back, zero_pad(1 - known, 1))
        )
        kappa = (query @ key.transpose(1, 2) @ hole.expand_as(query)).softmax(dim=-1)
        pruned = (hole * p + (1 - hole) * kappa * value).flatten(1)
        units = F.normalize(pruned, dim=1, eps=1e-4).view(-1, p.shape[1], 3, 3)
        valid = (hole.sum(dim=(1, 2)) == 0).float().view(1, -1, 1, 1)
        scores = 9 * F.avg_pool2d(F.conv2d(completed, units, padding=1), 3, stride=1, padding=1)
        return F.conv_transpose2d((scores * valid).softmax(dim=1) * valid, units, padding=1)


FORMS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    GlobalAttention: LiteralGlobalAttention,
    GlobalLocalAttention: LiteralGlobalLocalAttention,
    ReleasedGlobalLocalAttention: LiteralReleasedGlobalLocalAttention,
}
