"""Contextual attention (Yu et al., CVPR 2018): a coarse network and a refinement network with attention."""

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
    ConvBlock,
    StageInput,
    clip,
    decoder,
    dilated_body,
    elu_block,
    encoder,
    mirror_pad,
    pad_to_multiple,
    scaled,
    to_signed,
    to_unit,
)
from src.networks.layers.contextual_attention import ContextualAttention, FeatureAttention
from src.networks.layers.released_contextual_attention import ReleasedContextualAttention

CELL = 4  # pixels per feature cell in each direction, after two convolutions of stride 2

block: BlockFactory = partial(ConvBlock, pad=mirror_pad, activation=nn.ELU)
"""The convolution of the paper (Sec. 3): mirror padding, ELU, no batch normalisation."""

PRINTED = (32, 64, 64, 128, 128, 128)
"""Channels of the encoders: K5S1C32 - K3S2C64 - K3S1C64 - K3S2C128 - K3S1C128 - K3S1C128 (appendix D)."""

RELEASED = (32, 32, 64, 64, 128, 128), (32, 32, 64, 128, 128, 128)
"""Channels of the release's two encoders of the refinement network."""


class InpaintingStage(nn.Module, ABC):
    """A network from an image and its mask to an image."""

    @abstractmethod
    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Predict (B, 3, H, W) in [-1, 1] from image (B, 3, H, W) in [-1, 1] and mask (B, 1, H, W), 1 = known.

        H and W must be multiples of 4.
        """

    def map_layers(self) -> dict[str, nn.Module]:
        """Return the layers whose outputs are attention maps, by the name of the map."""
        return {}

    def checkpointed_parts(self) -> list[nn.Module]:
        """Return the parts that gradient checkpointing recomputes in the backward pass."""
        return list(self.children())


StageFactory = Callable[..., InpaintingStage]
"""Makes a stage from the factor of its channels and the keyword `dilations` of its dilated body."""


class EncoderDecoder(InpaintingStage):
    """The coarse network, and the refinement network of the two-stage baseline.

    Source: Yu et al., CVPR 2018, appendix D, "each encoder-decoder".

    Args:
        width: factor of the channels.
        block: makes a convolution with its activation.
        inputs: makes the input from image and mask.
        dilations: dilations of the dilated body, in cells of 4x4 pixels.
        bound: makes the last layer, which limits the image to [-1, 1].
    """

    def __init__(
        self,
        width: float = 1.0,
        block: BlockFactory = block,
        inputs: StageInput = WITH_MASK,
        dilations: Sequence[int] = DILATIONS,
        bound: Callable[[], nn.Module] = clip,
    ) -> None:
        super().__init__()
        c128 = scaled(128, width)
        self.inputs = inputs
        self.layers = nn.Sequential(
            encoder(inputs.channels, PRINTED, width, block, block),
            dilated_body(c128, block, dilations),
            decoder(c128, width, block, bound),
        )

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Predict an image; shapes as in `InpaintingStage`."""
        out: Tensor = self.layers(self.inputs.join(image, mask))
        return out

    def checkpointed_parts(self) -> list[nn.Module]:
        """Return the encoder, the dilated body and the decoder."""
        return list(self.layers)


class TwoBranch(InpaintingStage):
    """The refinement network: an encoder with dilated convolutions and one with attention share a decoder.

    Source: Yu et al., CVPR 2018, Sec. 4.2, Fig. 4 and appendix D, "Contextual attention branch".
    Departs from the release, as the paper does: ELU everywhere, also before the attention.

    Args:
        attention: makes the attention layer from its number of channels.
        before_attention: makes the convolution before the attention.
        channels: channels of the encoders of the dilated and of the attention branch.
        width, block, inputs, dilations, bound: as for `EncoderDecoder`.
    """

    def __init__(
        self,
        width: float = 1.0,
        attention: Callable[[int], FeatureAttention] = ContextualAttention,
        block: BlockFactory = block,
        before_attention: BlockFactory = block,
        inputs: StageInput = WITH_MASK,
        channels: tuple[Sequence[int], Sequence[int]] = (PRINTED, PRINTED),
        dilations: Sequence[int] = DILATIONS,
        bound: Callable[[], nn.Module] = clip,
    ) -> None:
        super().__init__()
        c128 = scaled(128, width)
        dilated, attending = channels
        self.inputs = inputs
        self.hallucinate = nn.Sequential(
            encoder(inputs.channels, dilated, width, block, block), dilated_body(c128, block, dilations)
        )
        self.before_attention = encoder(inputs.channels, attending, width, block, before_attention)
        self.attention = attention(c128)
        self.after_attention = nn.Sequential(block(c128, c128), block(c128, c128))
        self.decode = decoder(2 * c128, width, block, bound)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Predict an image; shapes as in `InpaintingStage`."""
        x = self.inputs.join(image, mask)
        features = self.before_attention(x)
        attended = self.after_attention(self.attention(features, features, self.attention.known_cells(mask, CELL)))
        out: Tensor = self.decode(torch.cat([self.hallucinate(x), attended], 1))
        return out

    def map_layers(self) -> dict[str, nn.Module]:
        """Return the maps of the attention layer."""
        return self.attention.map_layers()


class CoarseOnly(InpaintingNetwork):
    """The coarse network as an inpainting network of its own.

    x' = G(z, m), z = x * m;  x and x' in [-1, 1]
    Source: Yu et al., CVPR 2018, Sec. 4.2 and appendix D.
    Arguments as for `CoarseToFine`.
    """

    stride = 2 * CELL  # as `CoarseToFine`, so that both pad images alike

    def __init__(
        self, width: float = 1.0, coarse: StageFactory = EncoderDecoder, dilations: Sequence[int] = DILATIONS
    ) -> None:
        super().__init__()
        self.coarse = coarse(width, dilations=dilations)
        to_channels_last(self)

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole; `edges` are ignored."""
        return InpaintingOutput(to_unit(self.coarse(to_signed(image) * mask, mask)))


Guide = Callable[[Tensor, Tensor | None], Tensor]
"""Joins the known pixels (B, 3, H, W) in [-1, 1] and the edges (B, 1, H, W), or None, for the first stage."""


def without_edges(known: Tensor, edges: Tensor | None) -> Tensor:
    """Return the known pixels."""
    return known


class CoarseToFine(InpaintingNetwork):
    """Inpainting with contextual attention: a coarse prediction is pasted into the hole and refined.

    coarse = G_1(z, m);  x' = G_2(z + coarse * (1 - m), m);  z = x * m;  x, coarse and x' in [-1, 1]
    Source: Yu et al., CVPR 2018, arXiv:1801.07892, Secs. 3 and 4.2, appendix D. The input is z and m, four channels
    (Sec. 4.2 and Algorithm 1; Sec. 3 mentions white pixels in the hole, and the release adds a channel of ones).
    Where the paper is silent, as the release: the refinement network gets m, too.

    Args:
        width: factor of the channels.
        refinement: makes the second stage: `TwoBranch`, or `EncoderDecoder` for the paper's baseline.
        coarse: makes the first stage.
        dilations: dilations of both stages, in cells of 4x4 pixels.
        guide: joins the known pixels (B, 3, H, W) and the edges, or None, to the image that the first stage gets.
    """

    stride = 2 * CELL  # the attention halves the features once more

    def __init__(
        self,
        width: float = 1.0,
        refinement: StageFactory = TwoBranch,
        coarse: StageFactory = EncoderDecoder,
        dilations: Sequence[int] = DILATIONS,
        guide: Guide = without_edges,
    ) -> None:
        super().__init__()
        self.guide = guide
        self.coarse, self.refinement = (make(width, dilations=dilations) for make in (coarse, refinement))
        to_channels_last(self)

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole in two stages; `edges` are ignored without a `guide`."""
        known = to_signed(image) * mask
        coarse = self.coarse(self.guide(known, edges), mask)
        refined = self.refinement(known + coarse * (1 - mask), mask)
        return InpaintingOutput(to_unit(refined), coarse=to_unit(coarse))

    def complete_coarsely(self, image: Tensor, mask: Tensor) -> InpaintingOutput:
        """Fill the hole by the coarse stage only, as `prediction` and `coarse`; shapes as in `forward`."""
        height, width = image.shape[-2:]
        known = pad_to_multiple(torch.where(mask > 0, to_signed(image), 0.0), self.stride)
        coarse = self.coarse(self.guide(known, None), pad_to_multiple(mask, self.stride))
        coarse = to_unit(coarse)[..., :height, :width]
        return InpaintingOutput(coarse, coarse=coarse)

    def map_layers(self) -> dict[str, nn.Module]:
        """Return `attention`, the weights of the known patches, or `flow` if the attention is replaced by warping."""
        return self.refinement.map_layers()

    def checkpointed_parts(self) -> Sequence[nn.Module]:
        """Return the parts of both stages."""
        return [part for stage in (self.coarse, self.refinement) for part in stage.checkpointed_parts()]

    def attention_weights(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return `attention`, if the network has it."""
        return {name: scores for name, scores in maps.items() if name == "attention"}


def released_encoder_decoder(width: float = 1.0, dilations: Sequence[int] = DILATIONS) -> EncoderDecoder:
    """Build the coarse network of the release's PyTorch port: zero padding, channels of ones and hole, not the mask."""
    return EncoderDecoder(width, elu_block, WITH_ONES_AND_HOLE, dilations)


def released_two_branch(
    width: float = 1.0,
    attention: Callable[[int], FeatureAttention] = ReleasedContextualAttention,
    dilations: Sequence[int] = DILATIONS,
) -> TwoBranch:
    """Build the refinement network of the release's PyTorch port.

    Departs from the paper, as the release: see `released_encoder_decoder` and the attention layer; ReLU before the
    attention; fewer channels in the first layers of both branches, as in MPGA/GLA, which builds on it.
    """
    return TwoBranch(
        width,
        attention,
        elu_block,
        partial(elu_block, activation=nn.ReLU),
        WITH_ONES_AND_HOLE,
        channels=RELEASED,
        dilations=dilations,
    )


def released_contextual_attention(
    width: float = 1.0,
    attention: Callable[[int], FeatureAttention] = ReleasedContextualAttention,
    dilations: Sequence[int] = DILATIONS,
) -> CoarseToFine:
    """Build the network of the release's PyTorch port; the authors' own code is in TensorFlow."""
    refinement = partial(released_two_branch, attention=attention)
    return CoarseToFine(width, refinement, released_encoder_decoder, dilations)
