"""MPGA/GLA: a coarse and a refining network, each of a dilated branch and of a branch with masked attention."""

from abc import ABC, abstractmethod
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
    convolution,
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

SLOPE = 0.2  # of LeakyReLU, which the paper doesn't print: the release's, of its discriminator


leaky = partial(nn.LeakyReLU, SLOPE)
leaky_block: BlockFactory = partial(
    convolution, pad=zero_pad, activation=leaky, start=partial(nn.init.kaiming_normal_, a=SLOPE)
)
"""Where the paper is silent: padded by zeros, as the release."""


def convolution_instead(channels: int) -> ConvolutionInstead:
    """Without MPGA, without GLA (Sec. 4.3): a 3x3 convolution with LeakyReLU in the module's place."""
    return ConvolutionInstead(channels, leaky_block)


class StageInputs(ABC):
    """What the two stages see.

    Attributes:
        channels: of what both methods return.
    """

    channels: int

    @abstractmethod
    def coarse(self, image: Tensor, mask: Tensor) -> Tensor:
        """From image (B, 3, H, W) in [-1, 1], 0 in the hole, and mask (B, 1, H, W): (B, channels, H, W)."""

    @abstractmethod
    def refinement(self, image: Tensor, mask: Tensor, estimate: Tensor) -> Tensor:
        """The same with the coarse estimate (B, 3, H, W) in [-1, 1]."""


class PastedInputs(StageInputs):
    """Image and mask; then the inpainted image, with the coarse estimate in the hole alone, and mask.

    Departs from the letter of Sec. 3.2.1, `PrintedInputs`, as the release: a refinement that sees only the coarse
    estimate of the known pixels ends below the coarse estimate.
    """

    channels = WITH_MASK.channels

    def coarse(self, image: Tensor, mask: Tensor) -> Tensor:
        """I_in and M."""
        return WITH_MASK.of(image, mask)

    def refinement(self, image: Tensor, mask: Tensor, estimate: Tensor) -> Tensor:
        """I_in with I_coarse in the hole, and M."""
        return WITH_MASK.of(mask * image + (1 - mask) * estimate, mask)


class PrintedInputs(StageInputs):
    """Image and mask; then coarse estimate, known pixels too, and mask (Secs. 3.1.1 and 3.2.1)."""

    channels = WITH_MASK.channels

    def coarse(self, image: Tensor, mask: Tensor) -> Tensor:
        """I_in and M."""
        return WITH_MASK.of(image, mask)

    def refinement(self, image: Tensor, mask: Tensor, estimate: Tensor) -> Tensor:
        """I_coarse and M."""
        return WITH_MASK.of(estimate, mask)


class ReleasedInputs(StageInputs):
    """Image, ones and hole; then the same with the coarse estimate pasted into the hole."""

    channels = WITH_ONES_AND_HOLE.channels

    def coarse(self, image: Tensor, mask: Tensor) -> Tensor:
        """The image, 1 and 1 - M."""
        return WITH_ONES_AND_HOLE.of(image, mask)

    def refinement(self, image: Tensor, mask: Tensor, estimate: Tensor) -> Tensor:
        """The completed image, 1 and 1 - M."""
        return self.coarse(mask * image + (1 - mask) * estimate, mask)


class TwoBranchNetwork(nn.Module):
    """One stage: regular and attention branch side by side, concatenated, and decoded.

    Source: MPGA/GLA, Sensors 2020, 20, 3204, Tables A1 and A2, which differ in the attention alone.
    Departs from the tables, as the release: two layers of each branch have stride 2 (as printed there would be three
    and four, but the decoder enlarges twice), and the attention follows six convolutions, as Sec. 3.1.2 says, where
    the tables list five.
    Departs from the tables, as the release: no LeakyReLU after the last convolution, which is clamped to [-1, 1]; a
    dark tone would have to be five times as far from 0 as a bright one.

    Args:
        in_channels: of what the stage sees.
        width: multiplies the tables' channels (at least 4 are kept).
        attention: makes the module.
        block: makes a convolution with its activation.
        before_attention: makes the activation of the convolution before the module.
        dilations: of the regular branch's dilated body, in cells of 4x4 pixels.
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
        c128, c64, c32 = (scaled(channels, width) for channels in (128, 64, 32))
        self.regular = nn.Sequential(
            *encoder(in_channels, (c32, c32, c64, c64, c128, c128), block, block), dilated_body(c128, block, dilations)
        )
        last = partial(block, activation=before_attention)
        self.before_attention = encoder(in_channels, (c32, c32, c64, c128, c128, c128), block, last)
        self.attention = attention(c128)
        self.after_attention = nn.Sequential(block(c128, c128), block(c128, c128))
        self.decoder = decoder(2 * c128, width, block)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """From x (B, in_channels, H, W) and mask (B, 1, H, W), 1 = known, to (B, 3, H, W) in [-1, 1]."""
        attended = self.after_attention(self.attention(self.before_attention(x), mask))
        decoded: Tensor = self.decoder(torch.cat([self.regular(x), attended], dim=1))
        return decoded


class MPGAGLA(InpaintingNetwork):
    """Image inpainting with mask pruning-based global attention and global and local attention.

    I_coarse = coarse network of (I_in, M), with MPGA
    I_rec = refinement network of (M I_in + (1 - M) I_coarse, M), with GLA
    Source: MPGA/GLA, Sensors 2020, 20, 3204, Secs. 3.1 and 3.2, Tables A1 and A2.
    Where the paper is silent: the hole of I_in is 0 in [-1, 1], as the release.

    Args:
        width: multiplies all channels of the tables (at least 4 are kept).
        coarse_attention, refinement_attention: given the channels, make MPGA and GLA; `convolution_instead`
            for the ablations.
        block: makes a convolution with its activation.
        before_attention: makes the activation before the attention modules.
        inputs: makes what the two stages see: `PastedInputs`, or `PrintedInputs` for the letter of Sec. 3.2.1.
        dilations: of each stage's dilated body, in cells of 4x4 pixels.
    """

    stride = 4

    def __init__(
        self,
        width: float = 1.0,
        coarse_attention: AttentionFactory = GlobalAttention,
        refinement_attention: AttentionFactory = GlobalLocalAttention,
        block: BlockFactory = leaky_block,
        before_attention: Callable[[], nn.Module] = leaky,
        inputs: Callable[[], StageInputs] = PastedInputs,
        dilations: Sequence[int] = DILATIONS,
    ) -> None:
        super().__init__()
        self.inputs = inputs()
        self.coarse, self.refinement = (
            TwoBranchNetwork(self.inputs.channels, width, attention, block, before_attention, dilations)
            for attention in (coarse_attention, refinement_attention)
        )
        to_channels_last(self)

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole in two stages; edges are not used."""
        signed = to_signed(image) * mask
        coarse = self.coarse(self.inputs.coarse(signed, mask), mask)
        prediction = self.refinement(self.inputs.refinement(signed, mask, coarse), mask)
        return InpaintingOutput(to_unit(prediction), to_unit(coarse))

    def map_layers(self) -> dict[str, nn.Module]:
        """Attention scores: `coarse_global`, `refinement_global` and `refinement_local`."""
        stages = {"coarse": self.coarse, "refinement": self.refinement}
        return {
            f"{stage}_{name}": layer
            for stage, network in stages.items()
            for name, layer in network.attention.score_layers().items()
        }

    def attention_weights(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All maps; those of global attention have a channel for each query, and are transposed."""
        return {name: _by_key(scores) if name.endswith("_global") else scores for name, scores in maps.items()}

    def checkpointed_parts(self) -> Sequence[nn.Module]:
        """Return the branches, the attention and the decoder of both stages."""
        return [part for stage in (self.coarse, self.refinement) for part in stage.children()]


def _by_key(scores: Tensor) -> Tensor:
    """From (B, queries, h, w), the weights of the keys, to (B, keys, h, w), those of the queries' keys."""
    return scores.flatten(2).transpose(1, 2).reshape(scores.shape)


def released_mpga_gla(
    width: float = 1.0,
    coarse_attention: AttentionFactory = released_global_attention,
    refinement_attention: AttentionFactory = ReleasedGlobalLocalAttention,
    dilations: Sequence[int] = DILATIONS,
) -> MPGAGLA:
    """The authors' release, built from the same parts.

    Departs from the paper, as the release: ELU, but ReLU before the attention; five input channels; known pixels are
    pasted into the coarse estimate; and what `released_global_attention` and `ReleasedGlobalLocalAttention` say.
    """
    return MPGAGLA(width, coarse_attention, refinement_attention, elu_block, nn.ReLU, ReleasedInputs, dilations)
