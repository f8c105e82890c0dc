"""Attention maps of Edge-LBAM's release, in which edges modify the mask before LBAM's mask convolutions."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.attention_map import (
    MASK_CHANNELS,
    AttentionMaps,
    ClampedAsymmetricGaussian,
    MaskConv2d,
    MaskUpdate,
    expand_mask,
    power_relu,
    released_reverse_gaussian,
)
from src.networks.layers.edge_guided_maps import require_edges


def convolution(in_channels: int, out_channels: int, kernel_size: int = 3) -> nn.Sequential:
    """Build convolution, batch norm and LeakyReLU(0.2): (B, in_channels, H, W) to (B, out_channels, H, W)."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    nn.init.normal_(conv.weight, std=0.02)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.LeakyReLU(0.2))


def _two_convolutions(in_channels: int) -> nn.Sequential:
    return nn.Sequential(convolution(in_channels, MASK_CHANNELS), convolution(MASK_CHANNELS, MASK_CHANNELS))


def parameters_to_buffers(layer: nn.Module) -> nn.Module:
    """Turn the parameters of a layer into buffers, which are saved and loaded but not optimised."""
    for module in layer.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.data)
    return layer


class EdgeGuidance(nn.Module):
    """Mask guided by edges: M' = c(M) * c_1x1(cat(c(E), M)) + M, where c is convolution, batch norm and LeakyReLU.

    The 1x1 convolution has one output channel, shared by all channels of the mask.
    Source: Edge-LBAM's release; the paper's form (arXiv:2104.12087, A^E of Eqs. 14 and 19) is `EdgeGuidedConv`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mask_conv, self.edge_conv = convolution(channels, channels), convolution(channels, channels)
        self.agreement = convolution(2 * channels, 1, kernel_size=1)

    def forward(self, mask: Tensor, edges: Tensor) -> Tensor:
        """Guide the mask by the edges; all (B, channels, H, W), any range."""
        agreement = self.agreement(torch.cat([self.edge_conv(edges), mask], dim=1))
        guided: Tensor = self.mask_conv(mask) * agreement + mask
        return guided


class ReleasedEdgeMaps(AttentionMaps):
    """Attention maps whose levels each guide the mask by the edges before convolving it.

    M_0 = c(c(M));  E_0 = c(c(E));  E_l-1 is resized (nearest) to M_l-1
    m_l = mask_conv_l(guide_l(M_l-1, E_l-1));  map_l = attend_l(m_l);  M_l = update(m_l);  E_l = c(E_l-1)
    Source: the authors' release of Edge-LBAM.
    Departs from the paper, as the release: M_0 and E_0 are learned, the mask convolution comes last and has no gate,
    and M_l-1 is added to the guided mask. As batch norm shifts the mask, maps are not 0 in holes.

    The release also computes edges after the last level and discards them. Those weights are unused buffers here.

    Args:
        guides, mask_convs, attend: modules of each level, shallow to deep.
        edge_convs: convolutions of the edges for each level; the last is unused.
        update: the function g_M.
    """

    takes_edges = True

    def __init__(
        self,
        guides: Iterable[nn.Module],
        mask_convs: Iterable[nn.Module],
        edge_convs: Iterable[nn.Module],
        attend: Iterable[nn.Module],
        update: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.enter_mask, self.enter_edges = _two_convolutions(MASK_CHANNELS), _two_convolutions(1)
        self.guides, self.mask_convs = nn.ModuleList(guides), nn.ModuleList(mask_convs)
        self.attend = nn.ModuleList(attend)
        self.update = nn.ModuleList(MaskUpdate(update) for _ in self.mask_convs)
        self.edge_convs = nn.ModuleList(edge_convs)
        parameters_to_buffers(self.edge_convs[-1])

    def forward(self, mask: Tensor, edges: Tensor | None) -> tuple[Tensor, ...]:
        """Compute the maps of all levels; shapes as in `AttentionMaps`. Raises InputError if edges are missing."""
        carried = self.enter_edges(require_edges(edges))
        mask = self.enter_mask(expand_mask(mask, None))
        maps = []
        for guide, mask_conv, attend, update, carry in zip(
            self.guides, self.mask_convs, self.attend, self.update, (*self.edge_convs[:-1], nn.Identity()), strict=True
        ):
            carried = F.interpolate(carried, size=mask.shape[-2:])
            m = mask_conv(guide(mask, carried))
            maps.append(attend(m))
            mask, carried = update(m), carry(carried)
        return tuple(maps)


def released_edge_maps(
    channels: Sequence[int],
    attend: Callable[[], nn.Module] = ClampedAsymmetricGaussian,
    update: Callable[[Tensor], Tensor] = power_relu,
) -> ReleasedEdgeMaps:
    """Build the forward maps of the release; arguments as for `learnable_maps`."""
    widths = (MASK_CHANNELS, *channels)
    return ReleasedEdgeMaps(
        [EdgeGuidance(width) for width in widths[:-1]],
        [MaskConv2d(i, o) for i, o in pairwise(widths)],
        [convolution(i, o) for i, o in pairwise(widths)],
        [attend() for _ in channels],
        update,
    )


def released_reverse_edge_maps(channels: Sequence[int]) -> ReleasedEdgeMaps:
    """Build the reverse maps of the release, with other initial parameters of g_A."""
    return released_edge_maps(channels, released_reverse_gaussian)
