"""The two-stage networks' convolutions as their tables list them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.coarse_to_fine import UpsampleConvBlock, edge_pad, mirror_pad, zero_pad


class LiteralUpsampleConvBlock(nn.Module):
    """`UpsampleConvBlock`: enlarge, pad, convolve."""

    def __init__(self, block: UpsampleConvBlock) -> None:
        super().__init__()
        self.conv, self.activation = block.conv, block.activation
        self.pad = mirror_pad if block.pad is edge_pad else zero_pad

    def forward(self, x: Tensor) -> Tensor:
        """Shapes as in `UpsampleConvBlock`."""
        enlarged = self.pad(F.interpolate(x, scale_factor=2.0, mode="nearest"), 1)
        activated: Tensor = self.activation(self.conv(enlarged))
        return activated


FORMS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {UpsampleConvBlock: LiteralUpsampleConvBlock}
