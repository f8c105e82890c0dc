"""Contextual attention as its release computes it, which is not quite what the paper says."""

from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.coarse_to_fine import zero_pad
from src.networks.layers.contextual_attention import FeatureAttention, known_patches
from src.networks.layers.hooks import has_forward_hook
from src.networks.ops.patch_products import (
    PATCH,
    diagonal_sum,
    join_blocks,
    paste_blocks,
    patch_products,
    split_blocks,
    squared_norms,
)
from src.networks.ops.tracing import clone_if_exporting, is_exporting

SQUARE_FLOOR = 1e-4  # added to every square of a patch


def _followers(size: tuple[int, int], by_columns: bool) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Cells of a map that have a next one, and those next ones: all along the lines, then the lines' ends.

    Args:
        size: rows and columns.
        by_columns: whether cells follow each other down the columns; else along the rows.
    """
    last, (lines, length) = slice(-1, None), size[::-1] if by_columns else size
    pairs = [((slice(None), slice(0, length - 1)), (slice(None), slice(1, length)))]
    if lines > 1:
        pairs.append(((slice(0, lines - 1), last), (slice(1, lines), slice(0, 1))))
    return [(cells[::-1], following[::-1]) if by_columns else (cells, following) for cells, following in pairs]


def fuse(scores: Tensor) -> Tensor:
    """s_hat[p, q] = sum over i in -1 .. 1 of s[p + i, q + i], for places p, q row by row, then column by column.

    Unlike `propagate`, the end of one row is followed by the start of the next.

    Shapes:
        scores (B, h, w, rows', columns'). Returns the same shape.
    """
    if is_exporting():
        turned = _fused_flat(_fused_flat(scores).permute(0, 2, 1, 4, 3))
        return clone_if_exporting(turned.permute(0, 2, 1, 4, 3))
    height, width, rows, columns = scores.shape[1:]
    for by_columns in (False, True):
        fused = scores.clone()
        for (p, next_p), (q, next_q) in product(
            _followers((height, width), by_columns), _followers((rows, columns), by_columns)
        ):
            here, next_there = (slice(None), *p, *q), (slice(None), *next_p, *next_q)
            fused[here] += scores[next_there]
            fused[next_there] += scores[here]
        scores = fused
    return scores


def _fused_flat(scores: Tensor) -> Tensor:
    """`fuse` along the rows as it is written: a sum along the diagonal of places in one line; same shapes."""
    flat = clone_if_exporting(scores).flatten(3).flatten(1, 2)
    return diagonal_sum(F.pad(flat, (1, 1, 1, 1)), PATCH, (1, 2)).reshape(scores.shape)


class ReleasedScores(nn.Module):
    """How much each foreground patch takes of each known background patch.

    s = <f, b> / sqrt(sum of (b^2 + 1e-4));  s_hat = s fused;  s* = v softmax over b of (lambda v s_hat)
    v is 1 for background patches without a hole and 0 for others, whose score of 0 keeps its part of the softmax's sum.

    Args:
        scale: lambda.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Each foreground cell's shares of the background patches, to be looked at; as `shares`.

        Shapes:
            as in `FeatureAttention`. Returns float32 (B, h' w', h, w), the patches row by row.
        """
        return self.shares(foreground, background, known).flatten(3).permute(0, 3, 1, 2)

    def shares(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Each foreground cell's shares of the background patches; their sum is at most 1, and 0 if none is known.

        Shapes:
            as in `FeatureAttention`. Returns float32 (B, h, w, h', w').
        """
        with torch.autocast(foreground.device.type, enabled=False):
            front, back = (zero_pad(x.float(), PATCH // 2) for x in (foreground, background))
            norms = (squared_norms(back) + back.shape[1] * PATCH**2 * SQUARE_FLOOR).sqrt()
            scores = fuse(patch_products(front, back) / norms[:, None, None])
            valid = known_patches(known, 1)[:, :, None].float()
            return (self.scale * valid * scores).flatten(3).softmax(3).view_as(scores) * valid


class ReleasedContextualAttention(FeatureAttention):
    """Every foreground patch becomes a mean of the known background patches, weighted by how much it looks like them.

    Source: the release of Yu et al., CVPR 2018, in its PyTorch port.
    Departs from the paper, as the release:
    - Only background patches are divided by their norm: features of the foreground that are large choose harder.
    - Scores are propagated before the softmax, along flattened positions (`fuse`).
    - Patches with a hole score 0 in the softmax, and get what that leaves them, which is then dropped: shares sum to
      less than 1 where nothing known looks alike.
    - Outside of the features lie zeros, which are compared and pasted; the overlap is divided by the 4 patches that lie
      on each cell (9 at `downscale` 1), at the border too, where there are fewer.
    - A cell is known where its first pixel is.
    Departs from the release: each sample has its own mask, not the first one's.
    Scores are made whole, not in parts: their neighbours across the ends of lines lie far apart.

    Nothing is learned. With no known patch at all the result is 0.

    Args:
        channels: of the features; every attention layer's factory is given them, and this one has no use for them.
        scale: lambda of the softmax.
        downscale: 1 or even; matching is done on every downscale-th cell. The release's is 2.
    Raises:
        ValueError: `downscale` is out of range, or does not divide the features' sizes.
    """

    def __init__(self, channels: int, scale: float = 10.0, downscale: int = 2) -> None:
        super().__init__()
        if downscale < 1 or (downscale > 1 and downscale % 2):
            raise ValueError(f"downscale must be 1 or even, got {downscale}")
        self.scores, self.downscale = ReleasedScores(scale), downscale
        self.count = PATCH if downscale == 1 else 2  # of blocks of downscale x downscale along a pasted patch
        self.margin = (self.count - 1) * downscale // 2

    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Make the foreground anew; shapes as in `FeatureAttention`."""
        step = self.downscale
        if any(side % step for x in (foreground, background) for side in x.shape[-2:]):
            raise ValueError(
                f"sizes must be multiples of {step}, got {tuple(foreground.shape)} and {tuple(background.shape)}"
            )
        matched = [x[..., ::step, ::step] for x in (foreground, background, known)]
        if has_forward_hook(self.scores):
            with torch.no_grad():
                self.scores(*matched)
        blocks = split_blocks(zero_pad(background, self.margin), step)
        pasted = paste_blocks(self.scores.shares(*matched), blocks, self.count)
        return join_blocks(pasted, step, self.margin)

    def known_cells(self, mask: Tensor, cell: int) -> Tensor:
        """The mask by nearest neighbours: each cell's first pixel."""
        return mask[..., ::cell, ::cell]

    def map_layers(self) -> dict[str, nn.Module]:
        """`attention`: the shares of the background patches, see `ReleasedScores`."""
        return {"attention": self.scores}
