"""Scores of contextual attention: similarity of feature patches, softmax over known patches, and propagation."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.coarse_to_fine import Pad
from src.networks.ops.patch_products import PATCH, diagonal_sum, patch_products, squared_norms

SQUARED_NORM_FLOOR = 1e-6  # added to squared norms, so that the gradient at a zero patch is finite


def known_patches(known: Tensor, stride: int) -> Tensor:
    """Return which 3x3 patches, centred on every stride-th cell, contain no hole; the padding counts as known.

    Where the paper is silent, as the release: a patch with a single hole cell is not used.

    Shapes:
        known (B, 1, h, w), 1 = known, 0 = hole. Returns bool (B, 1, rows, columns).
    """
    return -F.max_pool2d(-known, PATCH, stride, padding=PATCH // 2) > 0  # max_pool2d pads with minus infinity


def propagate(weights: Tensor, reach: int, step: int = 1) -> Tensor:
    """Propagate left-right, then top-down: s_hat[x, y, x', y'] = sum over i in -k .. k of s[x + i, y, x' + i, y'].

    Source: Sec. 4.1, "Attention propagation", with k = `reach`; zeros outside.
    Departs from the release, as the paper does: the release sums along flattened positions, from the end of one row to
    the start of the next.

    Args:
        step: foreground cells between neighbouring background patches, so that both shift by the same distance.
    Shapes:
        weights (B, h, w, rows', columns'), with k * step extra rows above and below, zero outside the foreground.
        Returns (B, h - 2 k step, w, rows', columns').
    """
    if reach == 0:
        return weights
    count = 2 * reach + 1
    for axes, pads in (((2, 4), (reach, reach, 0, 0, reach * step, reach * step)), ((1, 3), (0, 0, reach, reach))):
        weights = diagonal_sum(F.pad(weights, pads), count, axes, step)
    return weights


@dataclass(frozen=True)
class MatchInputs:
    """Inputs of `AttentionScores.score_rows`, in float32.

    Shapes:
        foreground (B, C, h + 2, w + 2) and background (B, C, h' + 2, w' + 2); scale (B, h, w, 1, 1), lambda / ||f||;
        inverse_norms and known (B, 1, 1, rows', columns'), 1 / ||b||, and 1 for known patches, 0 for others.
    """

    foreground: Tensor
    background: Tensor
    scale: Tensor
    inverse_norms: Tensor
    known: Tensor

    def select_samples(self, chosen: slice) -> MatchInputs:
        """Select a part of the batch."""
        return MatchInputs(*(getattr(self, field.name)[chosen] for field in fields(self)))


def _inverse_norms(padded: Tensor) -> Tensor:
    return (squared_norms(padded) + SQUARED_NORM_FLOOR).rsqrt()


class AttentionScores(nn.Module):
    """Weights of the known background patches for each foreground patch.

    s = <f / ||f||, b / ||b||>;  s* = softmax over x', y' of (lambda s), known patches only;  s_hat = s* propagated
    Source: Yu et al., CVPR 2018, Sec. 4.1: propagation after the softmax, as printed (before the softmax in the
    release). Always in float32.
    Where the paper is silent, as the release: k = 1.
    Decision, where the paper is silent: lambda = 50. The release has 10, but normalises only the background patches, so
    its softmax is far sharper (src/networks/README.md).
    Departs from the paper: weights that propagation moves onto patches with a hole are dropped, and s_hat is divided by
    its sum over the background. As printed, s_hat sums to up to (2 k + 1)^2, depending on the distance to the border;
    normalised, an attended feature is a weighted mean of known ones.

    Args:
        scale: lambda.
        reach: k of the propagation; 0 for none.
        background_stride: cells between background patches; more than 1 skips patches ("Memory efficiency", option 1).
        pad: padding of the features for patches at the border.
    """

    def __init__(self, scale: float, reach: int, background_stride: int, pad: Pad) -> None:
        super().__init__()
        self.scale, self.reach, self.background_stride, self.pad = scale, reach, background_stride, pad

    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Return the weights of all background patches for each foreground cell, for visualisation.

        Shapes:
            As in `FeatureAttention`. Returns float32 (B, rows' columns', h, w), the patches in row-major order.
        """
        weights = self.score_rows(self.match(foreground, background, known), 0, foreground.shape[-2])
        return weights.flatten(3).permute(0, 3, 1, 2)

    def match(self, foreground: Tensor, background: Tensor, known: Tensor) -> MatchInputs:
        """Prepare the inputs of `score_rows`; shapes as in `FeatureAttention`."""
        with torch.autocast(foreground.device.type, enabled=False):
            step = self.background_stride
            front, back = (self.pad(x.float(), PATCH // 2) for x in (foreground, background))
            return MatchInputs(
                front,
                back,
                self.scale * _inverse_norms(front)[..., None, None],
                _inverse_norms(back)[:, None, None, ::step, ::step],
                known_patches(known, step)[:, :, None].float(),
            )

    def score_rows(self, matching: MatchInputs, first: int, end: int) -> Tensor:
        """Return the weights for foreground rows first .. end - 1, (B, end - first, w, rows', columns')."""
        with torch.autocast(matching.foreground.device.type, enabled=False):
            step, height = self.background_stride, matching.scale.shape[1]
            above, below = first - self.reach * step, end + self.reach * step
            # Not min(), which would add a symbol to exported graphs.
            top, bottom = max(above, 0), below if below < height else height
            scores = patch_products(matching.foreground[:, :, top : bottom + PATCH - 1], matching.background)
            scores = scores[..., ::step, ::step] * matching.scale[:, top:bottom]
            # not -inf, whose softmax is NaN if no patch is known
            unknown = (1 - matching.known) * torch.finfo(torch.float32).min
            scores = torch.addcmul(unknown, scores, matching.inverse_norms)
            weights = scores.flatten(3).softmax(3).view_as(scores)
            if above < top or bottom < below:
                weights = F.pad(weights, (0, 0, 0, 0, 0, 0, top - above, below - bottom))
            weights = propagate(weights, self.reach, step) * matching.known
            total = weights.sum((3, 4), keepdim=True)
            return weights / torch.where(total > 0, total, 1.0)


def attention_offsets(attention: Tensor, background_size: tuple[int, int], background_stride: int = 1) -> Tensor:
    """Return the offset from each foreground cell to the background patch with the largest weight; 0 without one.

    Source: Sec. 4.2, "relative location of the most interested background patch for each pixel in foreground".

    Shapes:
        attention (B, rows' columns', h, w), >= 0; background_size (rows', columns').
        Returns (B, 2, h, w): dy (down) and dx (right) in cells.
    Raises ValueError if `background_size` does not match the channels of the attention.
    """
    rows, columns = background_size
    if rows * columns != attention.shape[1]:
        raise ValueError(
            f"attention has {attention.shape[1]} channels, expected rows * columns of background_size={background_size}"
        )
    weight, patch = attention.max(1)
    height, width = attention.shape[-2:]
    y = torch.arange(height, device=attention.device)[:, None]
    x = torch.arange(width, device=attention.device)
    dy = background_stride * patch.div(columns, rounding_mode="floor") - y
    dx = background_stride * (patch % columns) - x
    return torch.stack([dy, dx], 1).to(attention.dtype) * (weight > 0)[:, None]
