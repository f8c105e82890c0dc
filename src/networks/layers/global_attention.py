"""Mask pruning-based global attention (MPGA): features in the hole become weighted sums of all known features."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.coarse_to_fine import BlockFactory
from src.networks.layers.hooks import call_if_recorded
from src.networks.ops.tracing import is_tracing


@dataclass(frozen=True)
class Pruning:
    """Pruning of correlations: rho_M[i, j] = queries[i] rho[i, j] keys[j] + offsets[j] for query i and key j.

    As the factors are of rank one, they apply to queries and keys, and the matrix rho is never stored.

    Shapes:
        queries, keys, offsets (..., 1, n) or broadcastable to it; an offset is 0, or `EXCLUDED` for pruned keys.
    """

    queries: Tensor
    keys: Tensor
    offsets: Tensor


Prune = Callable[[Tensor], Pruning]
"""Returns the pruning of n queries and n keys for a mask (..., 1, n), 1 = known."""

EXCLUDED = torch.finfo(torch.float32).min
"""Score offset that gives a weight of exactly 0. Not -inf, from which attention kernels can produce NaN."""

Merge = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Merges features and attended features (B, C, H, W), given the mask (B, 1, H, W), 1 = known."""


class MaskedAttention(nn.Module, ABC):
    """Base class of the attention modules, which get the features and the mask."""

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Compute the attended features.

        Shapes:
            features (B, C, h, w), any range; mask (B, 1, H, W), 1 = known, 0 = hole, at image resolution.
            Returns (B, C, h, w).
        """

    def score_layers(self) -> dict[str, nn.Module]:
        """Return the layers whose outputs are attention scores (B, h w, h, w), by name."""
        return {}


AttentionFactory = Callable[[int], MaskedAttention]
"""Makes the attention from the number of channels of its features."""


def resize_mask(mask: Tensor, features: Tensor) -> Tensor:
    """Resize the mask to the features (nearest, Sec. 3.1.2): (B, 1, H, W) to (B, 1, h, w) in float32."""
    return F.interpolate(mask.float(), size=features.shape[-2:], mode="nearest")


def full_precision(x: Tensor) -> torch.autocast:
    """Return a context without autocast: half precision is too coarse for a softmax over thousands of features."""
    return torch.autocast(x.device.type, enabled=False)


def exclude_hole_keys(mask: Tensor) -> Pruning:
    """Exclude hole keys from the softmax (rho_M = -infinity); if nothing is known, all keys have equal weights.

    Departs from Eq. 2, rho_M = rho * M (`multiply_hole_keys`), where a hole key's 0 becomes exp(0) = 1 in the softmax
    and is not removed.
    """
    known = (mask > 0).to(mask.dtype)
    any_known = known.amax(dim=-1, keepdim=True)
    return Pruning(queries=any_known, keys=torch.ones_like(any_known), offsets=EXCLUDED * (any_known - known))


def multiply_hole_keys(mask: Tensor) -> Pruning:
    """Prune as printed in Eq. 2, rho_M = rho * M over the keys: hole keys get the score 0."""
    one = torch.ones_like(mask[..., :1])
    return Pruning(queries=one, keys=mask, offsets=torch.zeros_like(mask))


def paste_in_hole(features: Tensor, attended: Tensor, mask: Tensor) -> Tensor:
    """Return psi_out = M psi + (1 - M) psi_p, Eq. 5."""
    return mask * features + (1 - mask) * attended


def multiply_known_queries(mask: Tensor) -> Pruning:
    """Prune as the release: correlations of known queries are 0, so all keys have equal weights for them."""
    return Pruning(queries=1 - mask, keys=torch.ones_like(mask[..., :1]), offsets=torch.zeros_like(mask))


def paste_in_known(features: Tensor, attended: Tensor, mask: Tensor) -> Tensor:
    """Merge as the release, the opposite of Eq. 5: known features are replaced, those in the hole stay."""
    return (1 - mask) * features + mask * attended


class GlobalScores(nn.Module):
    """Attention weights kappa of each feature (query) over all features (keys).

    rho = query^T key;  rho_M = prune(rho, M);  kappa = softmax of rho_M over the keys              (Eqs. 1 to 3)
    Where the paper is silent: the sum in Eq. 3 runs over the keys, the only axis for which Eq. 4 is a weighted mean.
    """

    def __init__(self, prune: Prune = exclude_hole_keys) -> None:
        super().__init__()
        self.prune = prune

    def forward(self, query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
        """Compute the weights.

        Shapes:
            query, key (B, C, h, w); mask (B, 1, h, w), 1 = known. Returns (B, h w, h, w): channel i holds the weights
            of query i (in row-major order) over all keys, with sum 1.
        """
        pruning = self.prune(mask.flatten(2))
        queries, keys = query.flatten(2) * pruning.queries, key.flatten(2) * pruning.keys
        scores = (queries.transpose(1, 2) @ keys + pruning.offsets).softmax(dim=-1)
        return scores.reshape(*scores.shape[:2], *mask.shape[-2:])


def attend_selected(query: Tensor, key: Tensor, value: Tensor, selected: Tensor, offsets: Tensor) -> Tensor:
    """Compute softmax(query key^T + offsets) value for the selected queries, over keys that are not excluded.

    If a fraction s of the features is in the hole, this takes s (1 - s) <= 1/4 of the products.

    Shapes:
        query, key, value (B, N, C); selected (B, N), boolean; offsets (B, N), 0 or `EXCLUDED`.
        Returns (B, N, C). Other queries get 0 or their correct value.
    """
    rows, columns = _flagged_positions(selected), _flagged_positions(offsets == 0)
    attended = attention(
        _gather_tokens(query, rows),
        _gather_tokens(key, columns),
        _gather_tokens(value, columns),
        offsets.gather(1, columns),
    )
    return torch.zeros_like(value).scatter(1, rows[:, :, None].expand_as(attended), attended)


def attention(query: Tensor, key: Tensor, value: Tensor, offsets: Tensor | None = None) -> Tensor:
    """Compute softmax(query key^T + offsets) value without storing the scores.

    Shapes:
        query (B, queries, C); key, value (B, keys, C); offsets (B, keys). Returns (B, queries, C).
    """
    query, key, value = (x[:, None] for x in (query, key, value))
    added = None if offsets is None else offsets[:, None, None]
    return F.scaled_dot_product_attention(query, key, value, added, scale=1.0)[:, 0]


def _flagged_positions(flags: Tensor) -> Tensor:
    """Return positions (B, n), n >= 1, that include all flagged positions of each sample."""
    count = max(1, int(flags.sum(dim=1).max()))
    return flags.byte().argsort(dim=1, descending=True, stable=True)[:, :count]


def _gather_tokens(tokens: Tensor, positions: Tensor) -> Tensor:
    return tokens.gather(1, positions[:, :, None].expand(-1, -1, tokens.shape[2]))


class GlobalAttention(MaskedAttention):
    """MPGA, Eqs. 1 to 5.

    psi_p = w3(psi) kappa^T;  psi_out = M psi + (1 - M) psi_p                                       (Eqs. 4, 5)
    Source: MPGA/GLA, Sensors 2020, 20, 3204, Sec. 3.1.2.
    Departs from Eq. 2, which multiplies by M: hole keys are excluded, as the text says; see `exclude_hole_keys`.
    Where the paper is silent, as the release: w1, w2 and w3 keep the number of channels and have biases.

    Args:
        prune: `exclude_hole_keys`, or `multiply_hole_keys` for Eq. 2 as printed.
        merge: `paste_in_hole` (Eq. 5), or `paste_in_known` as the release.
    """

    def __init__(self, channels: int, prune: Prune = exclude_hole_keys, merge: Merge = paste_in_hole) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.scores, self.merge = GlobalScores(prune), merge

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Fill the features in the hole; shapes as in `MaskedAttention`."""
        with full_precision(features):
            x = features.float()
            return self.attend(x, x, resize_mask(mask, x)).to(features.dtype)

    def attend(self, foreground: Tensor, background: Tensor, mask: Tensor) -> Tensor:
        """Attend with query and value from the foreground and key from the background.

        Shapes:
            foreground, background (B, C, h, w) in float32; mask (B, 1, h, w), 1 = known. Returns (B, C, h, w).
        """
        query, key, value = self.query(foreground), self.key(background), self.value(foreground)
        call_if_recorded(self.scores, partial(self.scores, query, key, mask))
        pruning = self.scores.prune(mask.flatten(2))
        query, key = query.flatten(2) * pruning.queries, key.flatten(2) * pruning.keys
        query, key, value = (x.flatten(2).transpose(1, 2) for x in (query, key, value))
        offsets = pruning.offsets[:, 0]
        if is_tracing():  # shapes must not depend on the mask
            attended = attention(query, key, value, offsets)
        else:
            replaced = self.merge(torch.zeros_like(mask), torch.ones_like(mask), mask) > 0
            attended = attend_selected(query, key, value, replaced.flatten(1), offsets)
        return self.merge(foreground, attended.transpose(1, 2).reshape(foreground.shape), mask)

    def score_layers(self) -> dict[str, nn.Module]:
        """Return kappa as `global`."""
        return {"global": self.scores}


def released_global_attention(channels: int) -> GlobalAttention:
    """Build MPGA as in the authors' release.

    Departs from the paper, as the release: M multiplies the queries, and hole and known are swapped, in Eq. 5 as well.
    Known features therefore become the mean of w3(psi), and features in the hole do not change.
    """
    return GlobalAttention(channels, prune=multiply_known_queries, merge=paste_in_known)


class ConvolutionInstead(MaskedAttention):
    """Replacement of an attention module in the ablation (Sec. 4.3): a 3x3 convolution that ignores the mask.

    Where the paper is silent: it has the activation of the branch's other convolutions, made by `block`.
    """

    def __init__(self, channels: int, block: BlockFactory) -> None:
        super().__init__()
        self.convolve = block(channels, channels)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Convolve the features; shapes as in `MaskedAttention`."""
        convolved: Tensor = self.convolve(features)
        return convolved
