"""Residual block of EdgeConnect's generator, which MECNet, EdgeConnect and MEDFE share."""

from collections.abc import Callable

from torch import Tensor, nn

from src.networks.layers.coarse_to_fine import mirror_pad


class MirrorPad(nn.Module):
    """`mirror_pad` as a layer; nn.ReflectionPad2d does not support features smaller than its padding."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Pad (B, C, H, W) to (B, C, H + 2 padding, W + 2 padding)."""
        return mirror_pad(x, self.padding)


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
