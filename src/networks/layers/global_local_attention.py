"""Global and local attention (GLA): completes the whole map, prunes its 3x3 patches, and rebuilds it from those."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from src.networks.layers.coarse_to_fine import zero_pad
from src.networks.layers.global_attention import (
    GlobalAttention,
    MaskedAttention,
    Prune,
    attention,
    exclude_hole_keys,
    full_precision,
    released_global_attention,
    resize_mask,
)
from src.networks.layers.hooks import has_forward_hook
from src.networks.ops.tracing import clone_if_exporting, fold_patches, is_exporting, window_sum
from src.networks.ops.winograd import (
    FILTER_TRANSFORM,
    TILE,
    Tiling,
    apply_transform,
    transform_output,
    transform_output_transposed,
)

PATCH = 3  # Tables A1 and A2: "Attention 3x3"
EPS = 1e-4  # the least norm by which a patch is divided
SCALE = 10.0  # of GLA's cosines; its source's, and the best of a trained network's (src/networks/README.md)


def extract_patches(padded: Tensor, dilation: int) -> Tensor:
    """All 3x3 patches, stride 1: (B, C, h + 2 dilation, w + 2 dilation) to (B, h w, C, 9).

    In memory the nine come first and the channels last: a copy of whole rows, and what products of matrices take.
    """
    x = padded.permute(0, 2, 3, 1).contiguous()
    height, width = (side - (PATCH - 1) * dilation for side in x.shape[1:3])
    starts = [dilation * i for i in range(PATCH)]
    taps = torch.stack([x[:, top : top + height, left : left + width] for top in starts for left in starts])
    return taps.flatten(2, 3).permute(1, 2, 3, 0)


def count_overlaps(x: Tensor, dilation: int) -> Tensor:
    """How many patches cover each place of x (B, C, h, w): 9, fewer near the border; (1, 1, h, w)."""
    ones = x.new_ones(1, PATCH**2, x.shape[-2] * x.shape[-1])
    return fold_patches(ones, (x.shape[-2], x.shape[-1]), PATCH, dilation)


class PatchAttention(nn.Module):
    """kappa of a patch: how much each of its nine features (queries) takes from each other one (keys).

    rho_p = query^T key;  rho_pM = prune(rho_p, p_M);  kappa = softmax over the keys;  p_psi = value kappa^T
                                                                                                 (Eqs. 6 to 9)
    """

    def __init__(self, prune: Prune = exclude_hole_keys) -> None:
        super().__init__()
        self.prune = prune

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """Attend within each patch.

        Shapes:
            query, key, value (B, N, C, 9); mask (B, N, 1, 9), 1 = known. Returns (B, N, C, 9).
        """
        pruning = self.prune(mask)
        factors = pruning.queries.transpose(2, 3) * pruning.keys
        correlation = query.transpose(2, 3) @ key
        scores = (correlation * factors + pruning.offsets).softmax(dim=-1)
        return (scores @ value.transpose(2, 3)).transpose(2, 3)


class CosineScores(nn.Module):
    """kappa_s: how much each pruned patch counts at each place of the completed map.

    s = scale <p' / |p'|, p_out / |p_out|>;  kappa_s = softmax of s over the pruned patches       (Eqs. 11, 12)
    Decision: Eq. 12's sum runs over the pruned patches, which compete for a place ("selects the patches with the higher
    attention values"), as in the contextual attention that it follows; read by its index, the places would compete.
    Departs from Eq. 11, which has no scale: e to a cosine is between 1/e and e, so the softmax over N patches is close
    to their plain mean and selects none. Its source [16], gated convolution, multiplies by 10.

    Args:
        scale: factor of the cosines; 1 as printed.
    """

    def __init__(self, scale: float = SCALE) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, pruned: Tensor, completed: Tensor, size: tuple[int, int]) -> Tensor:
        """Score.

        Shapes:
            pruned, completed (B, h w, 9 C), flat patches; size (h, w). Returns (B, h w, h, w): the channels, one a
            pruned patch, sum to 1 at each place.
        """
        filters, places = (F.normalize(p, dim=-1, eps=EPS) for p in (pruned, completed))
        scores = (self.scale * filters @ places.transpose(1, 2)).softmax(dim=1)
        return scores.reshape(*scores.shape[:2], *size)


def rebuild(pruned: Tensor, completed: Tensor, dilation: int, chunk_mib: float, scale: float = 1.0) -> Tensor:
    """Pruned patches put at every place, weighted by `CosineScores(scale)`, without storing all scores or patches.

    Both steps are convolutions with patches for filters, and the second the transpose of the first: both pass through
    `Tiling`, which takes 4 times fewer multiplications, a chunk of samples and tiles after the other. The backward
    pass computes a chunk's scores again, unless there is just one. Rounding goes with the strongest feature of a tile
    of 6x6: beside features 10,000 times as strong a patch's cosines are known to 1e-3, where it would be 1e-6.

    Shapes:
        pruned (B, h w, C, 9); completed (B, C, h, w). Returns (B, C, h, w), sums where patches overlap.
    """
    tiling = Tiling(completed.shape[-2], completed.shape[-1], dilation)
    filters = apply_transform(FILTER_TRANSFORM, pruned.permute(3, 0, 1, 2))
    filter_norms = scale * _inverse_root(pruned.square().sum(dim=(2, 3)))[:, None, None]
    ones, squares = completed.new_ones(1, 1, PATCH, PATCH), completed.square().sum(dim=1, keepdim=True)
    energy = F.conv2d(squares, ones, padding=dilation, dilation=dilation)
    tiles = tiling.features(completed)
    # A place that whole tiles add to the map gets no weights: its sum of scores is multiplied by 0.
    place_norms, inside = tiling.places(_inverse_root(energy)), tiling.places(torch.ones_like(energy))
    step = max(1, int(chunk_mib * 2**20 / (TILE**2 * pruned.shape[1] * 4)))  # tiles, of one sample or of several
    samples = max(1, step // tiles.shape[2])
    mix: Callable[..., Tensor] = partial(_mix, scale)
    if torch.is_grad_enabled() and (step < tiles.shape[2] or samples < len(pruned)):
        mix = partial(checkpoint, mix, use_reentrant=False, preserve_rng_state=False)
    mixed = []
    for start in range(0, len(pruned), samples):
        some = slice(start, start + samples)
        parts = (tiles[:, some], 2), (place_norms[some], 1), (inside[some], 1)
        chunks = zip(*(torch.split(part, step, dim) for part, dim in parts), strict=True)
        mixed.append(torch.cat([mix(filters[:, some], filter_norms[some], *chunk) for chunk in chunks], dim=2))
    return tiling.put_back(torch.cat(mixed, dim=1))


def _mix(
    scale: float, filters: Tensor, filter_norms: Tensor, tiles: Tensor, place_norms: Tensor, inside: Tensor
) -> Tensor:
    """What `rebuild` puts back at the places of some tiles.

    Shapes:
        filters (36, B, N, C), scale / their norms (B, 1, 1, N); tiles (36, B, T, C); 1 / the norms of their places'
        patches and whether these are on the map (B, T, 16, 1). Returns (36, B, T, C).
    """
    scores = (transform_output(tiles @ filters.transpose(2, 3)) * filter_norms * place_norms).clamp(-scale, scale)
    return transform_output_transposed(scores.softmax(dim=3) * inside) @ filters


def _inverse_root(energy: Tensor) -> Tensor:
    return energy.clamp_min(EPS**2).rsqrt()  # clamped first: the root's slope at 0 is infinite


class GlobalLocalAttention(MaskedAttention):
    """GLA, Eqs. 6 to 12.

    psi_out = global attention of psi                                                            (Eq. 5)
    p' = p_M p_f + (1 - p_M) p_psi, p_psi attended within its own patch                          (Eqs. 6 to 10)
    output = all p', weighted by kappa_s of their cosine with psi_out's patches, put back         (Eqs. 11, 12)
    Source: MPGA/GLA, Sensors 2020, 20, 3204, Sec. 3.2.2; patches 3x3, dilation 2, stride 1 by Table A2.

    Decisions, where the paper is silent or can be read in more than one way:
    - The background is M psi; the foreground is psi itself. Were it (1 - M) psi, Eq. 10's first term would be 0. (Only
      keys are of the background, and those that it lacks are pruned: it could be psi without a difference.)
    - A patch is a C x 9 matrix, as a feature map is C x N in Eq. 1: rho_p is 9 x 9, between the features of one patch,
      and p_M prunes its keys, the same for all channels. No other reading fits the shapes of Eqs. 6 to 10.
    - w1, w2 and w3 are those of Eqs. 1 to 4, as the symbols are: with the discriminator that makes the 8.71 M
      parameters of Table 4; the release's separate ones make 8.76 M.
    - Dilation 2, the tables' only word on it, is taken for the distance of a patch's features.
    - Outside of the map lie zeros, unknown.
    - The most contributing patches are all patches by their weight: no number of them is named. p' enters the
      deconvolution as it is, and the patches that overlap are averaged, as in the contextual attention it follows; a
      sum would make features nine times as large.
    - The whole map is rebuilt, known features too: "reconstruct the final feature map".

    Args:
        dilation: distance of a patch's features.
        chunk_mib: size of the largest tensor of those that grow with the square of the map's area; two to three of
            them exist at a time.
        scale: of `CosineScores`; 1 as printed.
        prune: for the whole map and for each patch; `multiply_hole_keys` for Eqs. 2 and 7 as printed.
    """

    def __init__(
        self,
        channels: int,
        dilation: int = 2,
        chunk_mib: float = 32,
        scale: float = SCALE,
        prune: Prune = exclude_hole_keys,
    ) -> None:
        super().__init__()
        self.whole = GlobalAttention(channels, prune)
        self.within_patch, self.scores = PatchAttention(prune), CosineScores(scale)
        self.dilation, self.chunk_mib = dilation, chunk_mib

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Rebuild the features; shapes as in `MaskedAttention`."""
        with full_precision(features):
            foreground = features.float()
            known = resize_mask(mask, foreground)
            completed = self.whole.attend(foreground, known * foreground, known)
            pruned = self._pruned_patches(foreground, known * foreground, known)
            if has_forward_hook(self.scores):
                with torch.no_grad():
                    self.scores(pruned.flatten(2), self._patches(completed).flatten(2), known.shape[-2:])
            if is_exporting():
                summed = self._rebuilt_whole(pruned, completed)
            else:
                summed = rebuild(pruned, completed, self.dilation, self.chunk_mib, self.scores.scale)
            return (summed / count_overlaps(known, self.dilation)).to(features.dtype)

    def score_layers(self) -> dict[str, nn.Module]:
        """kappa as `global` and kappa_s as `local`."""
        return {**self.whole.score_layers(), "local": self.scores}

    def _rebuilt_whole(self, pruned: Tensor, completed: Tensor) -> Tensor:
        """`rebuild` with all scores at once: its tiles and chunks are as many as the size says."""
        size = (completed.shape[-2], completed.shape[-1])
        patches = pruned.flatten(2)
        shares = self.scores(patches, self._patches(completed).flatten(2), size).flatten(2)
        return fold_patches(patches.transpose(1, 2) @ shares, size, PATCH, self.dilation)

    def _pruned_patches(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        # A 1x1 convolution of patches is the patches of a 1x1 convolution, if it comes after the padding.
        front, back = (zero_pad(x, self.dilation) for x in (foreground, background))
        projected = (self.whole.query(front), self.whole.key(back), self.whole.value(front))
        p_m, p_f = self._patches(known), extract_patches(front, self.dilation)
        attended = self.within_patch(*(extract_patches(x, self.dilation) for x in projected), p_m)
        pruned: Tensor = p_m * p_f + (1 - p_m) * attended
        return pruned

    def _patches(self, x: Tensor) -> Tensor:
        return extract_patches(zero_pad(x, self.dilation), self.dilation)


class ReleasedScores(nn.Module):
    """The release's kappa_s: inner products, summed over 3x3 places; patches that touch the hole get 0."""

    def forward(self, filters: Tensor, completed: Tensor, valid: Tensor, size: tuple[int, int]) -> Tensor:
        """Score.

        Shapes:
            filters, completed (B, h w, 9 C), flat patches; valid (B, h w, 1, 1), 0 or 1; size (h, w). Returns
            (B, h w, h, w), one channel a patch.
        """
        similarity = filters @ completed.transpose(1, 2)
        similarity = similarity.reshape(*similarity.shape[:2], *size)
        summed = PATCH**2 * F.avg_pool2d(similarity, PATCH, stride=1, padding=PATCH // 2)
        return (summed * valid).softmax(dim=1) * valid


class ReleasedGlobalLocalAttention(MaskedAttention):
    """GLA as the authors' release computes it, which is not what the paper says.

    Departs from the paper, as the release:
    - Global attention as in `released_global_attention`, with the background, M psi, as key.
    - Patches (3x3, no dilation) are of the background, as query, key and value, with filters of their own. (The 1e-7
      that the release adds to them is left out: it keeps norms of lost patches from 0, which eps does here.)
      rho_p is C x C; its matrix product with the hole's patch, C x 9, is what the softmax over the 9 features takes,
      and kappa multiplies the value feature by feature.
    - Hole and known are exchanged in Eq. 10. Outside of the map counts as known.
    - p' is divided by its norm, in Eq. 11 and in the deconvolution; psi_out's patches are not.
    - Scores are summed over 3x3 places; only wholly known patches may be used; overlaps are summed.
    As a wholly known patch has no hole to multiply with, its kappa is 1/9: what is used of p' is the value, normalised,
    and no gradient ever reaches the patches' query and key. Nor does one reach those of the global attention.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.whole, self.scores = released_global_attention(channels), ReleasedScores()
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1) for _ in range(3))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Rebuild the features; shapes as in `MaskedAttention`."""
        with full_precision(features):
            foreground = features.float()
            known = resize_mask(mask, foreground)
            background = known * foreground
            completed = self.whole.attend(foreground, background, known)
            hole = extract_patches(zero_pad(1 - known, 1), 1)
            pruned = self._pruned_patches(zero_pad(background, 1), hole)
            filters = F.normalize(pruned.flatten(2), dim=-1, eps=EPS)  # eps: for wholly lost patches, which go unused
            valid = (hole.sum(dim=3, keepdim=True) == 0).float()
            places = extract_patches(zero_pad(completed, 1), 1).flatten(2)
            if has_forward_hook(self.scores):
                with torch.no_grad():
                    self.scores(filters, places, valid, known.shape[-2:])
            return self._rebuilt(filters * valid[..., 0], places, foreground).to(features.dtype)

    def score_layers(self) -> dict[str, nn.Module]:
        """kappa as `global` and kappa_s as `local`."""
        return {**self.whole.score_layers(), "local": self.scores}

    def _rebuilt(self, usable: Tensor, places: Tensor, like: Tensor) -> Tensor:
        """`ReleasedScores` and the deconvolution at once, without scores.

        Shapes:
            usable, places (B, h w, 9 C), the former 0 for patches that touch the hole. Returns (B, C, h, w), as `like`.
        """
        size = (like.shape[-2], like.shape[-1])
        # The sum of a filter's scores at 3x3 places is its score with the sum of their patches.
        maps = clone_if_exporting(places.transpose(1, 2)).reshape(places.shape[0], -1, *size)
        asked = window_sum(maps, PATCH, padding=PATCH // 2)
        mixed = attention(asked.flatten(2).transpose(1, 2), usable, usable)
        return fold_patches(mixed.transpose(1, 2), size, PATCH, dilation=1)

    def _pruned_patches(self, background: Tensor, hole: Tensor) -> Tensor:
        patches, query, key, value = (
            extract_patches(x, 1)
            for x in (background, self.query(background), self.key(background), self.value(background))
        )
        # (query key^T) (1 hole^T) has the first factor's row sums times the hole: no C x C matrix a patch.
        row_sums = (query * key.sum(dim=2, keepdim=True)).sum(dim=3, keepdim=True)
        attended = (row_sums * hole).softmax(dim=3) * value
        return hole * patches + (1 - hole) * attended
