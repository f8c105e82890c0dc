"""Extraction of all 3x3 patches of a feature map, and rebuilding the map from weighted patches in chunks."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from src.networks.ops.tracing import fold_patches
from src.networks.ops.winograd import (
    FILTER_TRANSFORM,
    TILE,
    Tiling,
    apply_transform,
    transform_output,
    transform_output_transposed,
)

PATCH = 3  # "Attention 3x3" in Tables A1 and A2 of MPGA/GLA
EPS = 1e-4  # smallest norm by which a patch is divided


def extract_patches(padded: Tensor, dilation: int) -> Tensor:
    """Extract all 3x3 patches with stride 1: (B, C, h + 2 dilation, w + 2 dilation) to (B, h w, C, 9).

    In memory, the nine positions come first and the channels last, so that matrix products need no copy.
    """
    x = padded.permute(0, 2, 3, 1).contiguous()
    height, width = (side - (PATCH - 1) * dilation for side in x.shape[1:3])
    starts = [dilation * i for i in range(PATCH)]
    taps = torch.stack([x[:, top : top + height, left : left + width] for top in starts for left in starts])
    return taps.flatten(2, 3).permute(1, 2, 3, 0)


def count_overlaps(x: Tensor, dilation: int) -> Tensor:
    """Count the patches that cover each position of x (B, C, h, w): 9, fewer near the border. Returns (1, 1, h, w)."""
    ones = x.new_ones(1, PATCH**2, x.shape[-2] * x.shape[-1])
    return fold_patches(ones, (x.shape[-2], x.shape[-1]), PATCH, dilation)


def rebuild(pruned: Tensor, completed: Tensor, dilation: int, chunk_mib: float, scale: float = 1.0) -> Tensor:
    """Paste the pruned patches at all positions, weighted by `CosineScores(scale)`, without storing all scores.

    Scoring is a convolution with patches as filters, and pasting its transpose. Both use `Tiling`, which needs 4 times
    fewer multiplications, and run in chunks of samples and tiles. With several chunks, the backward pass recomputes
    the scores. Next to features 10,000 times as large, the cosines of a patch are accurate to 1e-3 instead of 1e-6.

    Shapes:
        pruned (B, h w, C, 9); completed (B, C, h, w). Returns (B, C, h, w), summed where patches overlap.
    """
    tiling = Tiling(completed.shape[-2], completed.shape[-1], dilation)
    filters = apply_transform(FILTER_TRANSFORM, pruned.permute(3, 0, 1, 2))
    filter_norms = scale * _inverse_root(pruned.square().sum(dim=(2, 3)))[:, None, None]
    ones, squares = completed.new_ones(1, 1, PATCH, PATCH), completed.square().sum(dim=1, keepdim=True)
    energy = F.conv2d(squares, ones, padding=dilation, dilation=dilation)
    tiles = tiling.features(completed)
    # Positions that exist only in the padding to whole tiles have no weight.
    place_norms, inside = tiling.places(_inverse_root(energy)), tiling.places(torch.ones_like(energy))
    step = max(1, int(chunk_mib * 2**20 / (TILE**2 * pruned.shape[1] * 4)))  # tiles per chunk, of one or more samples
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
    """Compute the result of `rebuild` for some tiles.

    Shapes:
        filters (36, B, N, C); filter_norms (B, 1, 1, N), scale / norm of each filter; tiles (36, B, T, C); place_norms
        (B, T, 16, 1), 1 / norm of the patch at each position; inside (B, T, 16, 1), 1 on the map, else 0.
        Returns (36, B, T, C).
    """
    scores = (transform_output(tiles @ filters.transpose(2, 3)) * filter_norms * place_norms).clamp(-scale, scale)
    return transform_output_transposed(scores.softmax(dim=3) * inside) @ filters


def _inverse_root(energy: Tensor) -> Tensor:
    return energy.clamp_min(EPS**2).rsqrt()  # clamped first, as the gradient of the root is infinite at 0
