"""Literal forms of contextual attention: a loop over samples whose patches are convolution filters."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.attention_scores import SQUARED_NORM_FLOOR
from src.networks.layers.contextual_attention import ContextualAttention, FeatureAttention
from src.networks.layers.released_contextual_attention import SQUARE_FLOOR, ReleasedContextualAttention
from src.networks.ops.patch_products import PATCH


def patches_as_filters(x: Tensor, size: int, stride: int) -> Tensor:
    """Extract patches of one padded sample (1, C, h, w) as filters (N, C, size, size)."""
    return F.unfold(x, size, stride=stride)[0].T.reshape(-1, x.shape[1], size, size)


def shifted(scores: Tensor, dim: int, distance: int) -> Tensor:
    """Shift scores along a dim: scores[..., x + distance, ...], zeros outside."""
    source = torch.arange(scores.shape[dim], device=scores.device) + distance
    moved = scores.index_select(dim, source.clamp(0, len(source) - 1)).movedim(dim, -1)
    return (moved * ((source >= 0) & (source < len(source)))).movedim(-1, dim)


class LiteralContextualAttention(FeatureAttention):
    """`ContextualAttention` as matching, softmax, propagation and pasting."""

    def __init__(self, layer: ContextualAttention) -> None:
        super().__init__()
        self.scale, self.reach, self.step = layer.scores.scale, layer.scores.reach, layer.scores.background_stride
        self.downscale, self.pad = layer.downscale, layer.pad
        self.patch = PATCH if self.downscale == 1 else 2 * self.downscale
        self.margin = (self.patch - self.downscale) // 2

    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Compute the foreground; shapes as in `FeatureAttention`."""
        height, width = foreground.shape[-2:]
        filled = [
            F.pad(x, (0, -x.shape[-1] % self.downscale, 0, -x.shape[-2] % self.downscale), mode="replicate")
            for x in (foreground, background, known)
        ]
        made = [self._one(*(x[i : i + 1] for x in filled)) for i in range(len(foreground))]
        return torch.cat(made)[..., :height, :width]

    def _one(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        small_f, small_b = (x[..., :: self.downscale, :: self.downscale] for x in (foreground, background))
        small_known = -F.max_pool2d(-known, self.downscale)
        valid = (-F.max_pool2d(-small_known, PATCH, self.step, PATCH // 2) > 0).flatten()
        rows, columns = (-(-side // self.step) for side in small_b.shape[-2:])

        filters = patches_as_filters(self.pad(small_b, PATCH // 2), PATCH, self.step)
        filters = filters / (filters.square().sum((1, 2, 3), keepdim=True) + SQUARED_NORM_FLOOR).sqrt()
        padded = self.pad(small_f, PATCH // 2)
        squares = F.conv2d(padded.square(), padded.new_ones(1, padded.shape[1], PATCH, PATCH))
        scores = F.conv2d(padded, filters) / (squares + SQUARED_NORM_FLOOR).sqrt()

        scores = (self.scale * scores).masked_fill(~valid[:, None, None], torch.finfo(scores.dtype).min).softmax(1)
        scores = scores.view(rows, columns, *small_f.shape[-2:])
        for at_background, at_foreground in ((1, 3), (0, 2)):
            moved = (
                shifted(shifted(scores, at_background, i), at_foreground, i * self.step)
                for i in range(-self.reach, self.reach + 1)
            )
            scores = torch.stack(list(moved)).sum(0)
        scores = scores.flatten(0, 1)[None] * valid[:, None, None]
        total = scores.sum(1, keepdim=True)
        scores = scores / torch.where(total > 0, total, 1.0)

        patches = patches_as_filters(self.pad(background, self.margin), self.patch, self.downscale * self.step)
        paste: dict[str, Any] = {"stride": self.downscale, "padding": self.margin}
        ones = patches.new_ones(1, 1, self.patch, self.patch)
        overlaps = F.conv_transpose2d(torch.ones_like(scores[:, :1]), ones, **paste)
        return F.conv_transpose2d(scores, patches, **paste) / overlaps


class LiteralReleasedContextualAttention(FeatureAttention):
    """`ReleasedContextualAttention` as matching, fusion by convolutions with an identity, softmax and pasting."""

    def __init__(self, layer: ReleasedContextualAttention) -> None:
        super().__init__()
        self.layer = layer

    def known_cells(self, mask: Tensor, cell: int) -> Tensor:
        """Return the known cells as defined by the layer."""
        return self.layer.known_cells(mask, cell)

    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Compute the foreground; shapes as in `FeatureAttention`."""
        return torch.cat(
            [self._one(*(x[i : i + 1] for x in (foreground, background, known))) for i in range(len(known))]
        )

    def _one(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        step, patch, margin = self.layer.downscale, self.layer.count * self.layer.downscale, self.layer.margin
        small_f, small_b, small_known = (x[..., ::step, ::step] for x in (foreground, background, known))
        (height, width), (rows, columns) = small_f.shape[-2:], small_b.shape[-2:]
        filters = patches_as_filters(F.pad(small_b, (1,) * 4), PATCH, 1)
        filters = filters / (filters.square() + SQUARE_FLOOR).sum((1, 2, 3), keepdim=True).sqrt()
        scores = F.conv2d(small_f, filters, padding=1)

        identity = torch.eye(3, device=scores.device).view(1, 1, 3, 3)
        by_rows = scores.reshape(1, 1, rows * columns, height * width)
        fused = F.conv2d(by_rows, identity, padding=1).view(rows, columns, height, width)
        by_columns = fused.permute(1, 0, 3, 2).reshape(1, 1, rows * columns, height * width)
        fused = F.conv2d(by_columns, identity, padding=1).view(columns, rows, width, height).permute(1, 0, 3, 2)

        holes = F.max_pool2d(1 - small_known, PATCH, 1, 1)
        valid = (holes == 0).float().view(1, -1, 1, 1)
        shares = (self.layer.scores.scale * valid * fused.reshape(1, rows * columns, height, width)).softmax(1) * valid
        patches = patches_as_filters(F.pad(background, (margin,) * 4), patch, step)
        return F.conv_transpose2d(shares, patches, stride=step, padding=margin) / (patch // step) ** 2


FORMS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    ContextualAttention: LiteralContextualAttention,
    ReleasedContextualAttention: LiteralReleasedContextualAttention,
}
