"""Mask pruning-based global attention (MPGA): hole features become weighted sums of features from everywhere."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.coarse_to_fine import MakesBlock
from src.networks.layers.recording import is_recorded
from src.networks.layers.watching import is_watched

Prune = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Queries and keys (B, C, h, w) and the mask (B, 1, h, w), 1 = known -> both such that their products are pruned."""

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


class MakesAttention(Protocol):
    """Given the features' channels, makes a `MaskedAttention`."""

    def __call__(self, channels: int) -> MaskedAttention:
        """Make it."""


def resize_mask(mask: Tensor, features: Tensor) -> Tensor:
    """The mask at the features' size by nearest neighbours (Sec. 3.1.2): (B, 1, H, W) to (B, 1, h, w), in float32."""
    return F.interpolate(mask.float(), size=features.shape[-2:], mode="nearest")


def full_precision(x: Tensor) -> torch.autocast:
    """A context without autocast: scores that pick among thousands of features don't bear half precision."""
    return torch.autocast(x.device.type, enabled=False)


def prune_hole_keys(query: Tensor, key: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """rho_M = rho * M over the keys, Eq. 2: 0 for every feature of the hole, as its key is 0."""
    return query, key * mask


def paste_in_hole(features: Tensor, attended: Tensor, mask: Tensor) -> Tensor:
    """psi_out = M psi + (1 - M) psi_p, Eq. 5."""
    return mask * features + (1 - mask) * attended


def prune_known_queries(query: Tensor, key: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The release's pruning: known queries are 0, so they weigh all features alike."""
    return query * (1 - mask), key


def paste_in_known(features: Tensor, attended: Tensor, mask: Tensor) -> Tensor:
    """The release's merging, the opposite of Eq. 5: hole features stay, known ones are replaced."""
    return (1 - mask) * features + mask * attended


class GlobalScores(nn.Module):
    """kappa: how much each feature (query) takes from each other one (key).

    rho = query^T key;  rho_M = prune(rho, M);  kappa = softmax of rho_M over the keys              (Eqs. 1 to 3)
    Where the paper is silent: Eq. 3's sum runs over the keys, the only axis along which Eq. 4 makes a weighted mean.
    """

    def __init__(self, prune: Prune = prune_hole_keys) -> None:
        super().__init__()
        self.prune = prune

    def forward(self, query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
        """Score.

        Shapes:
            query, key (B, C, h, w); mask (B, 1, h, w), 1 = known. Returns (B, h w, h, w): channel i holds the weights
            of query i, row by row, over all keys; each sums to 1.
        """
        pruned_query, pruned_key = self.prune(query, key, mask)
        scores = (pruned_query.flatten(2).transpose(1, 2) @ pruned_key.flatten(2)).softmax(dim=-1)
        return scores.reshape(*scores.shape[:2], *mask.shape[-2:])


def attend_where_wanted(query: Tensor, key: Tensor, value: Tensor, wanted: Tensor, live: Tensor) -> Tensor:
    """softmax(query key^T) value for the wanted queries, with the keys that are 0 taken together.

    Keys of 0 all have the score 0, whatever the query: r of them are one key of score log r with their mean value. With
    the share s of the features lost, a hole's queries and the known keys leave s (1 - s) <= 1/4 of the products.

    Shapes:
        query, key, value (B, N, C); wanted, live (B, N), boolean: queries to answer, keys that may differ from 0.
        Returns (B, N, C); 0, or the right answer, for other queries.
    """
    rows, (columns, others) = _flagged_first(wanted)[0], _flagged_first(live)
    asked, answering, carried = _pick(query, rows), _pick(key, columns), _pick(value, columns)
    score_offset = None
    if others.shape[1]:
        answering = F.pad(answering, (0, 0, 0, 1))
        carried = torch.cat([carried, _pick(value, others).mean(dim=1, keepdim=True)], dim=1)
        score_offset = query.new_zeros(1, 1, 1, answering.shape[1])
        score_offset[..., -1] = math.log(others.shape[1])
    attended = attention(asked, answering, carried, score_offset)
    return torch.zeros_like(value).scatter(1, rows[:, :, None].expand_as(attended), attended)


def attention(query: Tensor, key: Tensor, value: Tensor, score_offset: Tensor | None = None) -> Tensor:
    """softmax(query key^T) value without the matrix of scores; (B, queries, C), (B, keys, C) twice, (1, 1, 1, keys)."""
    query, key, value = (x[:, None] for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, score_offset, scale=1.0)[:, 0]


def _flagged_first(flags: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (B, n), which hold all flagged ones of each sample, and the others (B, N - n); n is at least 1."""
    count = max(1, int(flags.sum(dim=1).max()))
    order = flags.byte().argsort(dim=1, descending=True, stable=True)
    return order[:, :count], order[:, count:]


def _pick(tokens: Tensor, positions: Tensor) -> Tensor:
    return tokens.gather(1, positions[:, :, None].expand(-1, -1, tokens.shape[2]))


class GlobalAttention(MaskedAttention):
    """MPGA, Eqs. 1 to 5.

    psi_p = w3(psi) kappa^T;  psi_out = M psi + (1 - M) psi_p                                       (Eqs. 4, 5)
    Source: MPGA/GLA, Sensors 2020, 20, 3204, Sec. 3.1.2.
    Decision: M multiplies the keys ("we remove the less important correlation features"), each sample its own. It is a
    product, as printed, not an exclusion: the score 0 is exp(0) = 1 in the softmax, so that hole features keep some
    weight, little where the known ones correlate strongly and all of it, evenly, where nothing is known.
    Where the paper is silent, as the release: w1, w2 and w3 keep the number of channels and have biases.
    The tables' "Attention 3x3, dilation 2" has nothing to apply to here: w is 1x1 by the text under Eq. 1.

    Args:
        prune, merge: Eqs. 2 and 5, or the release's (`released_global_attention`).
    """

    def __init__(self, channels: int, prune: Prune = prune_hole_keys, merge: Merge = paste_in_hole) -> None:
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
        if is_watched(self.scores):
            with torch.no_grad():
                self.scores(query, key, mask)
        query, key = self.scores.prune(query, key, mask)
        query, key, value = (x.flatten(2).transpose(1, 2) for x in (query, key, value))
        if is_recorded():  # shapes there must not depend on the mask
            attended = attention(query, key, value)
        else:
            nothing, one = torch.zeros_like(mask), torch.ones_like(mask)
            wanted = self.merge(nothing, one, mask) > 0
            live = self.scores.prune(one, one, mask)[1] > 0
            attended = attend_where_wanted(query, key, value, wanted.flatten(1), live.flatten(1))
        return self.merge(foreground, attended.transpose(1, 2).reshape(foreground.shape), mask)

    def score_layers(self) -> dict[str, nn.Module]:
        """kappa, as `global`."""
        return {"global": self.scores}


def released_global_attention(channels: int) -> GlobalAttention:
    """MPGA as the authors' release computes it, which is not what the paper says.

    Departs from the paper, as the release: M multiplies the queries, with hole and known exchanged, and so in Eq. 5.
    Known features therefore become the mean of w3(psi), and hole features stay what they were.
    """
    return GlobalAttention(channels, prune=prune_known_queries, merge=paste_in_known)


class ConvolutionInstead(MaskedAttention):
    """The ablation's stand-in (Sec. 4.3): "replaced with a 3x3 convolution layer" that doesn't see the mask.

    Where the paper is silent: it is a convolution like the branch's others, with their activation.

    Args:
        block: makes a convolution with its activation.
    """

    def __init__(self, channels: int, block: MakesBlock) -> None:
        super().__init__()
        self.convolve = block(channels, channels)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Convolve; shapes as in `MaskedAttention`."""
        convolved: Tensor = self.convolve(features)
        return convolved
