"""Initial filters."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.ops.tracing import window_sum

FilterInit = Callable[[Tensor, int], Tensor]
"""Initialises filters in place, given the number of input values that each output value depends on."""


def kaiming(filters: Tensor, window_values: int) -> Tensor:
    """Initialise filters in place from N(0, 2 / ((1 + 0.2^2) window_values)), which preserves the signal's variance.

    Source: He et al., ICCV 2015, arXiv:1502.01852, Eq. 15, with LeakyReLU's slope of 0.2.
    """
    return nn.init.normal_(filters, std=(2 / ((1 + 0.2**2) * window_values)) ** 0.5)


def upsampled_kaiming(filters: Tensor, window_values: int) -> Tensor:
    """Initialise 4x4 filters of stride 2 in place so that they upsample by nearest neighbour and apply 3x3 filters.

    The 3x3 filters are from `kaiming`; they see 9 values where a transposed convolution sees 4. Independent values
    differ between the four pixels that come from one feature, which shows as grain until training has removed it.

    Shapes:
        filters (in_channels, out_channels, 4, 4), as in nn.ConvTranspose2d.
    """
    small = kaiming(torch.empty(*filters.shape[:2], 3, 3), window_values * 9 // 4)
    with torch.no_grad():
        return filters.copy_(window_sum(F.pad(small, (1,) * 4), 2))


def start_upsampling(conv: nn.ConvTranspose2d) -> nn.Module:
    """Initialise a 4x4 transposed convolution of stride 2 by `upsampled_kaiming`, and set its biases to 0."""
    upsampled_kaiming(conv.weight, 4 * conv.in_channels)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def small_normal(filters: Tensor, window_values: int) -> Tensor:
    """Initialise filters in place from N(0, 0.02^2), as LBAM's release does."""
    return nn.init.normal_(filters, std=0.02)
