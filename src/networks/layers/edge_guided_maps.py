"""Attention maps computed from mask and edges: Edge-LFAM, Edge-LRAM and LBAM(E)."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from src.common.errors import InputError
from src.networks.layers.attention_map import (
    MASK_CHANNELS,
    AsymmetricGaussian,
    AttentionMaps,
    MaskChain,
    MaskConv2d,
    MaskUpdate,
    expand_mask,
    near_zero,
    power_relu,
)

OPEN_GATE_BIAS = 2.0  # initial bias of the last convolution of A^E: sigmoid(2) = 0.88


class EdgeGuidedConv(nn.Module):
    """Mask convolution of Edge-LFAM and Edge-LRAM, gated by the edges.

    M^c = M_int * A^E;  M_int = conv(M_in);  A^E = sigmoid(conv(LeakyReLU(BN(conv(cat(M_in, E_in))))))
    Source: Edge-LBAM (arXiv:2104.12087), Eqs. 14 and 19.
    Decision, where the paper is silent: M_int is LBAM's mask convolution without bias, so M^c is 0 wherever no known
    pixel is in reach, whatever the edges. A^E has one channel, as in the release. Its first convolution is 3x3 with the
    channels of M_in, its second 4x4 with stride 2, the window of M_int.
    Decision: the gate is a sigmoid. A^E is meant "for indicating the regions of cross-edge mask propagation", where the
    mask's growth "should be prevented", so it passes or blocks, and never changes the sign.
    The release differs, see `released_edge_maps`.
    Decision, where the paper is silent: the gate is open at first, at sigmoid(2) = 0.88; 0.5 would halve m per level.

    Args:
        start: initialises the mask filters in place; `non_negative` with all_known=1 / 0.88 puts m at 1 where
            everything is known.
    """

    def __init__(
        self,
        mask_channels: int,
        edge_channels: int,
        out_channels: int,
        start: Callable[[Tensor], Tensor] = near_zero,
    ) -> None:
        super().__init__()
        self.mask_conv = MaskConv2d(mask_channels, out_channels, start=start)
        last = nn.Conv2d(mask_channels, 1, 4, stride=2, padding=1)
        nn.init.constant_(last.get_parameter("bias"), OPEN_GATE_BIAS)
        self.edge_attention = nn.Sequential(
            nn.Conv2d(mask_channels + edge_channels, mask_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(mask_channels),
            nn.LeakyReLU(0.2),
            last,
            nn.Sigmoid(),
        )

    def forward(self, mask: Tensor, edges: Tensor) -> Tensor:
        """Convolve the mask and gate the result.

        Shapes:
            mask (B, mask_channels, H, W), 0 where nothing is known; edges (B, edge_channels, H, W), any range.
            Returns (B, out_channels, H/2, W/2).
        """
        convolved: Tensor = self.mask_conv(mask) * self.edge_attention(torch.cat([mask, edges], dim=1))
        return convolved


def edge_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Build the edge convolution (Secs. 3.4 and 3.5), (B, in_channels, H, W) to (B, out_channels, H/2, W/2).

    Decision, where the paper is silent: 3x3, stride 2, batch norm, LeakyReLU(0.2), with the channels of the mask.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(0.2),
    )


class EdgeGuidedMaps(AttentionMaps):
    """Attention maps whose levels each convolve the updated mask and the edges of the previous level.

    M^c_l = mask_conv_l(M_l-1, E_l-1);  map_l = attend_l(M^c_l);  M_l = update(M^c_l);  E_l = edge_conv_l(E_l-1)
    Source: Edge-LBAM (arXiv:2104.12087), Eqs. 14, 19 and 20, and Fig. 5. The reverse direction is the same with the
    complement of the mask. The deepest level has no edge convolution, as its edges would not be used.

    Args:
        mask_convs: convolutions of mask and edges for each level, shallow to deep.
        edge_convs: convolutions of the edges for each level except the last.
        attend: g_A of each level.
        update: the function g_M.
    """

    takes_edges = True

    def __init__(
        self,
        mask_convs: Iterable[nn.Module],
        edge_convs: Iterable[nn.Module],
        attend: Iterable[nn.Module],
        update: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.mask_convs, self.attend = nn.ModuleList(mask_convs), nn.ModuleList(attend)
        self.update = nn.ModuleList(MaskUpdate(update) for _ in self.mask_convs)
        self.edge_convs = nn.ModuleList(edge_convs)

    def forward(self, mask: Tensor, edges: Tensor | None) -> tuple[Tensor, ...]:
        """Compute the maps of all levels; shapes as in `AttentionMaps`. Raises InputError if edges are missing."""
        carried = require_edges(edges)
        mask = expand_mask(mask, None)
        maps = []
        for mask_conv, attend, update, carry in zip(
            self.mask_convs, self.attend, self.update, (*self.edge_convs, nn.Identity()), strict=True
        ):
            m = mask_conv(mask, carried)
            maps.append(attend(m))
            mask, carried = update(m), carry(carried)
        return tuple(maps)


def edge_guided_maps(
    channels: Sequence[int],
    attend: Callable[[], nn.Module] = AsymmetricGaussian,
    update: Callable[[Tensor], Tensor] = power_relu,
    start: Callable[[Tensor], Tensor] = near_zero,
) -> EdgeGuidedMaps:
    """Build Edge-LFAM (forward) or Edge-LRAM (reverse).

    Args:
        channels, attend, update: as for `learnable_maps`.
        start: initialises the mask filters, as for `EdgeGuidedConv`.
    """
    mask_widths, edge_widths = (MASK_CHANNELS, *channels[:-1]), (1, *channels[:-1])
    return EdgeGuidedMaps(
        [EdgeGuidedConv(m, e, o, start) for m, e, o in zip(mask_widths, edge_widths, channels, strict=True)],
        [edge_conv(i, o) for i, o in pairwise(edge_widths)],
        [attend() for _ in channels],
        update,
    )


def edge_concatenated_maps(
    channels: Sequence[int],
    attend: Callable[[], nn.Module] = AsymmetricGaussian,
    update: Callable[[Tensor], Tensor] = power_relu,
) -> MaskChain:
    """Build the maps of LBAM(E) in Table 5: the edges are a further input channel of the first mask convolution.

    Here, unlike elsewhere, an edge in the hole counts as known. Arguments as for `edge_guided_maps`.
    """
    widths = (MASK_CHANNELS + 1, *channels)
    return MaskChain(
        [MaskConv2d(i, o) for i, o in pairwise(widths)],
        [attend() for _ in channels],
        update,
        concatenate_mask_and_edges,
        takes_edges=True,
    )


def concatenate_mask_and_edges(mask: Tensor, edges: Tensor | None) -> Tensor:
    """Concatenate mask and edges to (B, MASK_CHANNELS + 1, H, W), the input of LBAM(E)'s first mask convolution.

    Raises InputError if edges are missing.
    """
    return torch.cat([expand_mask(mask, None), require_edges(edges)], dim=1)


def require_edges(edges: Tensor | None) -> Tensor:
    """Return the edges. Raises InputError if edges are missing."""
    if edges is None:
        raise InputError(
            "this U-Net requires edges of shape (B, 1, H, W), got None: pass the edges of the image, or use EdgeLBAM, "
            "which predicts them"
        )
    return edges
