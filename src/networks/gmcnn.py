"""GMCNN (Wang et al., NeurIPS 2018): three columns with filters of different sizes, and a shared decoder."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from src.networks.interface import InpaintingNetwork, InpaintingOutput, to_channels_last
from src.networks.layers.coarse_to_fine import (
    DILATIONS,
    BlockFactory,
    ConvBlock,
    mirror_pad,
    scaled,
    to_signed,
    to_unit,
)
from src.networks.ops.asymmetric_gaussian import clamp_straight_through

elu_block: BlockFactory = partial(ConvBlock, pad=mirror_pad, activation=nn.ELU)


class GMCNN(InpaintingNetwork):
    """Generative multi-column network: each column sees the image at its own scale.

    f_k = column_k(z, 1 - m), k = 7, 5, 3;  x' = clamp(decoder(cat(f_7, f_5, f_3)));  z = x m;  x and x' in [-1, 1]
    Source: Wang et al., NeurIPS 2018, arXiv:1810.08771, Sec. 3.1: three columns with k x k filters, whose features are
    upsampled to the size of the image.
    Where the paper is silent, as the release: layers and channels, ELU, reflection padding, a clamp at the end. The
    column of 7x7 filters is upsampled once by 4 (bilinear), that of 5x5 filters by 2 and 2 (nearest, bilinear), and
    that of 3x3 filters by 2 and 2 (nearest), with convolutions in between. The paper and the release differ in the
    objective only.
    Departs from both: the gradient passes through the clamp. With its own, a network whose output leaves the range
    everywhere never learns again, as one did within ten steps at mini scale.

    Args:
        width: factor of the numbers of channels.
        dilations: dilations of the four dilated convolutions of each column, in cells of 4x4 pixels.
    """

    stride = 4

    def __init__(self, width: float = 1.0, dilations: Sequence[int] = DILATIONS) -> None:
        super().__init__()
        c16, c32, c64, c128 = (scaled(channels, width) for channels in (16, 32, 64, 128))
        self.columns = nn.ModuleList(
            nn.Sequential(*_encoder(kernel, width, dilations), *tail)
            for kernel, tail in (
                (7, [nn.UpsamplingBilinear2d(scale_factor=4)]),
                (5, [*_upsampled(c128, c64, 5), nn.UpsamplingBilinear2d(scale_factor=2)]),
                (3, [*_upsampled(c128, c64, 3), *_upsampled(c64, c32, 3)]),
            )
        )
        self.decoder = nn.Sequential(elu_block(c128 + c64 + c32, c16), elu_block(c16, 3, activation=nn.Identity))
        to_channels_last(self)

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole; `edges` are ignored."""
        seen = torch.cat([to_signed(image) * mask, 1 - mask], dim=1)
        decoded = self.decoder(torch.cat([column(seen) for column in self.columns], dim=1))
        return InpaintingOutput(clamp_straight_through(to_unit(decoded), 0, 1))

    def checkpointed_parts(self) -> Sequence[nn.Module]:
        """Return the columns and the decoder."""
        return [*self.columns, self.decoder]


def _encoder(kernel: int, width: float, dilations: Sequence[int]) -> list[nn.Module]:
    """Return a column's convolutions from image and hole to features of a quarter of the size."""
    c32, c64, c128 = (scaled(channels, width) for channels in (32, 64, 128))
    return [
        elu_block(4, c32, kernel),
        elu_block(c32, c64, kernel, stride=2),
        elu_block(c64, c64, kernel),
        elu_block(c64, c128, kernel, stride=2),
        *(elu_block(c128, c128, kernel) for _ in range(2)),
        *(elu_block(c128, c128, kernel, dilation=dilation) for dilation in dilations),
        *(elu_block(c128, c128, kernel) for _ in range(2)),
    ]


def _upsampled(in_channels: int, out_channels: int, kernel: int) -> list[nn.Module]:
    """Return nearest-neighbour upsampling by 2 and two convolutions."""
    return [
        nn.UpsamplingNearest2d(scale_factor=2),
        elu_block(in_channels, out_channels, kernel),
        elu_block(out_channels, out_channels, kernel),
    ]
