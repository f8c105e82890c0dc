"""Literal form of the upsampling convolutions in the two-stage networks."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.coarse_to_fine import UpsampleConvBlock, edge_pad, mirror_pad, zero_pad


class LiteralUpsampleConvBlock(nn.Module):
    """`UpsampleConvBlock` as upsampling, padding and convolution."""

    def __init__(self, block: UpsampleConvBlock) -> None:
        super().__init__()
        self.conv, self.activation = block.conv, block.activation
        self.pad = mirror_pad if block.pad is edge_pad else zero_pad

    def forward(self, x: Tensor) -> Tensor:
        """Upsample and convolve; shapes as in `UpsampleConvBlock`."""
        upsampled = self.pad(F.interpolate(x, scale_factor=2.0, mode="nearest"), 1)
        activated: Tensor = self.activation(self.conv(upsampled))
        return activated


FORMS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {UpsampleConvBlock: LiteralUpsampleConvBlock}
