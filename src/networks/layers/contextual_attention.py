"""Contextual attention (Yu et al., CVPR 2018): patches of the features borrow from the known patches they look like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.coarse_to_fine import Pad, mirror_pad
from src.networks.layers.hooks import has_forward_hook
from src.networks.ops.patch_products import (
    PATCH,
    count_overlaps,
    diagonal_sum,
    join_blocks,
    paste_blocks,
    patch_products,
    split_blocks,
    squared_norms,
)
from src.networks.ops.tracing import is_exporting

SCORES_MIB = {"cpu": 8, "cuda": 256}
"""What a tile of scores takes if nobody says otherwise. A processor's cache holds several of 8 MiB: without tiles the
layer took 2.5 times as long at 512x512. A GPU would rather have few tiles."""
FEWEST_ROWS = 8  # of a tile, if nobody says otherwise: what lies at the edges of fewer is computed too often
SQUARED_NORM_FLOOR = 1e-6  # added to a patch's squared norm: the gradient of the norm of a zero patch stays finite


def known_cells(mask: Tensor, cell: int) -> Tensor:
    """The mask of cells of cell x cell pixels: known where all their pixels are.

    Decision, the paper being silent: not by nearest neighbours, as the release, which a hole thinner than a cell passes
    unseen; its features would be copied as known ones.

    Shapes:
        mask (B, 1, h cell, w cell), 1 = known, 0 = hole. Returns (B, 1, h, w).
    """
    return -F.max_pool2d(-mask, cell)


class FeatureAttention(nn.Module, ABC):
    """What stands in an attention branch: features for the foreground, made from the background's."""

    @abstractmethod
    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Make the foreground anew.

        Shapes:
            foreground (B, C, h, w); background (B, C, h', w'), any range; known (B, 1, h', w'), 1 = known, 0 = hole.
            Returns (B, C, h, w).
        """

    def known_cells(self, mask: Tensor, cell: int) -> Tensor:
        """`known`, for the forward pass, of a mask (B, 1, h' cell, w' cell): as the function of that name."""
        return known_cells(mask, cell)

    def map_layers(self) -> dict[str, nn.Module]:
        """Layers whose outputs, one tensor each, are the maps to look at, by name."""
        return {}


def known_patches(known: Tensor, stride: int) -> Tensor:
    """Which 3x3 patches, centred on every stride-th cell, hold no hole; what lies outside counts as known.

    Where the paper is silent, as the release: a single hole cell makes a patch unfit to be borrowed.

    Shapes:
        known (B, 1, h, w), 1 = known, 0 = hole. Returns bool (B, 1, rows, columns).
    """
    return -F.max_pool2d(-known, PATCH, stride, padding=PATCH // 2) > 0  # max_pool2d pads with minus infinity


def propagate(shares: Tensor, reach: int, step: int = 1) -> Tensor:
    """Left-right, then top-down: s_hat[x, y, x', y'] = sum over i in -k .. k of s[x + i, y, x' + i, y'], zeros outside.

    Source: Sec. 4.1, "Attention propagation", with k = `reach`.
    Departs from the release, as the paper does: its sums go along flattened positions, so from the end of one row to
    the start of the next.

    Args:
        step: foreground cells between neighbouring background patches, so that both shift by the same distance.
    Shapes:
        shares (B, h, w, rows', columns'), with k steps of rows above and below those that are wanted, zeros where
        the foreground has none. Returns (B, h - 2 k step, w, rows', columns').
    """
    if reach == 0:
        return shares
    count = 2 * reach + 1
    for axes, pads in (((2, 4), (reach, reach, 0, 0, reach * step, reach * step)), ((1, 3), (0, 0, reach, reach))):
        shares = diagonal_sum(F.pad(shares, pads), count, axes, step)
    return shares


@dataclass(frozen=True)
class MatchInputs:
    """What the scores of any rows of the foreground are made of, in float32.

    Shapes:
        foreground (B, C, h + 2, w + 2) and background (B, C, h' + 2, w' + 2); scale (B, h, w, 1, 1), lambda / ||f||;
        inverse_norms (B, 1, 1, rows', columns'), 1 / ||b||; known of the same shape, 1 or 0; unknown likewise, 0 or
        the lowest number.
    """

    foreground: Tensor
    background: Tensor
    scale: Tensor
    inverse_norms: Tensor
    known: Tensor
    unknown: Tensor

    def select_samples(self, chosen: slice) -> MatchInputs:
        """That of a part of the batch."""
        return MatchInputs(*(getattr(self, field.name)[chosen] for field in fields(self)))


def _inverse_norms(padded: Tensor) -> Tensor:
    return (squared_norms(padded) + SQUARED_NORM_FLOOR).rsqrt()


class AttentionScores(nn.Module):
    """How much each foreground patch takes of each known background patch.

    s = <f / ||f||, b / ||b||>;  s* = softmax over x', y' of (lambda s), known patches only;  s_hat = s* propagated
    Source: Yu et al., CVPR 2018, Sec. 4.1: propagation of the softmaxed scores, as printed (the release propagates
    before the softmax). All in float32, under autocast too.
    Where the paper is silent, as the release: k = 1.
    Decision where the paper is silent: lambda = 50. The release has 10, but divides the background patches alone by
    their norm, so that its softmax is far sharper; with both divided, 10 spreads over a sixth to a quarter of 256
    patches (src/networks/README.md).
    Departs from the paper: what propagation moves onto patches with a hole is dropped, and each s_hat is divided by its
    sum over the background. As printed s_hat sums to as much as (2 k + 1)^2, and the sum depends on how close to a
    border the patch is; divided, an attended feature is a weighted mean of known ones.

    Args:
        scale: lambda.
        reach: k of the propagation; 0 for none.
        background_stride: cells between background patches; more than 1 leaves patches out ("Memory efficiency",
            option 1).
        pad: what surrounds the features where a patch reaches over their border.
    """

    def __init__(self, scale: float, reach: int, background_stride: int, pad: Pad) -> None:
        super().__init__()
        self.scale, self.reach, self.background_stride, self.pad = scale, reach, background_stride, pad

    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Each foreground cell's shares of the background patches: sums are 1, or 0 where no patch is known.

        The whole of it, to be looked at; `ContextualAttention` takes `score_rows`.

        Shapes:
            as in `FeatureAttention`. Returns float32 (B, rows' columns', h, w), the patches row by row.
        """
        shares = self.score_rows(self.match(foreground, background, known), 0, foreground.shape[-2])
        return shares.flatten(3).permute(0, 3, 1, 2)

    def match(self, foreground: Tensor, background: Tensor, known: Tensor) -> MatchInputs:
        """What `score_rows` needs; shapes as in `FeatureAttention`."""
        with torch.autocast(foreground.device.type, enabled=False):
            step = self.background_stride
            front, back = (self.pad(x.float(), PATCH // 2) for x in (foreground, background))
            patches_known = known_patches(known, step)[:, :, None]
            return MatchInputs(
                front,
                back,
                self.scale * _inverse_norms(front)[..., None, None],
                _inverse_norms(back)[:, None, None, ::step, ::step],
                patches_known.float(),
                # not minus infinity, whose softmax is not a number if no patch is known
                torch.zeros_like(patches_known, dtype=torch.float32).masked_fill(
                    ~patches_known, torch.finfo(torch.float32).min
                ),
            )

    def score_rows(self, matching: MatchInputs, first: int, end: int) -> Tensor:
        """Shares of the foreground's rows first .. end - 1, (B, end - first, w, rows', columns')."""
        with torch.autocast(matching.foreground.device.type, enabled=False):
            step, height = self.background_stride, matching.scale.shape[1]
            above, below = first - self.reach * step, end + self.reach * step
            top, bottom = max(above, 0), below if below < height else height  # not min(): of symbols it is one more
            scores = patch_products(matching.foreground[:, :, top : bottom + PATCH - 1], matching.background)
            scores = scores[..., ::step, ::step] * matching.scale[:, top:bottom]
            scores = torch.addcmul(matching.unknown, scores, matching.inverse_norms)
            shares = scores.flatten(3).softmax(3).view_as(scores)
            if above < top or bottom < below:
                shares = F.pad(shares, (0, 0, 0, 0, 0, 0, top - above, below - bottom))
            shares = propagate(shares, self.reach, step) * matching.known
            total = shares.sum((3, 4), keepdim=True)
            return shares / torch.where(total > 0, total, 1.0)


class _RowAttention(nn.Module):
    """Some rows of foreground patches, scored and pasted: what is repeated over the rows, and in the backward pass."""

    def __init__(self, scores: AttentionScores, count: int) -> None:
        super().__init__()
        self.scores, self.count = scores, count

    def forward(self, matching: MatchInputs, blocks: Tensor, first: int, end: int) -> Tensor:
        """(B, end - first + count - 1, w + count - 1, D); see `paste_blocks`."""
        shares, step = self.scores.score_rows(matching, first, end), self.scores.background_stride
        if step > 1:  # patches that are left out have no shares
            everywhere = shares.new_zeros(
                *shares.shape[:3], *(side - PATCH + 1 for side in matching.background.shape[-2:])
            )
            everywhere[..., ::step, ::step] = shares
            shares = everywhere
        return paste_blocks(shares, blocks, self.count)


class ContextualAttention(FeatureAttention):
    """Every foreground patch becomes a mean of the known background patches, weighted by how much it looks like them.

    Source: Yu et al., CVPR 2018, arXiv:1801.07892, Sec. 4.1: match, attend (`AttentionScores`), paste by a transposed
    convolution of the background patches, overlapping ones averaged.
    Where the paper is silent, as the release: the features are halved before matching by taking every second cell, and
    4x4 patches of the full features are pasted, two cells apart (here for any even factor: patches twice as wide).
    Departs from the release: an overlap is divided by the number of patches that lie there, at the border too; each
    sample has its own mask; both patches are divided by their norm, as printed.
    Decision, the paper being silent: patches reach over the border into mirrored features, as its convolutions do (the
    release's zeros would be pasted into the picture); sizes that the factor does not divide are filled up by repeating
    the last row and column.

    Nothing is learned. With no known patch at all the result is 0. No patch is ever cut out: see `patch_products` and
    `paste_blocks`.

    Args:
        channels: of the features; every attention layer's factory is given them, and this one has no use for them.
        scale: lambda of the softmax.
        reach: k of the propagation; 0 for none.
        downscale: 1 or even; matching is done on features that many times smaller ("Memory efficiency", option 2).
        background_stride: cells between background patches, in the smaller features (option 1).
        pad: `mirror_pad` or `zero_pad`.
        scores_mib: what the scores that are in memory at a time may take, in tiles of samples and of rows of foreground
            patches; about five such tensors are there at once, and a tile is never less than a row. The result is the
            same. None for `SCORES_MIB` and `FEWEST_ROWS`.
    Raises:
        ValueError: an argument is out of range; shapes do not fit each other.
    """

    def __init__(
        self,
        channels: int,
        scale: float = 50.0,
        reach: int = 1,
        downscale: int = 2,
        background_stride: int = 1,
        pad: Pad = mirror_pad,
        scores_mib: float | None = None,
    ) -> None:
        super().__init__()
        if downscale < 1 or (downscale > 1 and downscale % 2):
            raise ValueError(f"downscale must be 1 or even, got {downscale}")
        if background_stride < 1:
            raise ValueError(f"background_stride must be at least 1, got {background_stride}")
        if reach < 0:
            raise ValueError(f"reach must be at least 0, got {reach}")
        if scores_mib is not None and scores_mib <= 0:
            raise ValueError(f"scores_mib must be above 0, or None, got {scores_mib}")
        self.scores = AttentionScores(scale, reach, background_stride, pad)
        self.downscale, self.pad, self.scores_mib = downscale, pad, scores_mib
        self.count = PATCH if downscale == 1 else 2  # of blocks of downscale x downscale along a pasted patch
        self.margin = (self.count - 1) * downscale // 2
        self.attend_rows = _RowAttention(self.scores, self.count)

    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Make the foreground anew; shapes as in `FeatureAttention`."""
        if foreground.shape[:2] != background.shape[:2]:
            raise ValueError(
                "foreground and background must share batch and channels, "
                f"got {tuple(foreground.shape)} and {tuple(background.shape)}"
            )
        if known.shape != (background.shape[0], 1, *background.shape[-2:]):
            raise ValueError(
                f"known must be one channel of the background's size, got {tuple(known.shape)} "
                f"for a background of {tuple(background.shape)}"
            )
        height, width = foreground.shape[-2:]
        foreground, background, known = (_pad_to_multiple(t, self.downscale) for t in (foreground, background, known))
        matched = (
            foreground[..., :: self.downscale, :: self.downscale],
            background[..., :: self.downscale, :: self.downscale],
            known_cells(known, self.downscale),
        )
        if has_forward_hook(self.scores):
            with torch.no_grad():
                self.scores(*matched)
        matching, blocks = self.scores.match(*matched), split_blocks(self.pad(background, self.margin), self.downscale)
        pasted = self._paste(matching, blocks)
        joined = join_blocks(pasted, self.downscale, self.margin)[..., :height, :width]
        return joined.to(foreground.dtype)  # autocast's mirror padding makes float32 of half precision

    def _paste(self, matching: MatchInputs, blocks: Tensor) -> Tensor:
        """The means of overlapping patches, as blocks, tile by tile."""
        samples, height, width = matching.scale.shape[:3]
        lying = count_overlaps(height, width, self.count, blocks.device)[..., None] / self.count**2
        if is_exporting():  # one tile: how many there are would be a matter of the size
            whole: Tensor = self.attend_rows(matching, blocks, 0, height)
            return whole / lying
        edge = self.count - 1
        pasted = blocks.new_zeros(samples, height + edge, width + edge, blocks.shape[1])
        many, rows = self._tile(height, 4 * width * blocks.shape[2], blocks.device.type)
        for start in range(0, samples, many):
            chosen = slice(start, start + many)
            part = matching.select_samples(chosen)
            for first in range(0, height, rows):
                end = min(first + rows, height)
                pasted[chosen, first : end + edge] += self.attend_rows(part, blocks[chosen], first, end)
        return pasted / lying

    def _tile(self, height: int, row_bytes: int, device: str) -> tuple[int, int]:
        """Samples and rows of a tile."""
        wanted_mib, fewest = self.scores_mib, 1
        if wanted_mib is None:
            wanted_mib, fewest = SCORES_MIB.get(device, SCORES_MIB["cuda"]), FEWEST_ROWS
        rows = int(wanted_mib * 2**20 / row_bytes)
        return max(rows // height, 1), max(fewest, min(rows, height))

    def map_layers(self) -> dict[str, nn.Module]:
        """`attention`: the shares of the background patches, see `AttentionScores`."""
        return {"attention": self.scores}


def _pad_to_multiple(x: Tensor, factor: int) -> Tensor:
    bottom, right = (-side % factor for side in x.shape[-2:])
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


def attention_offsets(attention: Tensor, background_size: tuple[int, int], background_stride: int = 1) -> Tensor:
    """From each foreground cell to the centre of the background patch it takes most of; 0 where it takes of none.

    Source: Sec. 4.2, "relative location of the most interested background patch for each pixel in foreground".

    Args:
        background_size: rows and columns of background patches.
    Shapes:
        attention (B, rows' columns', h, w), >= 0. Returns (B, 2, h, w): dy and dx in cells, downwards and to the right.
    Raises:
        ValueError: the background's size and the attention's channels disagree.
    """
    rows, columns = background_size
    if rows * columns != attention.shape[1]:
        raise ValueError(f"background_size is {background_size}, yet attention has {attention.shape[1]} channels")
    share, patch = attention.max(1)
    height, width = attention.shape[-2:]
    y = torch.arange(height, device=attention.device)[:, None]
    x = torch.arange(width, device=attention.device)
    dy = background_stride * patch.div(columns, rounding_mode="floor") - y
    dx = background_stride * (patch % columns) - x
    return torch.stack([dy, dx], 1).to(attention.dtype) * (share > 0)[:, None]
