"""The U-Nets' layers as their equations read: masks of as many channels as features, and a convolution for each sum."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.attention_map import AsymmetricGaussian, ClampedAsymmetricGaussian, MaskConv2d
from src.networks.layers.partial_conv import PartialConv2d
from src.networks.ops.small_maps import SmallMapConv2d, SmallMapConvTranspose2d


def literal_gaussian(m: Tensor, a: Tensor, mu: Tensor, gamma_l: Tensor, gamma_r: Tensor) -> Tensor:
    """g_A, both of its sides for every element."""
    squared = (m - mu).square()
    below = a * torch.exp(-gamma_l * squared)
    above = 1 + (a - 1) * torch.exp(-gamma_r * squared)
    return torch.where(m < mu, below, above)


class LiteralGaussian(AsymmetricGaussian):
    """`AsymmetricGaussian` with two exponentials and where."""

    def forward(self, m: Tensor) -> Tensor:
        """g_A of every element; any shape."""
        return literal_gaussian(m, self.a, self.mu, self.gamma_l, self.gamma_r)


class LiteralClampedGaussian(ClampedAsymmetricGaussian):
    """`ClampedAsymmetricGaussian` likewise."""

    def forward(self, m: Tensor) -> Tensor:
        """g_A of every element; any shape."""
        numbers = (getattr(self, name) for name in self.RANGES)
        nearest = (
            n.detach().clamp(*ends) + (n - n.detach()) for n, ends in zip(numbers, self.RANGES.values(), strict=True)
        )
        return literal_gaussian(m, *nearest)


class LiteralPartialConv2d(nn.Module):
    """`PartialConv2d` whose masks have as many channels as the features; a filter of ones counts what is known."""

    def __init__(self, layer: PartialConv2d) -> None:
        super().__init__()
        self.rescale, self.window_values = layer.rescale, layer.window_values
        self.conv, self.bias, self.update = plain_conv(layer.conv), layer.bias, layer.update
        self.stride: Any = layer.conv.stride
        self.padding: Any = layer.conv.padding
        self.ones: Tensor
        self.register_buffer("ones", torch.ones_like(layer.conv.weight[:1]), persistent=False)

    def forward(self, features: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Shapes as in `PartialConv2d`."""
        x = torch.cat(list(features), dim=1)
        m = torch.cat([mask.expand_as(f) for f, mask in zip(features, masks, strict=True)], dim=1)
        known = F.conv2d(m, self.ones, stride=self.stride, padding=self.padding)
        updated: Tensor = self.update(known)
        x = self.conv(x * m) * self.rescale(known.clamp_min(1), self.window_values)
        return (x if self.bias is None else x + self.bias) * updated, updated


def _sharing(made: nn.Module, layer: nn.Module) -> Any:
    """`made` with the parameters of `layer`, which have the same names."""
    for name, parameter in layer.named_parameters():
        made.register_parameter(name, parameter)
    return made.train(layer.training)


def plain_conv(layer: Any) -> nn.Conv2d:
    """PyTorch's own convolution: of all channels of a mask, equal or not, and of maps of any size."""
    made: nn.Conv2d = _sharing(
        nn.Conv2d(
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, bias=False,
            device=layer.weight.device,
        ),
        layer,
    )  # fmt: skip
    return made


def _plain_conv_transpose(layer: Any) -> nn.ConvTranspose2d:
    made: nn.ConvTranspose2d = _sharing(
        nn.ConvTranspose2d(
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, bias=False,
            device=layer.weight.device,
        ),
        layer,
    )  # fmt: skip
    return made


FORMS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    AsymmetricGaussian: lambda layer: _sharing(LiteralGaussian(), layer),
    ClampedAsymmetricGaussian: lambda layer: _sharing(LiteralClampedGaussian(), layer),
    MaskConv2d: plain_conv,
    SmallMapConv2d: plain_conv,
    SmallMapConvTranspose2d: _plain_conv_transpose,
    PartialConv2d: LiteralPartialConv2d,
}
"""From our layer to the literal one."""
