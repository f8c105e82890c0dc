"""Global and local attention (GLA): completes the whole map, prunes its 3x3 patches, and rebuilds it from those."""

from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.coarse_to_fine import zero_pad
from src.networks.layers.global_attention import (
    GlobalAttention,
    MaskedAttention,
    full_precision,
    released_global_attention,
    resize_mask,
)

PATCH = 3  # Tables A1 and A2: "Attention 3x3"


def patches_of(padded: Tensor, dilation: int) -> Tensor:
    """All 3x3 patches, stride 1: (B, C, h + 2 dilation, w + 2 dilation) to (B, h w, C, 9)."""
    columns = F.unfold(padded, PATCH, dilation)
    return columns.reshape(len(padded), padded.shape[1], PATCH**2, -1).permute(0, 3, 1, 2)


def deconvolve(filters: Tensor, scores: Tensor, dilation: int) -> Tensor:
    """Put at every place the patches, weighted by their scores there, and sum where they overlap.

    Shapes:
        filters (B, N, 9 C), flat patches; scores (B, N, h, w). Returns (B, C, h, w).
    """
    columns = filters.transpose(1, 2) @ scores.flatten(2)
    return F.fold(columns, scores.shape[-2:], PATCH, dilation, padding=dilation)


def overlaps(x: Tensor, dilation: int) -> Tensor:
    """How many patches cover each place of x (B, C, h, w): 9, fewer near the border; (1, 1, h, w)."""
    ones = x.new_ones(1, PATCH**2, x.shape[-2] * x.shape[-1])
    return F.fold(ones, x.shape[-2:], PATCH, dilation, padding=dilation)


class PatchAttention(nn.Module):
    """kappa of a patch: how much each of its nine features (queries) takes from each other one (keys).

    rho_p = query^T key;  rho_pM = rho_p * p_M over the keys;  kappa = softmax over the keys;
    p_psi = value kappa^T                                                                        (Eqs. 6 to 9)
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """Attend within each patch.

        Shapes:
            query, key, value (B, N, C, 9); mask (B, N, 1, 9), 1 = known. Returns (B, N, C, 9).
        """
        correlation = query.transpose(2, 3) @ key
        scores = (correlation * mask).softmax(dim=-1)
        return value @ scores.transpose(2, 3)


class CosineScores(nn.Module):
    """kappa_s: how much each pruned patch counts at each place of the completed map.

    s = <p' / |p'|, p_out / |p_out|>;  kappa_s = softmax of s over the pruned patches             (Eqs. 11, 12)
    Decision: Eq. 12's sum runs over the pruned patches, which compete for a place ("selects the patches with the higher
    attention values"), as in the contextual attention that it follows; read by its index, the places would compete.
    """

    def forward(self, pruned: Tensor, completed: Tensor, size: tuple[int, int]) -> Tensor:
        """Score.

        Shapes:
            pruned, completed (B, h w, 9 C), flat patches; size (h, w). Returns (B, h w, h, w): the channels, one a
            pruned patch, sum to 1 at each place.
        """
        filters, places = (F.normalize(p, dim=-1, eps=1e-4) for p in (pruned, completed))
        scores = (filters @ places.transpose(1, 2)).softmax(dim=1)
        return scores.reshape(*scores.shape[:2], *size)


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
      and p_M multiplies its keys, the same for all channels. No other reading fits the shapes of Eqs. 6 to 10.
    - w1, w2 and w3 are those of Eqs. 1 to 4, as the symbols are: with the discriminator that makes the 8.71 M
      parameters of Table 4; the release's separate ones make 8.76 M.
    - Dilation 2, the tables' only word on it, is taken for the distance of a patch's features.
    - Outside of the map lie zeros, unknown.
    - The most contributing patches are all patches by their weight: no number of them is named. p' enters the
      deconvolution as it is, and the patches that overlap are averaged, as in the contextual attention it follows; a
      sum would make features nine times as large.
    - The whole map is rebuilt, known features too: "reconstruct the final feature map".
    """

    def __init__(self, channels: int, dilation: int = 2) -> None:
        super().__init__()
        self.whole, self.within_patch, self.scores = GlobalAttention(channels), PatchAttention(), CosineScores()
        self.dilation = dilation

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Rebuild the features; shapes as in `MaskedAttention`."""
        with full_precision(features):
            foreground = features.float()
            known = resize_mask(mask, foreground)
            completed = self.whole.attend(foreground, known * foreground, known)
            pruned = self._pruned_patches(foreground, known * foreground, known).flatten(2)
            scores = self.scores(pruned, self._patches(completed).flatten(2), known.shape[-2:])
            summed = deconvolve(pruned, scores, self.dilation)
            return (summed / overlaps(known, self.dilation)).to(features.dtype)

    def score_layers(self) -> dict[str, nn.Module]:
        """kappa as `global` and kappa_s as `local`."""
        return {**self.whole.score_layers(), "local": self.scores}

    def _pruned_patches(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        # A 1x1 convolution of patches is the patches of a 1x1 convolution, if it comes after the padding.
        front, back = (zero_pad(x, self.dilation) for x in (foreground, background))
        projected = (self.whole.query(front), self.whole.key(back), self.whole.value(front))
        p_m, p_f = self._patches(known), patches_of(front, self.dilation)
        attended = self.within_patch(*(patches_of(x, self.dilation) for x in projected), p_m)
        pruned: Tensor = p_m * p_f + (1 - p_m) * attended
        return pruned

    def _patches(self, x: Tensor) -> Tensor:
        return patches_of(zero_pad(x, self.dilation), self.dilation)


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
            hole = patches_of(zero_pad(1 - known, 1), 1)
            pruned = self._pruned_patches(zero_pad(background, 1), hole)
            filters = F.normalize(pruned.flatten(2), dim=-1, eps=1e-4)  # eps: for wholly lost patches, which go unused
            valid = (hole.sum(dim=3, keepdim=True) == 0).float()
            scores = self.scores(filters, patches_of(zero_pad(completed, 1), 1).flatten(2), valid, known.shape[-2:])
            return deconvolve(filters, scores, dilation=1).to(features.dtype)

    def score_layers(self) -> dict[str, nn.Module]:
        """kappa as `global` and kappa_s as `local`."""
        return {**self.whole.score_layers(), "local": self.scores}

    def _pruned_patches(self, background: Tensor, hole: Tensor) -> Tensor:
        patches, query, key, value = (
            patches_of(x, 1) for x in (background, self.query(background), self.key(background), self.value(background))
        )
        # (query key^T) (1 hole^T) has the first factor's row sums times the hole: no C x C matrix a patch.
        row_sums = (query * key.sum(dim=2, keepdim=True)).sum(dim=3, keepdim=True)
        attended = (row_sums * hole).softmax(dim=3) * value
        return hole * patches + (1 - hole) * attended
