"""Contextual attention (Yu et al., CVPR 2018): patches of the features borrow from the known patches they look like."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.coarse_to_fine import Pad, mirror_pad

PATCH = 3  # cells on a side of the patches that are compared (Sec. 4.1)
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


def cosine_scores(foreground: Tensor, background: Tensor, stride: int, pad: Pad) -> Tensor:
    """s = <f / ||f||, b / ||b||> of all pairs of 3x3 patches, in float32; the first equation of Sec. 4.1.

    Shapes:
        foreground (B, C, h, w) and background (B, C, h', w'), any range; background patches are centred on every
        stride-th cell. Returns (B, rows', columns', h, w).
    """
    f, b = (
        _unit(F.unfold(pad(x.float(), PATCH // 2), PATCH, stride=step))
        for x, step in ((foreground, 1), (background, stride))
    )
    rows, columns = (-(-side // stride) for side in background.shape[-2:])
    return torch.bmm(b.transpose(1, 2), f).view(len(f), rows, columns, *foreground.shape[-2:])


def _unit(patches: Tensor) -> Tensor:
    return patches * (patches.square().sum(1, keepdim=True) + SQUARED_NORM_FLOOR).rsqrt()


def propagate(scores: Tensor, reach: int, step: int = 1) -> Tensor:
    """Left-right, then top-down: s_hat[x, y, x', y'] = sum over i in -k .. k of s[x + i, y, x' + i, y'], zeros outside.

    Source: Sec. 4.1, "Attention propagation", with k = `reach`.
    Departs from the release, as the paper does: its sums go along flattened positions, so from the end of one row to
    the start of the next.

    Args:
        step: foreground cells between neighbouring background patches, so that both shift by the same distance.
    Shapes:
        scores (B, rows', columns', h, w), background first. Returns the same shape.
    """
    for background, foreground in ((2, 4), (1, 3)):
        scores = diagonal_sum(scores, {background: 1, foreground: step}, reach)
    return scores


def diagonal_sum(scores: Tensor, steps: dict[int, int], reach: int) -> Tensor:
    """Each score and those up to `reach` steps before and behind it; `steps` by dimension, outside are zeros."""
    total = scores.clone()
    for i in range(1, reach + 1):
        later, earlier = [slice(None)] * scores.ndim, [slice(None)] * scores.ndim
        for dim, step in steps.items():
            later[dim], earlier[dim] = slice(i * step, None), slice(max(scores.shape[dim] - i * step, 0))
        total[tuple(earlier)].add_(scores[tuple(later)])
        total[tuple(later)].add_(scores[tuple(earlier)])
    return total


class AttentionScores(nn.Module):
    """How much each foreground patch takes of each known background patch.

    s* = softmax over x', y' of (lambda s), known patches only;  s_hat = s* propagated
    Source: Yu et al., CVPR 2018, Sec. 4.1: propagation of the softmaxed scores, as printed (the release propagates
    before the softmax). All in float32, under autocast too.
    Where the paper is silent, as the release: lambda = 10 and k = 1.
    Departs from the paper: what propagation moves onto patches with a hole is dropped, and each s_hat is divided by its
    sum over the background. As printed s_hat sums to as much as (2 k + 1)^2, and the sum depends on how close to a
    border the patch is; divided, an attended feature is a weighted mean of known ones.

    Args:
        scale: lambda.
        reach: k of the propagation; 0 for none.
        background_stride: cells between background patches; more than 1 saves memory ("Memory efficiency", option 1).
        pad: what surrounds the features where a patch reaches over their border.
    """

    def __init__(self, scale: float, reach: int, background_stride: int, pad: Pad) -> None:
        super().__init__()
        self.scale, self.reach, self.background_stride, self.pad = scale, reach, background_stride, pad

    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Each foreground cell's shares of the background patches: sums are 1, or 0 where no patch is known.

        Shapes:
            as in `FeatureAttention`. Returns float32 (B, rows' columns', h, w), the patches row by row.
        """
        with torch.autocast(foreground.device.type, enabled=False):
            valid = known_patches(known, self.background_stride).squeeze(1)[..., None, None]
            scores = self.scale * cosine_scores(foreground, background, self.background_stride, self.pad)
            scores = scores.masked_fill(~valid, torch.finfo(scores.dtype).min)  # minus infinity: NaN if none is valid
            attention = scores.flatten(1, 2).softmax(1).view_as(scores)
            attention = propagate(attention, self.reach, self.background_stride) * valid
            attention = attention.flatten(1, 2)
            total = attention.sum(1, keepdim=True)
            return attention / torch.where(total > 0, total, 1.0)


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

    Nothing is learned. With no known patch at all the result is 0.

    Args:
        channels: of the features; every attention layer's factory is given them, and this one has no use for them.
        scale: lambda of the softmax.
        reach: k of the propagation; 0 for none.
        downscale: 1 or even; matching is done on features that many times smaller ("Memory efficiency", option 2).
        background_stride: cells between background patches, in the smaller features (option 1).
        pad: `mirror_pad` or `zero_pad`.
    Raises:
        ValueError: an argument is out of range; shapes do not fit each other.
    """

    def __init__(
        self,
        channels: int,
        scale: float = 10.0,
        reach: int = 1,
        downscale: int = 2,
        background_stride: int = 1,
        pad: Pad = mirror_pad,
    ) -> None:
        super().__init__()
        if downscale < 1 or (downscale > 1 and downscale % 2):
            raise ValueError(f"downscale must be 1 or even, got {downscale}")
        if background_stride < 1:
            raise ValueError(f"background_stride must be at least 1, got {background_stride}")
        if reach < 0:
            raise ValueError(f"reach must be at least 0, got {reach}")
        self.scores = AttentionScores(scale, reach, background_stride, pad)
        self.downscale, self.stride, self.pad = downscale, downscale * background_stride, pad
        self.patch = PATCH if downscale == 1 else 2 * downscale
        self.margin = (self.patch - downscale) // 2

    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Make the foreground anew; shapes as in `FeatureAttention`."""
        if foreground.shape[:2] != background.shape[:2]:
            raise ValueError(
                "foreground and background must share batch and channels, "
                f"got {tuple(foreground.shape)} and {tuple(background.shape)}"
            )
        if known.shape != (len(background), 1, *background.shape[-2:]):
            raise ValueError(
                f"known must be one channel of the background's size, got {tuple(known.shape)} "
                f"for a background of {tuple(background.shape)}"
            )
        height, width = foreground.shape[-2:]
        foreground, background, known = (_fill_up(t, self.downscale) for t in (foreground, background, known))
        attention = self.scores(
            foreground[..., :: self.downscale, :: self.downscale],
            background[..., :: self.downscale, :: self.downscale],
            known_cells(known, self.downscale),
        ).flatten(2)
        patches = F.unfold(self.pad(background, self.margin), self.patch, stride=self.stride)
        borrowed = torch.bmm(patches, attention.to(patches.dtype))
        taps = borrowed.new_ones(1, self.patch**2, attention.shape[-1])
        pasted = self._paste(borrowed, foreground) / self._paste(taps, foreground)
        return pasted[..., :height, :width]

    def _paste(self, patches: Tensor, foreground: Tensor) -> Tensor:
        return F.fold(patches, foreground.shape[-2:], self.patch, padding=self.margin, stride=self.downscale)

    def map_layers(self) -> dict[str, nn.Module]:
        """`attention`: the shares of the background patches, see `AttentionScores`."""
        return {"attention": self.scores}


def _fill_up(x: Tensor, factor: int) -> Tensor:
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
