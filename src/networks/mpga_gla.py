"""MPGA/GLA: a coarse and a refinement network, each with a dilated branch and a masked attention branch."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from src.networks.interface import InpaintingNetwork, InpaintingOutput, to_channels_last
from src.networks.layers.coarse_to_fine import (
    DILATIONS,
    WITH_MASK,
    WITH_ONES_AND_HOLE,
    BlockFactory,
    ConvBlock,
    StageInput,
    decoder,
    dilated_body,
    elu_block,
    encoder,
    scaled,
    to_signed,
    to_unit,
    zero_pad,
)
from src.networks.layers.global_attention import (
    AttentionFactory,
    ConvolutionInstead,
    GlobalAttention,
    released_global_attention,
)
from src.networks.layers.global_local_attention import GlobalLocalAttention, ReleasedGlobalLocalAttention

SLOPE = 0.2  # of LeakyReLU; the paper gives none, the release's discriminator has 0.2

leaky = partial(nn.LeakyReLU, SLOPE)
leaky_block: BlockFactory = partial(
    ConvBlock, pad=zero_pad, activation=leaky, start=partial(nn.init.kaiming_normal_, a=SLOPE)
)
"""A convolution with LeakyReLU. Where the paper is silent, as the release: zero padding."""


def convolution_instead(channels: int) -> ConvolutionInstead:
    """Build the replacement of MPGA or GLA in the ablations (Sec. 4.3): a 3x3 convolution with LeakyReLU."""
    return ConvolutionInstead(channels, leaky_block)


class PastedInputs:
    """Inputs of both stages: image and mask; for the refinement, the coarse estimate is pasted into the hole.

    Departs from Sec. 3.2.1 as printed (`PrintedInputs`), as the release: a refinement that gets only an estimate of the
    known pixels scores below the coarse result.
    """

    stage: StageInput = WITH_MASK

    def refinement_image(self, image: Tensor, mask: Tensor, estimate: Tensor) -> Tensor:
        """Return the refinement's image from image and coarse estimate (B, 3, H, W) in [-1, 1]; mask (B, 1, H, W)."""
        return mask * image + (1 - mask) * estimate


class PrintedInputs(PastedInputs):
    """Image and mask; for the refinement, the whole coarse estimate and the mask (Secs. 3.1.1 and 3.2.1)."""

    def refinement_image(self, image: Tensor, mask: Tensor, estimate: Tensor) -> Tensor:
        """Return the coarse estimate."""
        return estimate


class ReleasedInputs(PastedInputs):
    """As `PastedInputs`, with channels of ones and of the hole instead of the mask."""

    stage = WITH_ONES_AND_HOLE


class TwoBranchNetwork(nn.Module):
    """One stage: a regular and an attention branch, concatenated and decoded.

    Source: MPGA/GLA, Sensors 2020, 20, 3204, Tables A1 and A2, which differ only in the attention.
    Departs from the tables, as the release: two layers of each branch have stride 2 (the tables print three and four,
    but the decoder upsamples twice), and six convolutions precede the attention, as in Sec. 3.1.2, where the tables
    list five.
    Departs from the tables, as the release: no LeakyReLU after the last convolution, whose output is clamped to
    [-1, 1]; with it, dark values would have to be five times as far from 0 as bright ones.
    Arguments as for `MPGAGLA`.
    """

    def __init__(
        self,
        in_channels: int,
        width: float,
        attention: AttentionFactory,
        block: BlockFactory,
        before_attention: Callable[[], nn.Module],
        dilations: Sequence[int],
    ) -> None:
        super().__init__()
        c128 = scaled(128, width)
        regular, attending = (32, 32, 64, 64, 128, 128), (32, 32, 64, 128, 128, 128)
        self.regular = nn.Sequential(
            *encoder(in_channels, regular, width, block, block), dilated_body(c128, block, dilations)
        )
        last = partial(block, activation=before_attention)
        self.before_attention = encoder(in_channels, attending, width, block, last)
        self.attention = attention(c128)
        self.after_attention = nn.Sequential(block(c128, c128), block(c128, c128))
        self.decoder = decoder(2 * c128, width, block)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Predict (B, 3, H, W) in [-1, 1] from x (B, in_channels, H, W) and mask (B, 1, H, W), 1 = known."""
        attended = self.after_attention(self.attention(self.before_attention(x), mask))
        decoded: Tensor = self.decoder(torch.cat([self.regular(x), attended], dim=1))
        return decoded


class MPGAGLA(InpaintingNetwork):
    """Image inpainting with mask pruning-based global attention and global and local attention.

    I_coarse = coarse network of (I_in, M), with MPGA
    I_rec = refinement network of (M I_in + (1 - M) I_coarse, M), with GLA
    Source: MPGA/GLA, Sensors 2020, 20, 3204, Secs. 3.1 and 3.2, Tables A1 and A2.
    Where the paper is silent, as the release: the hole of I_in is 0 in [-1, 1].

    Args:
        width: factor of all channels in the tables (at least 4 are kept).
        coarse_attention, refinement_attention: make MPGA and GLA from the number of channels; `convolution_instead`
            for the ablations.
        block: makes a convolution with its activation.
        before_attention: makes the activation before the attention modules.
        inputs: makes the inputs of the stages: `PastedInputs`, or `PrintedInputs` for Sec. 3.2.1 as printed.
        dilations: dilations of both stages, in cells of 4x4 pixels.
    """

    stride = 4

    def __init__(
        self,
        width: float = 1.0,
        coarse_attention: AttentionFactory = GlobalAttention,
        refinement_attention: AttentionFactory = GlobalLocalAttention,
        block: BlockFactory = leaky_block,
        before_attention: Callable[[], nn.Module] = leaky,
        inputs: Callable[[], PastedInputs] = PastedInputs,
        dilations: Sequence[int] = DILATIONS,
    ) -> None:
        super().__init__()
        self.inputs = inputs()
        self.coarse, self.refinement = (
            TwoBranchNetwork(self.inputs.stage.channels, width, attention, block, before_attention, dilations)
            for attention in (coarse_attention, refinement_attention)
        )
        to_channels_last(self)

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole in two stages; `edges` are ignored."""
        signed = to_signed(image) * mask
        join = self.inputs.stage.join
        coarse = self.coarse(join(signed, mask), mask)
        prediction = self.refinement(join(self.inputs.refinement_image(signed, mask, coarse), mask), mask)
        return InpaintingOutput(to_unit(prediction), to_unit(coarse))

    def map_layers(self) -> dict[str, nn.Module]:
        """Return the attention scores `coarse_global`, `refinement_global` and `refinement_local`."""
        stages = {"coarse": self.coarse, "refinement": self.refinement}
        return {
            f"{stage}_{name}": layer
            for stage, network in stages.items()
            for name, layer in network.attention.score_layers().items()
        }

    def attention_weights(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return all maps; those of global attention, which have one channel per query, are transposed."""
        return {
            name: scores.flatten(2).transpose(1, 2).reshape(scores.shape) if name.endswith("_global") else scores
            for name, scores in maps.items()
        }

    def checkpointed_parts(self) -> Sequence[nn.Module]:
        """Return the branches, the attention and the decoder of both stages."""
        return [part for stage in (self.coarse, self.refinement) for part in stage.children()]


def released_mpga_gla(
    width: float = 1.0,
    coarse_attention: AttentionFactory = released_global_attention,
    refinement_attention: AttentionFactory = ReleasedGlobalLocalAttention,
    dilations: Sequence[int] = DILATIONS,
) -> MPGAGLA:
    """Build MPGA/GLA as in the authors' release.

    Departs from the paper, as the release: ELU, and ReLU before the attention; five input channels; known pixels are
    pasted into the coarse estimate; and see `released_global_attention` and `ReleasedGlobalLocalAttention`.
    """
    return MPGAGLA(width, coarse_attention, refinement_attention, elu_block, nn.ReLU, ReleasedInputs, dilations)
