"""Mask pruning-based global attention (MPGA): hole features become weighted sums of features from everywhere."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.coarse_to_fine import BlockFactory
from src.networks.layers.hooks import has_forward_hook
from src.networks.ops.tracing import is_tracing


@dataclass(frozen=True)
class Pruning:
    """What pruning does to correlations: rho_M[i, j] = queries[i] rho[i, j] keys[j] + offsets[j], i a query, j a key.

    Of rank one, so that it can be applied to queries and keys before the (never stored) matrix of their products.

    Shapes:
        queries, keys, offsets (..., 1, n) or broadcast to it; an offset is 0, or `EXCLUDED` for a key with no weight.
    """

    queries: Tensor
    keys: Tensor
    offsets: Tensor


Prune = Callable[[Tensor], Pruning]
"""Given the mask (..., 1, n), 1 = known, how correlations of n queries and n keys are pruned."""

EXCLUDED = torch.finfo(torch.float32).min
"""Added to a score, leaves it a weight of exactly 0. Not -inf: attention kernels can make a NaN of a block of -inf."""

Merge = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Features and attended features (B, C, H, W) and the mask (B, 1, H, W), 1 = known -> features (B, C, H, W)."""


class MaskedAttention(nn.Module, ABC):
    """What stands in the attention branch: features that know which of them lie in the hole."""

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Attend.

        Shapes:
            features (B, C, h, w), any range; mask (B, 1, H, W), 1 = known, 0 = hole, H / h and W / w times as large.
            Returns (B, C, h, w).
        """

    def score_layers(self) -> dict[str, nn.Module]:
        """Layers whose outputs are attention scores (B, h w, h, w), by a short name."""
        return {}


class AttentionFactory(Protocol):
    """Given the features' channels, makes a `MaskedAttention`."""

    def __call__(self, channels: int) -> MaskedAttention:
        """Make it."""


def resize_mask(mask: Tensor, features: Tensor) -> Tensor:
    """The mask at the features' size by nearest neighbours (Sec. 3.1.2): (B, 1, H, W) to (B, 1, h, w), in float32."""
    return F.interpolate(mask.float(), size=features.shape[-2:], mode="nearest")


def full_precision(x: Tensor) -> torch.autocast:
    """A context without autocast: scores that pick among thousands of features don't bear half precision."""
    return torch.autocast(x.device.type, enabled=False)


def exclude_hole_keys(mask: Tensor) -> Pruning:
    """Exclude hole keys from the softmax: rho_M is -infinity for them. Where nothing is known, all weigh alike.

    Departs from Eq. 2, rho_M = rho * M, whose 0 is exp(0) = 1 in the softmax and so keeps what it should remove
    (`multiply_hole_keys`).
    """
    known = (mask > 0).to(mask.dtype)
    any_known = known.amax(dim=-1, keepdim=True)
    return Pruning(queries=any_known, keys=torch.ones_like(any_known), offsets=EXCLUDED * (any_known - known))


def multiply_hole_keys(mask: Tensor) -> Pruning:
    """Eq. 2 as printed, rho_M = rho * M over the keys: a hole key gets the score 0, whatever the query."""
    one = torch.ones_like(mask[..., :1])
    return Pruning(queries=one, keys=mask, offsets=torch.zeros_like(mask))


def paste_in_hole(features: Tensor, attended: Tensor, mask: Tensor) -> Tensor:
    """psi_out = M psi + (1 - M) psi_p, Eq. 5."""
    return mask * features + (1 - mask) * attended


def multiply_known_queries(mask: Tensor) -> Pruning:
    """The release's pruning: the correlations of known queries are 0, so they weigh all features alike."""
    return Pruning(queries=1 - mask, keys=torch.ones_like(mask[..., :1]), offsets=torch.zeros_like(mask))


def paste_in_known(features: Tensor, attended: Tensor, mask: Tensor) -> Tensor:
    """The release's merging, the opposite of Eq. 5: hole features stay, known ones are replaced."""
    return (1 - mask) * features + mask * attended


class GlobalScores(nn.Module):
    """kappa: how much each feature (query) takes from each other one (key).

    rho = query^T key;  rho_M = prune(rho, M);  kappa = softmax of rho_M over the keys              (Eqs. 1 to 3)
    Where the paper is silent: Eq. 3's sum runs over the keys, the only axis along which Eq. 4 makes a weighted mean.
    """

    def __init__(self, prune: Prune = exclude_hole_keys) -> None:
        super().__init__()
        self.prune = prune

    def forward(self, query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
        """Score.

        Shapes:
            query, key (B, C, h, w); mask (B, 1, h, w), 1 = known. Returns (B, h w, h, w): channel i holds the weights
            of query i, row by row, over all keys; each sums to 1.
        """
        pruning = self.prune(mask.flatten(2))
        queries, keys = query.flatten(2) * pruning.queries, key.flatten(2) * pruning.keys
        scores = (queries.transpose(1, 2) @ keys + pruning.offsets).softmax(dim=-1)
        return scores.reshape(*scores.shape[:2], *mask.shape[-2:])


def attend_selected(query: Tensor, key: Tensor, value: Tensor, wanted: Tensor, offsets: Tensor) -> Tensor:
    """softmax(query key^T + offsets) value for the wanted queries, over the keys that are not excluded.

    With the share s of the features in the hole, its queries and the known keys make s (1 - s) <= 1/4 of the products.

    Shapes:
        query, key, value (B, N, C); wanted (B, N), boolean; offsets (B, N), 0 or `EXCLUDED`.
        Returns (B, N, C); 0, or the right answer, for other queries.
    """
    rows, columns = _flagged_positions(wanted), _flagged_positions(offsets == 0)
    attended = attention(
        _gather_tokens(query, rows),
        _gather_tokens(key, columns),
        _gather_tokens(value, columns),
        offsets.gather(1, columns),
    )
    return torch.zeros_like(value).scatter(1, rows[:, :, None].expand_as(attended), attended)


def attention(query: Tensor, key: Tensor, value: Tensor, offsets: Tensor | None = None) -> Tensor:
    """softmax(query key^T + offsets) value without the matrix of scores.

    Shapes:
        query (B, queries, C); key, value (B, keys, C); offsets (B, keys). Returns (B, queries, C).
    """
    query, key, value = (x[:, None] for x in (query, key, value))
    added = None if offsets is None else offsets[:, None, None]
    return F.scaled_dot_product_attention(query, key, value, added, scale=1.0)[:, 0]


def _flagged_positions(flags: Tensor) -> Tensor:
    """Positions (B, n), which hold all flagged ones of each sample; n is at least 1."""
    count = max(1, int(flags.sum(dim=1).max()))
    return flags.byte().argsort(dim=1, descending=True, stable=True)[:, :count]


def _gather_tokens(tokens: Tensor, positions: Tensor) -> Tensor:
    return tokens.gather(1, positions[:, :, None].expand(-1, -1, tokens.shape[2]))


class GlobalAttention(MaskedAttention):
    """MPGA, Eqs. 1 to 5.

    psi_p = w3(psi) kappa^T;  psi_out = M psi + (1 - M) psi_p                                       (Eqs. 4, 5)
    Source: MPGA/GLA, Sensors 2020, 20, 3204, Sec. 3.1.2.
    Decision: M prunes the keys ("we remove the less important correlation features"), each sample its own.
    Departs from Eq. 2, which multiplies by M: hole keys are excluded, as the text asks; see `exclude_hole_keys`.
    Where the paper is silent, as the release: w1, w2 and w3 keep the number of channels and have biases.
    The tables' "Attention 3x3, dilation 2" has nothing to apply to here: w is 1x1 by the text under Eq. 1.

    Args:
        prune: `exclude_hole_keys`, or `multiply_hole_keys` for Eq. 2 as printed.
        merge: Eq. 5, or the release's (`released_global_attention`).
    """

    def __init__(self, channels: int, prune: Prune = exclude_hole_keys, merge: Merge = paste_in_hole) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.scores, self.merge = GlobalScores(prune), merge

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Fill the hole's features; shapes as in `MaskedAttention`."""
        with full_precision(features):
            x = features.float()
            return self.attend(x, x, resize_mask(mask, x)).to(features.dtype)

    def attend(self, foreground: Tensor, background: Tensor, mask: Tensor) -> Tensor:
        """Query and value from the foreground, key from the background.

        Shapes:
            foreground, background (B, C, h, w) in float32; mask (B, 1, h, w), 1 = known. Returns (B, C, h, w).
        """
        query, key, value = self.query(foreground), self.key(background), self.value(foreground)
        if has_forward_hook(self.scores):
            with torch.no_grad():
                self.scores(query, key, mask)
        pruning = self.scores.prune(mask.flatten(2))
        query, key = query.flatten(2) * pruning.queries, key.flatten(2) * pruning.keys
        query, key, value = (x.flatten(2).transpose(1, 2) for x in (query, key, value))
        offsets = pruning.offsets[:, 0]
        if is_tracing():  # shapes there must not depend on the mask
            attended = attention(query, key, value, offsets)
        else:
            wanted = self.merge(torch.zeros_like(mask), torch.ones_like(mask), mask) > 0
            attended = attend_selected(query, key, value, wanted.flatten(1), offsets)
        return self.merge(foreground, attended.transpose(1, 2).reshape(foreground.shape), mask)

    def score_layers(self) -> dict[str, nn.Module]:
        """kappa, as `global`."""
        return {"global": self.scores}


def released_global_attention(channels: int) -> GlobalAttention:
    """MPGA as the authors' release computes it, which is not what the paper says.

    Departs from the paper, as the release: M multiplies the queries, with hole and known exchanged, and so in Eq. 5.
    Known features therefore become the mean of w3(psi), and hole features stay what they were.
    """
    return GlobalAttention(channels, prune=multiply_known_queries, merge=paste_in_known)


class ConvolutionInstead(MaskedAttention):
    """The ablation's stand-in (Sec. 4.3): "replaced with a 3x3 convolution layer" that doesn't see the mask.

    Where the paper is silent: it is a convolution like the branch's others, with their activation.

    Args:
        block: makes a convolution with its activation.
    """

    def __init__(self, channels: int, block: BlockFactory) -> None:
        super().__init__()
        self.convolve = block(channels, channels)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Convolve; shapes as in `MaskedAttention`."""
        convolved: Tensor = self.convolve(features)
        return convolved
