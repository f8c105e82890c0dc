"""DeepFill v2 (Yu et al., ICCV 2019): the two stages of contextual attention with gated convolutions."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.contextual_attention import (
    RELEASED,
    CoarseToFine,
    EncoderDecoder,
    Guide,
    TwoBranch,
    without_edges,
)
from src.networks.layers.coarse_to_fine import (
    DILATIONS,
    WITH_ONES_AND_HOLE,
    BlockFactory,
    ConvBlock,
    Pad,
    StageInput,
    zero_pad,
)
from src.networks.layers.contextual_attention import ContextualAttention, FeatureAttention
from src.networks.layers.released_contextual_attention import (
    ALIGNED_CELLS,
    FIRST_CELLS,
    ReleasedContextualAttention,
    Sampling,
    clamped_norms,
    fuse,
)

THINNER = 0.75  # channels of DeepFill v2 over those of contextual attention: 24, 48 and 96


class Gate(nn.Module):
    """O = phi(first half of the channels) * sigmoid(second half).

    Source: Yu et al., ICCV 2019, arXiv:1806.03589, Sec. 3.1, "Gated Convolutions", with the features first, as the
    release.

    Args:
        activation: makes phi.
    """

    def __init__(self, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Gate (B, 2 C, H, W) to (B, C, H, W)."""
        features, gates = x.chunk(2, dim=1)
        gated: Tensor = self.activation(features) * gates.sigmoid()
        return gated


def doubled_normal(weight: Tensor) -> Tensor:
    """Fill with N(0, 4 / inputs per output): a gate is near 1/2 at first, so filters have twice the usual scale."""
    return nn.init.normal_(weight, std=2 / math.sqrt(weight[0].numel()))


def same_pad(x: Tensor, padding: int) -> Tensor:
    """Pad for a convolution of stride 2 as TensorFlow does: one row and column less above and left, for even sizes.

    Shapes:
        x (B, C, H, W), filters of 2 padding + 1. Returns (B, C, H + 2 padding - 1, ...), or + 2 padding for odd sizes.
    """
    total_rows, total_columns = (2 * padding - 1 + side % 2 for side in x.shape[-2:])
    left, top = total_columns // 2, total_rows // 2
    return F.pad(x, (left, total_columns - left, top, total_rows - top))


def gated_convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    stride: int = 1,
    dilation: int = 1,
    *,
    activation: Callable[[], nn.Module] = nn.ELU,
    strided_pad: Pad = zero_pad,
) -> ConvBlock:
    """Build a gated convolution, or a plain one if `activation` is nn.Identity, as in the last layer of a stage.

    Where the paper is silent, as the release: one convolution computes features and gates; ELU; zero padding.

    Args:
        strided_pad: pads for a stride of 2: `zero_pad`, or `same_pad` for weights trained in TensorFlow.
    """
    if activation is nn.Identity:
        return ConvBlock(in_channels, out_channels, kernel_size, stride, dilation, pad=zero_pad, activation=activation)
    return ConvBlock(
        in_channels,
        2 * out_channels,
        kernel_size,
        stride,
        dilation,
        pad=zero_pad if stride == 1 else strided_pad,
        activation=partial(Gate, activation),
        start=doubled_normal,
    )


def _image_only(image: Tensor, mask: Tensor) -> Tensor:
    return image


IMAGE_ONLY = StageInput(3, _image_only)
"""Input of the second stage in the release: the known pixels with the coarse result in the hole."""

WITH_EDGES = StageInput(1 + WITH_ONES_AND_HOLE.channels, WITH_ONES_AND_HOLE.join)
"""Input of the first stage with edges in a fourth channel of the image."""


def gated_encoder_decoder(
    width: float = 1.0,
    dilations: Sequence[int] = DILATIONS,
    block: BlockFactory = gated_convolution,
    inputs: StageInput = WITH_ONES_AND_HOLE,
) -> EncoderDecoder:
    """Build the first stage: channels 24, 48 and 96, and tanh at the end."""
    return EncoderDecoder(THINNER * width, block, inputs, dilations, nn.Tanh)


def gated_two_branch(
    width: float = 1.0,
    dilations: Sequence[int] = DILATIONS,
    attention: Callable[[int], FeatureAttention] = ContextualAttention,
    block: BlockFactory = gated_convolution,
) -> TwoBranch:
    """Build the second stage, with a dilated branch and one with contextual attention.

    Where the paper is silent, as the release: the mask is no input; ReLU before the attention.
    """
    return TwoBranch(
        THINNER * width,
        attention,
        block,
        partial(block, activation=nn.ReLU),
        IMAGE_ONLY,
        channels=RELEASED,
        dilations=dilations,
        bound=nn.Tanh,
    )


def deepfill_v2(
    width: float = 1.0,
    attention: Callable[[int], FeatureAttention] = ContextualAttention,
    dilations: Sequence[int] = DILATIONS,
    block: BlockFactory = gated_convolution,
    inputs: StageInput = WITH_ONES_AND_HOLE,
    guide: Guide = without_edges,
) -> CoarseToFine:
    """Build DeepFill v2.

    coarse = G_1(z, 1, 1 - m);  x' = G_2(z + coarse * (1 - m));  z = x * m;  x, coarse and x' in [-1, 1]
    Source: Yu et al., ICCV 2019, arXiv:1806.03589, Sec. 3.3, "Inpainting Network Architecture"; the layers, which the
    paper does not list, as in the release.
    The attention is the paper's reading of contextual attention, `ContextualAttention`, not the release's.

    Args:
        width: factor of all channel counts.
        attention: makes the attention layer from its number of channels.
        dilations: dilations of both stages, in cells of 4x4 pixels.
        block: makes a gated convolution.
        inputs, guide: input of the first stage; see `edge_guided_deepfill_v2`.
    """
    return CoarseToFine(
        width,
        partial(gated_two_branch, attention=attention, block=block),
        partial(gated_encoder_decoder, block=block, inputs=inputs),
        dilations,
        guide,
    )


def with_edges(known: Tensor, edges: Tensor | None) -> Tensor:
    """Return the known pixels and the edges, 0 if there are none, (B, 4, H, W)."""
    return torch.cat([known, torch.zeros_like(known[:, :1]) if edges is None else edges.to(known)], dim=1)


def edge_guided_deepfill_v2(
    width: float = 1.0,
    attention: Callable[[int], FeatureAttention] = ContextualAttention,
    dilations: Sequence[int] = DILATIONS,
) -> CoarseToFine:
    """Build DeepFill v2 with a sketch of the whole image as a further channel of the first stage's input.

    Source: Yu et al., ICCV 2019, Sec. 3.5, "Extension to user-guided image inpainting". Edge-LBAM's DFv2+ gets MECNet's
    edges as the sketch (Sec. 4.2). Departs from the paper: the discriminator does not see the sketch.
    """
    network = deepfill_v2(width, attention, dilations, inputs=WITH_EDGES, guide=with_edges)
    network.takes_edges = True
    return network


def released_attention(
    channels: int,
    scale: float = 10.0,
    downscale: int = 2,
    sample: Sampling = ALIGNED_CELLS,
    propagate: Callable[[Tensor], Tensor] = fuse,
) -> ReleasedContextualAttention:
    """Build the attention of the release: contextual attention's, with other norms of patches.

    Departs from the authors' code: each sample has its own mask, and the mask is reduced in one step, as in the PyTorch
    port; the authors reduce it by 4, then by 2.

    Args:
        propagate: `fuse`, as in the authors' code; `unfused`, as in the port by default.
    """
    return ReleasedContextualAttention(channels, scale, downscale, sample, clamped_norms, propagate)


def released_deepfill_v2(
    width: float = 1.0,
    attention: Callable[[int], FeatureAttention] = released_attention,
    dilations: Sequence[int] = DILATIONS,
) -> CoarseToFine:
    """Build DeepFill v2 for weights converted from the authors' TensorFlow files: padding and sampling as there."""
    return deepfill_v2(width, attention, dilations, partial(gated_convolution, strided_pad=same_pad))


released_attention_pt = partial(released_attention, sample=FIRST_CELLS)


def released_deepfill_v2_pt(
    width: float = 1.0,
    attention: Callable[[int], FeatureAttention] = released_attention_pt,
    dilations: Sequence[int] = DILATIONS,
) -> CoarseToFine:
    """Build DeepFill v2 for weights that the author of the PyTorch port trained on: symmetric padding."""
    return deepfill_v2(width, attention, dilations)
