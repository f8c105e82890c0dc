"""Contextual attention (Yu et al., CVPR 2018): a coarse network, and one that refines its result with attention."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.layers.coarse_to_fine import (
    ConvBlock,
    decoder,
    dilated_body,
    mirror_pad,
    scaled,
    to_signed,
    to_unit,
)
from src.networks.layers.contextual_attention import ContextualAttention, FeatureAttention, known_cells

CELL = 4  # pixels on a side of a feature cell, after two convolutions of stride 2


def block(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    stride: int = 1,
    dilation: int = 1,
    *,
    activation: Callable[[], nn.Module] = nn.ELU,
) -> ConvBlock:
    """A convolution as the paper's: mirror padding, then ELU, no batch normalisation (Sec. 3).

    Where the paper is silent: filters start uniform after Glorot and Bengio and biases at 0, as TensorFlow 1.3, in
    which it was trained, starts them. PyTorch's own start shrinks what differs between pixels to 1e-5 of the output.
    """
    made = ConvBlock(in_channels, out_channels, kernel_size, stride, dilation, pad=mirror_pad, activation=activation)
    nn.init.xavier_uniform_(made.conv.weight)
    if made.conv.bias is not None:
        nn.init.zeros_(made.conv.bias)
    return made


def encoder(width: float) -> nn.Sequential:
    """K5S1C32 - K3S2C64 - K3S1C64 - K3S2C128 - K3S1C128 - K3S1C128: the start of every branch (appendix D).

    Shapes:
        (B, 4, H, W), picture in [-1, 1] and mask, to (B, 128 width, H/4, W/4).
    """
    c32, c64, c128 = (scaled(channels, width) for channels in (32, 64, 128))
    return nn.Sequential(
        block(4, c32, 5),
        block(c32, c64, stride=2),
        block(c64, c64),
        block(c64, c128, stride=2),
        block(c128, c128),
        block(c128, c128),
    )


class Stage(nn.Module, ABC):
    """A network from a picture and its mask to a picture."""

    @abstractmethod
    def forward(self, picture: Tensor, mask: Tensor) -> Tensor:
        """Make a picture.

        Shapes:
            picture (B, 3, H, W) in [-1, 1]; mask (B, 1, H, W), 1 = known, 0 = hole; H and W multiples of 4.
            Returns (B, 3, H, W) in [-1, 1].
        """

    def map_layers(self) -> dict[str, nn.Module]:
        """Layers whose outputs, one tensor each, are the maps to look at, by name."""
        return {}


class EncoderDecoder(Stage):
    """The coarse network, and the refinement network of the two-stage baseline.

    Source: Yu et al., CVPR 2018, appendix D, "each encoder-decoder".

    Args:
        width: multiplies the numbers of channels.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        c128 = scaled(128, width)
        self.layers = nn.Sequential(encoder(width), dilated_body(c128, block), decoder(c128, width, block))

    def forward(self, picture: Tensor, mask: Tensor) -> Tensor:
        """Make a picture; shapes as in `Stage`."""
        out: Tensor = self.layers(torch.cat([picture, mask], 1))
        return out


class TwoBranch(Stage):
    """Two encoders into one decoder: one hallucinates by dilated convolutions, one attends to the known features.

    Source: Yu et al., CVPR 2018, Sec. 4.2, Fig. 4 and appendix D, "Contextual attention branch".
    Departs from the release, as the paper does: ELU everywhere, before the attention too.

    Args:
        width: multiplies the numbers of channels.
        attention: makes the layer in the attention branch, given its channels.
    """

    def __init__(self, width: float = 1.0, attention: Callable[[int], FeatureAttention] = ContextualAttention) -> None:
        super().__init__()
        c128 = scaled(128, width)
        self.hallucinate = nn.Sequential(encoder(width), dilated_body(c128, block))
        self.before_attention = encoder(width)
        self.attention = attention(c128)
        self.after_attention = nn.Sequential(block(c128, c128), block(c128, c128))
        self.decode = decoder(2 * c128, width, block)

    def forward(self, picture: Tensor, mask: Tensor) -> Tensor:
        """Make a picture; shapes as in `Stage`."""
        x = torch.cat([picture, mask], 1)
        features = self.before_attention(x)
        attended = self.after_attention(self.attention(features, features, known_cells(mask, CELL)))
        out: Tensor = self.decode(torch.cat([self.hallucinate(x), attended], 1))
        return out

    def map_layers(self) -> dict[str, nn.Module]:
        """Those of the attention layer."""
        return self.attention.map_layers()


class CoarseOnly(InpaintingNetwork):
    """The first stage by itself.

    x' = G(z, m), z = x * m;  x and x' in [-1, 1]
    Source: Yu et al., CVPR 2018, Sec. 4.2 and appendix D.

    Args:
        width: multiplies the numbers of channels.
    """

    stride = 2 * CELL  # `CoarseToFine`'s, so that both see the same pictures

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.coarse = EncoderDecoder(width)

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole; `edges` are not used."""
        return InpaintingOutput(to_unit(self.coarse(to_signed(image) * mask, mask)))


class CoarseToFine(InpaintingNetwork):
    """Inpainting with contextual attention: a coarse picture, pasted into the hole and refined.

    coarse = G_1(z, m);  x' = G_2(z + coarse * (1 - m), m);  z = x * m;  x, coarse and x' in [-1, 1]
    Source: Yu et al., CVPR 2018, arXiv:1801.07892, Secs. 3 and 4.2, appendix D. The input is z and m, four channels
    (Sec. 4.2 and Algorithm 1; Sec. 3 speaks of white pixels in the hole, and the release adds a channel of ones).
    Where the paper is silent, as the release: the refinement sees m beside the pasted picture.

    Args:
        width: multiplies the numbers of channels.
        refinement: makes the second stage, given the width: `TwoBranch`, or `EncoderDecoder` for the paper's baseline.
    """

    stride = 2 * CELL  # the attention halves the features once more

    def __init__(self, width: float = 1.0, refinement: Callable[[float], Stage] = TwoBranch) -> None:
        super().__init__()
        self.coarse, self.refinement = EncoderDecoder(width), refinement(width)

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole twice; `edges` are not used."""
        known = to_signed(image) * mask
        coarse = self.coarse(known, mask)
        refined = self.refinement(known + coarse * (1 - mask), mask)
        return InpaintingOutput(to_unit(refined), coarse=to_unit(coarse))

    def map_layers(self) -> dict[str, nn.Module]:
        """`attention`, the shares that each feature patch takes of the known ones; `flow` where features are warped."""
        return self.refinement.map_layers()
