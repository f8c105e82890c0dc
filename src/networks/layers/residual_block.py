"""Parts of EdgeConnect's generator, which MECNet, EdgeConnect, MEDFE and PICNet share."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from src.networks.layers.coarse_to_fine import mirror_pad
from src.networks.ops.tracing import is_exporting

INITIAL_STD = 0.02  # of all filters

Start = Callable[..., nn.Module]
"""Initialises a convolution and returns it, or a module around it."""


class MirrorPad(nn.Module):
    """`mirror_pad` as a layer; nn.ReflectionPad2d does not support features smaller than its padding."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Pad (B, C, H, W) to (B, C, H + 2 padding, W + 2 padding)."""
        return mirror_pad(x, self.padding)


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm that leaves features of a single position unchanged, as their variance is 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W) per sample and channel."""
        if is_exporting():  # nn.InstanceNorm2d would reject all sizes that lead to a single position
            deviation = (x.var((2, 3), unbiased=False, keepdim=True) + self.eps).sqrt()
            normalised = (x - x.mean((2, 3), keepdim=True)) / deviation
            if self.affine:
                normalised = normalised * self.weight[:, None, None] + self.bias[:, None, None]
            return torch.where(torch.full((), x.shape[-2] * x.shape[-1], device=x.device) == 1, x, normalised)
        if x.shape[-2:] == (1, 1):
            return x
        return super().forward(x)


class ResidualBlock(nn.Module):
    """Residual block x + IN(conv(ReLU(IN(conv(x))))): 3x3 filters, the first dilated.

    Source: EdgeConnect (arXiv:1901.00212), appendix A, and its code, which has no ReLU after the sum.

    Args:
        dilation: dilation of the first convolution.
        start: initialises a convolution, and may add spectral norm.
        bias: whether the convolutions have biases.
        norm: makes the normalisation from the number of channels.
    """

    def __init__(
        self,
        channels: int,
        dilation: int = 2,
        *,
        start: Callable[[nn.Conv2d], nn.Module],
        bias: bool = False,
        norm: Callable[[int], nn.Module] = nn.InstanceNorm2d,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            MirrorPad(dilation),
            start(nn.Conv2d(channels, channels, 3, dilation=dilation, bias=bias)),
            norm(channels),
            nn.ReLU(),
            MirrorPad(1),
            start(nn.Conv2d(channels, channels, 3, bias=bias)),
            norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, channels, H, W); the shape stays the same."""
        residual: Tensor = self.layers(x)
        return x + residual


def encoder(in_channels: int, channels: Sequence[int], start: Start) -> nn.Sequential:
    """Build EdgeConnect's encoder, (B, in_channels, H, W) to (B, channels[2], H / 4, W / 4).

    Args:
        channels: output channels of the three convolutions; 64, 128, 256 in the paper.
        start: initialises a convolution, and may add spectral norm.
    """
    c64, c128, c256 = channels
    return nn.Sequential(
        MirrorPad(3),
        start(nn.Conv2d(in_channels, c64, 7)),
        nn.InstanceNorm2d(c64),
        nn.ReLU(),
        start(nn.Conv2d(c64, c128, 4, stride=2, padding=1)),
        nn.InstanceNorm2d(c128),
        nn.ReLU(),
        start(nn.Conv2d(c128, c256, 4, stride=2, padding=1)),
        nn.InstanceNorm2d(c256),
        nn.ReLU(),
    )


def decoder(in_channels: int, out_channels: int, channels: Sequence[int], start: Start) -> nn.Sequential:
    """Build EdgeConnect's decoder, (B, in_channels, H, W) to (B, out_channels, 4 H, 4 W), without its last activation.

    Args:
        channels: as for `encoder`.
        start: as for `encoder`; the last convolution has no spectral norm.
    """
    c64, c128, _ = channels
    return nn.Sequential(
        start(nn.ConvTranspose2d(in_channels, c128, 4, stride=2, padding=1)),
        nn.InstanceNorm2d(c128),
        nn.ReLU(),
        start(nn.ConvTranspose2d(c128, c64, 4, stride=2, padding=1)),
        nn.InstanceNorm2d(c64),
        nn.ReLU(),
        MirrorPad(3),
        initialised(nn.Conv2d(c64, out_channels, 7)),
    )


def initialised(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """Draw the filters from N(0, 0.02^2), as EdgeConnect does, and set biases to 0."""
    nn.init.normal_(conv.weight, std=INITIAL_STD)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
