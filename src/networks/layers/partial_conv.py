"""Partial convolution: a convolution over known pixels, rescaled by their number in each window."""

from collections.abc import Callable, Sequence
from functools import partial, reduce

import torch
from torch import Tensor, nn

from src.networks.ops.small_maps import SmallMapConv2d
from src.networks.ops.tracing import window_sum


class BinaryUpdate(nn.Module):
    """Mask update of Eq. 2: an output is known if its window has at least one known value."""

    def forward(self, known: Tensor) -> Tensor:
        """Map the number of known values in each window to 0 or 1; any shape."""
        return (known > 0).to(known.dtype)


Rescale = Callable[[Tensor, int], Tensor]
"""Returns the factor of a window's sum, given its number of known values (>= 1) and of all values."""


def to_full_window(known: Tensor, values: int) -> Tensor:
    """Return sum(1) / sum(M) of Eq. 1, which estimates the sum over a window without a hole; any shape."""
    return values / known


def to_mean(known: Tensor, values: int) -> Tensor:
    """Return 1 / sum(M), which gives the mean over the known values; any shape.

    Source: the common PyTorch re-implementation of Liu et al. Departs from the paper, which multiplies by sum(1).
    """
    return known.reciprocal()


class PartialConv2d(nn.Module):
    """Partial convolution: the sum over the known values of a window is scaled up to a full window.

    x' = W^T (X * M) sum(1) / sum(M) + b  where sum(M) > 0, else 0      (Eq. 1)
    m' = 1 where sum(M) > 0, else 0                                     (Eq. 2)
    Source: Liu et al., ECCV 2018, arXiv:1804.07723, Sec. 3.1. The padding counts as hole, and sum(1) is that
    of a whole window everywhere, as in the release.

    The paper's mask has as many channels as the features, and all channels from the same layer are equal. So this layer
    takes a list of features, each with a single-channel mask that counts once per channel: X is cat(features).

    Departs from the paper where several features are given, unless `together`: each is rescaled by its own mask, and
    the sums are added. With one factor for all, an image that is concatenated with many channels of known features is
    hardly rescaled in a window that reaches into the hole, and the features there are rescaled too much.

    Args:
        in_channels: total number of channels of the features.
        rescale: factor of the sum over a window; sum(1) / sum(M) in the paper.
        together: whether all features of a window share one factor, as in the paper.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        bias: bool = False,
        rescale: Rescale = to_full_window,
        together: bool = False,
    ) -> None:
        super().__init__()
        self.together = together
        self.rescale, self.window_values = rescale, in_channels * kernel_size**2
        self.kernel_size, self.stride, self.padding = kernel_size, stride, kernel_size // 2
        self.conv = SmallMapConv2d(in_channels, out_channels, kernel_size, stride=stride, padding=self.padding)
        # Liu et al. initialise all layers like this (Sec. 4.2).
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        # Not the bias of the convolution, which would be rescaled.
        self.bias = nn.Parameter(torch.zeros(out_channels, 1, 1)) if bias else None
        self.update = BinaryUpdate()

    def forward(self, features: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Convolve, rescale and update the mask.

        Shapes:
            features[i] (B, C_i, H, W), finite in the hole too; masks[i] (B, 1, H, W), 1 = known, 0 = hole.
            Returns features (B, out_channels, H', W'), 0 in windows without a known value, and mask (B, 1, H', W').
        Raises ValueError if features and masks differ in number or size, or the channels do not sum to `in_channels`.
        """
        channels = [f.shape[1] for f in features]
        if [(f.shape[0], 1, *f.shape[-2:]) for f in features] != [tuple(m.shape) for m in masks]:
            raise ValueError(
                "each feature tensor needs a single-channel mask of the same size, "
                f"got {[tuple(f.shape) for f in features]} and {[tuple(m.shape) for m in masks]}"
            )
        if sum(channels) != self.conv.in_channels:
            raise ValueError(f"the channels of the features must sum to {self.conv.in_channels}, got {channels}")

        count_known = partial(window_sum, kernel_size=self.kernel_size, stride=self.stride, padding=self.padding)
        counts = torch.cat([c * count_known(m) for c, m in zip(channels, masks, strict=True)], dim=1)
        updated: Tensor = self.update(counts.sum(1, keepdim=True))
        if self.together or len(features) == 1:
            # Multiplying the single-channel factors first saves a pass over the features.
            scale = self.rescale(counts.sum(1, keepdim=True).clamp_min(1), self.window_values) * updated
            x = _times(self.conv(_masked(features, masks)), scale)
        else:
            filters = torch.split(self.conv.weight, channels, dim=1)
            known = torch.split(counts.clamp_min(1), 1, dim=1)
            parts = [
                _times(self.conv.convolve(f * m, w), self.rescale(n, w[0].numel()))
                for f, m, w, n in zip(features, masks, filters, known, strict=True)
            ]
            x = reduce(torch.add, parts)
        return (x if self.bias is None else torch.addcmul(x, self.bias, updated)), updated


def _times(x: Tensor, scale: Tensor) -> Tensor:
    """Multiply in place, unless gradients are needed or autocast made x half precision."""
    return x * scale if torch.is_grad_enabled() or x.dtype != scale.dtype else x.mul_(scale)


def _masked(features: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    """Multiply the features by their masks and concatenate them, in place if no gradient is needed."""
    parts = zip(features, masks, strict=True)
    if len(features) == 1 or torch.is_grad_enabled():
        return torch.cat([f * m for f, m in parts], dim=1)
    joined = torch.cat(tuple(features), dim=1)
    for part, (_, mask) in zip(torch.split(joined, [f.shape[1] for f in features], dim=1), parts, strict=True):
        part.mul_(mask)
    return joined
