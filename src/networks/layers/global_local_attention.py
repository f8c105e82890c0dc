"""Global and local attention (GLA): completes the feature map, prunes its 3x3 patches, and rebuilds it from them."""

from torch import Tensor, nn
from torch.nn import functional as F

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
from src.networks.layers.hooks import call_if_recorded
from src.networks.layers.patch_rebuilding import EPS, PATCH, count_overlaps, extract_patches, rebuild
from src.networks.ops.tracing import clone_if_exporting, fold_patches, is_exporting, window_sum

SCALE = 10.0  # factor of the cosines, as in gated convolution; the best in a trained network (src/networks/README.md)


class PatchAttention(nn.Module):
    """Attention within a patch, with weights kappa of each of its nine features (queries) over all nine (keys).

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
    """Weights kappa_s of all pruned patches at each position of the completed map.

    s = scale <p' / |p'|, p_out / |p_out|>;  kappa_s = softmax of s over the pruned patches       (Eqs. 11, 12)
    Decision: the sum in Eq. 12 runs over the pruned patches, which compete for each position ("selects the patches with
    the higher attention values"), as in contextual attention, which it follows. By its index, positions would compete.
    Departs from Eq. 11, which has no scale: e to the power of a cosine is between 1/e and e, so the softmax over N
    patches is close to a plain mean and selects none. Its source [16], gated convolution, multiplies by 10.

    Args:
        scale: factor of the cosines; 1 as printed.
    """

    def __init__(self, scale: float = SCALE) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, pruned: Tensor, completed: Tensor, size: tuple[int, int]) -> Tensor:
        """Compute the weights.

        Shapes:
            pruned, completed (B, h w, 9 C), flattened patches; size (h, w). Returns (B, h w, h, w): one channel per
            pruned patch, with sum 1 at each position.
        """
        filters, places = (F.normalize(p, dim=-1, eps=EPS) for p in (pruned, completed))
        scores = (self.scale * filters @ places.transpose(1, 2)).softmax(dim=1)
        return scores.reshape(*scores.shape[:2], *size)


class GlobalLocalAttention(MaskedAttention):
    """Global and local attention, Eqs. 6 to 12.

    psi_out = global attention of psi                                                            (Eq. 5)
    p' = p_M p_f + (1 - p_M) p_psi, p_psi attended within its own patch                          (Eqs. 6 to 10)
    output = sum of all p', pasted with weights kappa_s, see `CosineScores`                       (Eqs. 11, 12)
    Source: MPGA/GLA, Sensors 2020, 20, 3204, Sec. 3.2.2; patches 3x3, dilation 2, stride 1 by Table A2.

    Decisions, where the paper is silent or ambiguous:
    - The background is M psi, the foreground psi; with (1 - M) psi the first term of Eq. 10 would be 0.
    - A patch is a C x 9 matrix, as a feature map is C x N in Eq. 1: rho_p is 9 x 9, between the features of a patch,
      and p_M prunes its keys, equally for all channels. No other reading fits the shapes of Eqs. 6 to 10.
    - w1, w2 and w3 are shared with Eqs. 1 to 4, as the symbols are equal. Together with the discriminator this gives
      the 8.71 M parameters of Table 4; the release's separate filters give 8.76 M.
    - The dilation of 2, mentioned only in the tables, is the distance between the features of a patch.
    - The padding is zero and unknown.
    - The "most contributing patches" are all patches, by their weights, as no number is given. p' is pasted as it is,
      and overlapping patches are averaged, as in contextual attention.
    - The whole map is rebuilt, known features included: "reconstruct the final feature map".

    Args:
        dilation: distance between the features of a patch.
        chunk_mib: size of the largest tensor among those that grow with the square of the map's area; two to three of
            them exist at a time.
        scale: factor of the cosines in `CosineScores`; 1 as printed.
        prune: pruning of the whole map and of each patch; `multiply_hole_keys` for Eqs. 2 and 7 as printed.
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
            call_if_recorded(self.scores, lambda: self._scored(pruned, completed))
            if is_exporting():  # the loops of `rebuild` would fix the size
                mixed = pruned.flatten(2).transpose(1, 2) @ self._scored(pruned, completed).flatten(2)
                summed = fold_patches(mixed, (known.shape[-2], known.shape[-1]), PATCH, self.dilation)
            else:
                summed = rebuild(pruned, completed, self.dilation, self.chunk_mib, self.scores.scale)
            return (summed / count_overlaps(known, self.dilation)).to(features.dtype)

    def score_layers(self) -> dict[str, nn.Module]:
        """Return kappa as `global` and kappa_s as `local`."""
        return {**self.whole.score_layers(), "local": self.scores}

    def _scored(self, pruned: Tensor, completed: Tensor) -> Tensor:
        scores: Tensor = self.scores(pruned.flatten(2), self._patches(completed).flatten(2), completed.shape[-2:])
        return scores

    def _pruned_patches(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        # Patches of a 1x1 convolution equal the 1x1 convolution of patches, if the padding comes first.
        front, back = (zero_pad(x, self.dilation) for x in (foreground, background))
        projected = (self.whole.query(front), self.whole.key(back), self.whole.value(front))
        p_m, p_f = self._patches(known), extract_patches(front, self.dilation)
        attended = self.within_patch(*(extract_patches(x, self.dilation) for x in projected), p_m)
        pruned: Tensor = p_m * p_f + (1 - p_m) * attended
        return pruned

    def _patches(self, x: Tensor) -> Tensor:
        return extract_patches(zero_pad(x, self.dilation), self.dilation)


class ReleasedGlobalScores(nn.Module):
    """kappa_s of the release: inner products, summed over 3x3 positions; 0 for patches that touch the hole."""

    def forward(self, filters: Tensor, completed: Tensor, valid: Tensor, size: tuple[int, int]) -> Tensor:
        """Compute the weights.

        Shapes:
            filters, completed (B, h w, 9 C), flattened patches; valid (B, h w, 1, 1), 0 or 1; size (h, w). Returns
            (B, h w, h, w), one channel per patch.
        """
        similarity = filters @ completed.transpose(1, 2)
        similarity = similarity.reshape(*similarity.shape[:2], *size)
        summed = PATCH**2 * F.avg_pool2d(similarity, PATCH, stride=1, padding=PATCH // 2)
        return (summed * valid).softmax(dim=1) * valid


class ReleasedGlobalLocalAttention(MaskedAttention):
    """GLA as in the authors' release.

    Departs from the paper, as the release:
    - Global attention is `released_global_attention`, with the background, M psi, as key.
    - Query, key and value patches (3x3, no dilation) come from the background, with filters of their own. rho_p is
      C x C. The softmax over the 9 features takes its matrix product with the hole's patch, C x 9, and kappa multiplies
      the value element-wise.
    - Hole and known are swapped in Eq. 10. The padding counts as known.
    - p' is divided by its norm, in Eq. 11 and in the deconvolution; the patches of psi_out are not.
    - Scores are summed over 3x3 positions; only fully known patches are used; overlaps are summed.
    A fully known patch is multiplied by a hole of zeros, so its kappa is 1/9: the patches used are normalised values.
    No gradient reaches the query and key of the patches, nor those of the global attention.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.whole, self.scores = released_global_attention(channels), ReleasedGlobalScores()
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
            filters = F.normalize(pruned.flatten(2), dim=-1, eps=EPS)  # eps is for patches that are not used
            valid = (hole.sum(dim=3, keepdim=True) == 0).float()
            places = extract_patches(zero_pad(completed, 1), 1).flatten(2)
            call_if_recorded(self.scores, lambda: self.scores(filters, places, valid, known.shape[-2:]))
            return self._rebuilt(filters * valid[..., 0], places, foreground).to(features.dtype)

    def score_layers(self) -> dict[str, nn.Module]:
        """Return kappa as `global` and kappa_s as `local`."""
        return {**self.whole.score_layers(), "local": self.scores}

    def _rebuilt(self, usable: Tensor, places: Tensor, like: Tensor) -> Tensor:
        """Compute `ReleasedGlobalScores` and the deconvolution from (B, h w, 9 C) without storing the scores."""
        size = (like.shape[-2], like.shape[-1])
        # The sum of a filter's scores at 3x3 positions is its score with the sum of their patches.
        maps = clone_if_exporting(places.transpose(1, 2)).reshape(places.shape[0], -1, *size)
        asked = window_sum(maps, PATCH, padding=PATCH // 2)
        mixed = attention(asked.flatten(2).transpose(1, 2), usable, usable)
        return fold_patches(mixed.transpose(1, 2), size, PATCH, dilation=1)

    def _pruned_patches(self, background: Tensor, hole: Tensor) -> Tensor:
        patches, query, key, value = (
            extract_patches(x, 1)
            for x in (background, self.query(background), self.key(background), self.value(background))
        )
        # (query key^T) (1 hole^T) equals row sums times the hole, which needs no C x C matrix per patch.
        row_sums = (query * key.sum(dim=2, keepdim=True)).sum(dim=3, keepdim=True)
        attended = (row_sums * hole).softmax(dim=3) * value
        return hole * patches + (1 - hole) * attended
