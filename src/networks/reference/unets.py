"""Literal forms of the U-Nets' layers: masks with as many channels as the features, and plain convolutions."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.attention_map import AsymmetricGaussian, ClampedAsymmetricGaussian, MaskConv2d
from src.networks.layers.partial_conv import PartialConv2d
from src.networks.ops.small_maps import SmallMapConv2d, SmallMapConvTranspose2d


def literal_gaussian(m: Tensor, a: Tensor, mu: Tensor, gamma_l: Tensor, gamma_r: Tensor) -> Tensor:
    """Compute both sides of g_A for every element."""
    squared = (m - mu).square()
    below = a * torch.exp(-gamma_l * squared)
    above = 1 + (a - 1) * torch.exp(-gamma_r * squared)
    return torch.where(m < mu, below, above)


class LiteralGaussian(AsymmetricGaussian):
    """`AsymmetricGaussian` with two exponentials and torch.where."""

    def forward(self, m: Tensor) -> Tensor:
        """Compute g_A element-wise."""
        return literal_gaussian(m, self.a, self.mu, self.gamma_l, self.gamma_r)


class LiteralClampedGaussian(ClampedAsymmetricGaussian):
    """`ClampedAsymmetricGaussian` with two exponentials and torch.where."""

    def forward(self, m: Tensor) -> Tensor:
        """Compute g_A element-wise."""
        numbers = (getattr(self, name) for name in self.RANGES)
        nearest = (
            n.detach().clamp(*ends) + (n - n.detach()) for n, ends in zip(numbers, self.RANGES.values(), strict=True)
        )
        return literal_gaussian(m, *nearest)


class LiteralPartialConv2d(nn.Module):
    """`PartialConv2d` with multi-channel masks; a filter of ones counts the known values."""

    def __init__(self, layer: PartialConv2d) -> None:
        super().__init__()
        self.rescale, self.together = layer.rescale, layer.together
        self.conv, self.bias, self.update = _plain(nn.Conv2d, layer.conv), layer.bias, layer.update
        self.stride: Any = layer.conv.stride
        self.padding: Any = layer.conv.padding
        self.ones: Tensor
        self.register_buffer("ones", torch.ones_like(layer.conv.weight[:1]), persistent=False)

    def forward(self, features: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Convolve and update the mask; shapes as in `PartialConv2d`."""
        joined = torch.cat(list(features), dim=1)
        known_values = torch.cat([mask.expand_as(f) for f, mask in zip(features, masks, strict=True)], dim=1)
        updated: Tensor = self.update(self._convolve(known_values, self.ones))
        x, first = torch.zeros(()), 0
        for channels in [joined.shape[1]] if self.together else [f.shape[1] for f in features]:
            part = slice(first, first + channels)
            values, m, filters = joined[:, part], known_values[:, part], self.conv.weight[:, part]
            known = self._convolve(m, self.ones[:, part])
            x = x + self._convolve(values * m, filters) * self.rescale(known.clamp_min(1), filters[0].numel())
            first += channels
        return (x if self.bias is None else x + self.bias) * updated, updated

    def _convolve(self, x: Tensor, filters: Tensor) -> Tensor:
        return F.conv2d(x, filters, stride=self.stride, padding=self.padding)


def _sharing(made: nn.Module, layer: nn.Module) -> Any:
    """Share the parameters of `layer`, which have the same names, with `made`."""
    for name, parameter in layer.named_parameters():
        made.register_parameter(name, parameter)
    return made.train(layer.training)


def _plain(kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], layer: Any) -> Any:
    """Build PyTorch's own convolution of a kind that shares the weights of `layer`."""
    shape = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding)
    return _sharing(kind(*shape, bias=False, device=layer.weight.device), layer)


FORMS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    AsymmetricGaussian: lambda layer: _sharing(LiteralGaussian(), layer),
    ClampedAsymmetricGaussian: lambda layer: _sharing(LiteralClampedGaussian(), layer),
    MaskConv2d: partial(_plain, nn.Conv2d),
    SmallMapConv2d: partial(_plain, nn.Conv2d),
    SmallMapConvTranspose2d: partial(_plain, nn.ConvTranspose2d),
    PartialConv2d: LiteralPartialConv2d,
}
"""Functions that build the literal form of a layer, by its class."""
