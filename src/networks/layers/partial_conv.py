"""Partial convolution: a convolution of the known pixels alone, rescaled by how many of them the window holds."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from src.networks.ops.small_maps import SmallMapConv2d
from src.networks.ops.tracing import window_sum


class BinaryUpdate(nn.Module):
    """Eq. 2: a window is known where it holds at least one known value."""

    def forward(self, known: Tensor) -> Tensor:
        """From a window's number of known values to 0 or 1; any shape."""
        return (known > 0).to(known.dtype)


Rescale = Callable[[Tensor, int], Tensor]
"""From a window's number of known values, at least 1, and of all values: what the sum over it is multiplied with."""


def to_full_window(known: Tensor, values: int) -> Tensor:
    """sum(1) / sum(M): what a window without a hole would have given, if its hole is as the rest. Eq. 1; any shape."""
    return values / known


def to_mean(known: Tensor, values: int) -> Tensor:
    """1 / sum(M): the mean over what is known, which shrinks with the kernel and the channels; any shape.

    Source: the common PyTorch re-implementation of Liu et al. Departs from the paper: Eq. 1's sum(1) is left out, so
    its filters are sum(1) times as large where they do the same.
    """
    return known.reciprocal()


class PartialConv2d(nn.Module):
    """Convolve known values; each window's sum is scaled up to what a full window would have given.

    x' = W^T (X * M) sum(1) / sum(M) + b  where sum(M) > 0, else 0      (Eq. 1)
    m' = 1 where sum(M) > 0, else 0                                     (Eq. 2)
    Source: Liu et al., ECCV 2018, arXiv:1804.07723, Sec. 3.1. Zeros around the image count as hole, sum(1) is a whole
    window's everywhere, as in the release.

    The paper's mask has as many channels as the features, all equal in what one layer made. So the layer takes its
    input in parts, each with a mask of one channel that counts once for every channel of the part: X is cat(features).

    Args:
        in_channels: of all parts together.
        rescale: sum(1) / sum(M), or what stands in its place; see `Rescale`.
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
    ) -> None:
        super().__init__()
        self.rescale, self.window_values = rescale, in_channels * kernel_size**2
        self.kernel_size, self.stride, self.padding = kernel_size, stride, kernel_size // 2
        self.conv = SmallMapConv2d(in_channels, out_channels, kernel_size, stride=stride, padding=self.padding)
        # Kaiming's, for every layer, as Liu et al. start theirs (Sec. 4.2).
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        # Not the convolution's own, which would be scaled as well.
        self.bias = nn.Parameter(torch.zeros(out_channels, 1, 1)) if bias else None
        self.update = BinaryUpdate()

    def forward(self, features: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Convolve, rescale and update the mask.

        Shapes:
            features[i] (B, C_i, H, W), finite in the hole too; masks[i] (B, 1, H, W), 1 = known, 0 = hole.
            Returns features (B, out_channels, H', W'), 0 in windows without a known value, and mask (B, 1, H', W').
        Raises:
            ValueError: features and masks differ in number or size, or channels do not add up to `in_channels`.
        """
        channels = [f.shape[1] for f in features]
        if [(f.shape[0], 1, *f.shape[-2:]) for f in features] != [tuple(m.shape) for m in masks]:
            raise ValueError(
                "each part of the features needs a mask of one channel and of its size, "
                f"got {[tuple(f.shape) for f in features]} and {[tuple(m.shape) for m in masks]}"
            )
        if sum(channels) != self.conv.in_channels:
            raise ValueError(f"the parts must have {self.conv.in_channels} channels together, got {channels}")

        count_known = partial(window_sum, kernel_size=self.kernel_size, stride=self.stride, padding=self.padding)
        known = torch.cat([c * count_known(m) for c, m in zip(channels, masks, strict=True)], dim=1).sum(
            1, keepdim=True
        )
        updated: Tensor = self.update(known)
        # One channel is multiplied with another first: each pass over all the features counts.
        scale = self.rescale(known.clamp_min(1), self.window_values) * updated
        x = self.conv(_masked(features, masks))
        # in place where nothing is lost: autocast's half precision becomes float32
        x = x * scale if torch.is_grad_enabled() or x.dtype != scale.dtype else x.mul_(scale)
        return (x if self.bias is None else torch.addcmul(x, self.bias, updated)), updated


def _masked(features: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    """The features' parts times their masks, joined; written once where no gradient is asked for."""
    parts = zip(features, masks, strict=True)
    if len(features) == 1 or torch.is_grad_enabled():
        return torch.cat([f * m for f, m in parts], dim=1)
    joined = torch.cat(tuple(features), dim=1)
    for part, (_, mask) in zip(torch.split(joined, [f.shape[1] for f in features], dim=1), parts, strict=True):
        part.mul_(mask)
    return joined
