"""Attention maps made from the mask and the image's edges: Edge-LFAM, Edge-LRAM, and LBAM(E), which concatenates."""

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
    MaskUpdate,
    expand_mask,
    learned_mask_conv,
    near_zero,
    power_relu,
)

OPEN_GATE_BIAS = 2.0
"""Of A^E's last convolution, at the start: sigmoid(2) = 0.88."""


class EdgeGuidedConv(nn.Module):
    """The convolved mask of Edge-LFAM and Edge-LRAM: where it may grow is a matter of the edges.

    M^c = M_int * A^E;  M_int = conv(M_in);  A^E = gate(conv(LeakyReLU(BN(conv(cat(M_in, E_in))))))
    Source: Edge-LBAM (arXiv:2104.12087), Eqs. 14 and 19.
    Decision, where the paper is silent: M_int is LBAM's mask convolution, without bias, so that M^c is 0 wherever no
    known pixel is in reach, whatever the edges. A^E has one channel, as the release's; its first convolution is 3x3 and
    as wide as M_in, its second 4x4 of stride 2, the window of M_int.
    Decision: A^E is a sigmoid's: it is there "for indicating the regions of cross-edge mask propagation", where the
    mask's growth "should be prevented", so it lets through or stops, and turns no sign.
    The release does otherwise, as `released_edge_maps` has it: three 3x3 and 1x1 convolutions before LBAM's own mask
    convolution, no gate, and M_in added to the product.

    Decision, where the paper is silent: the gate starts open, at sigmoid(2) = 0.88. At 0.5 each level would halve m,
    and the gradients of the deepest mask filters would start at 1e-8 (full width, 256 px); so they start at 1.3e-7.

    Args:
        gate: makes A^E's activation.
        start: fills the mask filters, in place; `non_negative` with all_known=1 / 0.88 puts m at 1 where all is known.
        gate_bias: what the gate's activation sees at first where its convolution adds nothing.
    """

    def __init__(
        self,
        mask_channels: int,
        edge_channels: int,
        out_channels: int,
        gate: Callable[[], nn.Module] = nn.Sigmoid,
        start: Callable[[Tensor], Tensor] = near_zero,
        gate_bias: float = OPEN_GATE_BIAS,
    ) -> None:
        super().__init__()
        self.mask_conv = learned_mask_conv(mask_channels, out_channels, start=start)
        last = nn.Conv2d(mask_channels, 1, 4, stride=2, padding=1)
        nn.init.constant_(last.get_parameter("bias"), gate_bias)
        self.edge_attention = nn.Sequential(
            nn.Conv2d(mask_channels + edge_channels, mask_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(mask_channels),
            nn.LeakyReLU(0.2),
            last,
            gate(),
        )

    def forward(self, mask: Tensor, edges: Tensor) -> Tensor:
        """Convolve the mask.

        Shapes:
            mask (B, mask_channels, H, W), 0 where nothing is known; edges (B, edge_channels, H, W), any range.
            Returns (B, out_channels, H/2, W/2).
        """
        convolved: Tensor = self.mask_conv(mask) * self.edge_attention(torch.cat([mask, edges], dim=1))
        return convolved


def edge_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """E_out from E_in (Secs. 3.4 and 3.5), (B, in_channels, H, W) to (B, out_channels, H/2, W/2).

    Decision, where the paper is silent: 3x3, stride 2, batch norm, LeakyReLU(0.2), as wide as the level's mask. The
    release's has stride 1, and its edges are resized to the mask's size (nearest) at the next level.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(0.2),
    )


class EdgeGuidedMaps(AttentionMaps):
    """Each level convolves the updated mask and the edges that the level before hands on.

    M^c_l = mask_conv_l(M_l-1, E_l-1);  map_l = attend_l(M^c_l);  M_l = update(M^c_l);  E_l = edge_conv_l(E_l-1)
    Source: Edge-LBAM (arXiv:2104.12087), Eqs. 14, 19 and 20, and Fig. 5. The reverse direction is the same with the
    complement of the mask. The deepest level has no edge convolution, as nothing would read its edges.

    Args:
        mask_convs: take mask and edges; one a level, shallow to deep.
        edge_convs: one a level but the last.
        attend: g_A, one a level.
        update: g_M itself; a plain function, as it learns nothing.
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
        """Make every level's map; shapes as in `AttentionMaps`.

        Raises:
            InputError: no edges.
        """
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
    gate: Callable[[], nn.Module] = nn.Sigmoid,
    start: Callable[[Tensor], Tensor] = near_zero,
    gate_bias: float = OPEN_GATE_BIAS,
) -> EdgeGuidedMaps:
    """Edge-LFAM on the forward side, Edge-LRAM on the reverse.

    Args:
        channels: of the maps, shallow to deep.
        attend: makes g_A, Eq. 12; a factory, so that every layer owns its numbers.
        update: g_M, Eq. 11.
        gate: makes the activation of A^E.
        start, gate_bias: as for `EdgeGuidedConv`.
    """
    mask_widths, edge_widths = (MASK_CHANNELS, *channels[:-1]), (1, *channels[:-1])
    return EdgeGuidedMaps(
        [
            EdgeGuidedConv(m, e, o, gate, start, gate_bias)
            for m, e, o in zip(mask_widths, edge_widths, channels, strict=True)
        ],
        [edge_conv(i, o) for i, o in pairwise(edge_widths)],
        [attend() for _ in channels],
        update,
    )


def edge_concatenated_maps(
    channels: Sequence[int],
    attend: Callable[[], nn.Module] = AsymmetricGaussian,
    update: Callable[[Tensor], Tensor] = power_relu,
) -> MaskChain:
    """LBAM(E) of Table 5: the edges are one more channel of what the first mask convolution sees.

    Unlike elsewhere an edge in a hole counts as something known. Arguments as for `edge_guided_maps`.
    """
    widths = (MASK_CHANNELS + 1, *channels)
    return MaskChain(
        [learned_mask_conv(i, o) for i, o in pairwise(widths)],
        [attend() for _ in channels],
        update,
        concatenate_mask_and_edges,
        takes_edges=True,
    )


def concatenate_mask_and_edges(mask: Tensor, edges: Tensor | None) -> Tensor:
    """The first mask convolution's input in LBAM(E): (B, MASK_CHANNELS + 1, H, W), the edges behind the mask.

    Raises:
        InputError: no edges.
    """
    return torch.cat([expand_mask(mask, None), require_edges(edges)], dim=1)


def require_edges(edges: Tensor | None) -> Tensor:
    """The edges.

    Raises:
        InputError: there are none.
    """
    if edges is None:
        raise InputError(
            "edges must be (B, 1, H, W) for this U-Net, got None: give the picture's edges, or take the whole of "
            "EdgeLBAM, which predicts them where none are given"
        )
    return edges
