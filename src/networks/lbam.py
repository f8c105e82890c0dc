"""LBAM: a U-Net whose features are weighted by maps learned from the mask, forward and reverse."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.layers.attention_map import (
    AttentionMaps,
    learnable_maps,
    released_maps,
    released_reverse_maps,
)
from src.networks.layers.edge_guided_maps import require_edges
from src.networks.layers.released_edge_maps import released_edge_maps, released_reverse_edge_maps
from src.networks.ops.canny import RELEASED_CANNY
from src.networks.ops.small_maps import SmallMapConv2d, SmallMapConvTranspose2d

MapsFactory = Callable[[Sequence[int]], AttentionMaps]
"""Given the channels of each level, makes one direction's maps."""

FilterInit = Callable[[Tensor, int], Tensor]
"""Fills a layer's filters in place, given the number of input values that one output value depends on."""


def kaiming(filters: Tensor, window_values: int) -> Tensor:
    """Fill filters, in place, with N(0, 2 / ((1 + 0.2^2) window_values)): a signal keeps its strength.

    Source: He et al., ICCV 2015, arXiv:1502.01852, Eq. 15, with the slope 0.2 of this U-Net's LeakyReLU.
    """
    return nn.init.normal_(filters, std=(2 / ((1 + 0.2**2) * window_values)) ** 0.5)


def small_normal(filters: Tensor, window_values: int) -> Tensor:
    """Fill filters, in place, with N(0, 0.02^2), whatever their size: LBAM's release."""
    return nn.init.normal_(filters, std=0.02)


class ImageInputs(ABC):
    """What the first convolution of the image branch sees.

    Attributes:
        channels: of what `join` returns.
        takes_edges: whether it can't do without edges.
    """

    channels: int
    takes_edges: bool = False

    @abstractmethod
    def join(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> Tensor:
        """(B, channels, H, W) from image (B, 3, H, W), 0 in the hole, mask (B, 1, H, W) and edges (B, 1, H, W)."""


class ImageAlone(ImageInputs):
    """The image: the supplement's 256x256x3."""

    channels = 3

    def join(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> Tensor:
        """(B, 3, H, W)."""
        return image


class ImageAndMask(ImageInputs):
    """The image and the mask: LBAM's release."""

    channels = 4

    def join(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> Tensor:
        """(B, 4, H, W)."""
        return torch.cat([image, mask], dim=1)


class ImageMaskAndEdges(ImageInputs):
    """The image, the mask and the edges: Edge-LBAM's release."""

    channels = 5
    takes_edges = True

    def join(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> Tensor:
        """(B, 5, H, W).

        Raises:
            InputError: no edges.
        """
        return torch.cat([image, mask, require_edges(edges)], dim=1)


def halved_tanh(x: Tensor) -> Tensor:
    """(tanh + 1) / 2: any x to (0, 1); LBAM's release."""
    return (x.tanh() + 1) / 2


def absolute_tanh(x: Tensor) -> Tensor:
    """|tanh|: any x to [0, 1); Edge-LBAM's release."""
    return x.tanh().abs()


def _activation(norm: nn.Module) -> nn.Sequential:
    """Norm and LeakyReLU, in place behind a norm; without one that would overwrite what the decoder sees, too."""
    return nn.Sequential(norm, nn.LeakyReLU(0.2, inplace=not isinstance(norm, nn.Identity)))


def _weighted(features: Tensor, attention: Tensor) -> Tensor:
    """Features times attention, in place unless a gradient needs the features, or autocast made them less precise."""
    if torch.is_grad_enabled() or features.dtype != attention.dtype:
        return features * attention
    return features.mul_(attention)


class LBAM(InpaintingNetwork):
    """Image inpainting with learnable bidirectional attention maps.

    Encoder layer l:  e_l = conv_l(x) * forward_l;  x = LeakyReLU(BN(e_l)), no BN in layer 1
    Decoder layer l:  x = LeakyReLU(BN(cat(deconv_l(x) * reverse_l, e_l)));  last: to_unit(deconv(x))
    Source: Xie et al., ICCV 2019, arXiv:1909.00968v3, supplement Table 2 (Table 4 of the arXiv version): forward maps
    on all encoder layers, where Sec. 3.4 says the first six. All filters 4x4, stride 2, padding 1, no bias.
    Where the paper is silent, as the release: the image enters in [0, 1] and leaves as (tanh + 1) / 2. Departs from the
    release, as the paper does: there is batch normalisation, the image enters without the mask as a fourth channel, and
    g_A's numbers are not clamped; all of that is in `released_lbam`, but for the order of the concatenation, which only
    permutes channels.
    Departs from paper and release: filters start as `kaiming` does, not as N(0, 0.02^2), under which deep features have
    a standard deviation of 1e-5 that batch norm, with its sqrt(eps) of 3e-3, does not scale up.

    In training mode the deepest features (H / 2^levels) must hold more than one value a channel for batch norm.

    Args:
        width: multiplies the channels 64, 128, 256, 512, 512 ... (at least 8 are kept).
        levels: layers of the encoder, and of the decoder; 7 in the paper. Sizes are padded to multiples of 2^levels.
        forward_maps, reverse_maps: given the channels of each level, make that direction's maps.
        norm: given the channels, makes the normalisation: BN, nn.Identity for none, or for small batches group norm,
            functools.partial(nn.GroupNorm, 8).
        start: fills the filters; `small_normal` is the release's.
        inputs: makes what the image branch sees.
        to_unit: brings the last layer's output to [0, 1]; a plain function, as it learns nothing.
    """

    def __init__(
        self,
        width: float = 1.0,
        levels: int = 7,
        forward_maps: MapsFactory = learnable_maps,
        reverse_maps: MapsFactory = learnable_maps,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        start: FilterInit = kaiming,
        inputs: Callable[[], ImageInputs] = ImageAlone,
        to_unit: Callable[[Tensor], Tensor] = halved_tanh,
    ) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels must be at least 2, got {levels}")
        self.stride = 2**levels
        channels = [max(8, round(width * min(64 * 2**level, 512))) for level in range(levels)]
        decoded = channels[-2::-1]  # of the decoder layers, deep to shallow, before concatenation
        self.inputs, self.to_unit = inputs(), to_unit
        self.forward_maps, self.reverse_maps = forward_maps(channels), reverse_maps(channels[:-1])
        self.takes_edges = any(part.takes_edges for part in (self.inputs, self.forward_maps, self.reverse_maps))
        self.encoder_convs = nn.ModuleList(
            SmallMapConv2d(i, o, 4, stride=2, padding=1)
            for i, o in zip((self.inputs.channels, *channels[:-1]), channels, strict=True)
        )
        self.encoder_activations = nn.ModuleList(
            _activation(nn.Identity() if level == 0 else norm(c)) for level, c in enumerate(channels)
        )
        self.decoder_deconvs = nn.ModuleList(
            SmallMapConvTranspose2d(i, o)
            for i, o in zip((channels[-1], *(2 * c for c in decoded[:-1])), decoded, strict=True)
        )
        self.decoder_activations = nn.ModuleList(_activation(norm(2 * c)) for c in decoded)
        self.to_image = SmallMapConvTranspose2d(2 * channels[0], 3)
        for conv in self.encoder_convs:
            start(conv.get_parameter("weight"), conv.get_parameter("weight")[0].numel())
        for deconv in (*self.decoder_deconvs, self.to_image):  # an output sees 4 of the 16 places of a filter
            start(deconv.get_parameter("weight"), 4 * len(deconv.get_parameter("weight")))

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole; `edges` go to the inputs and the maps, of which LBAM's own do not use them.

        Raises:
            InputError: there are no edges, and `takes_edges`.
        """
        forward_attention = self.forward_maps(mask, edges)
        reverse_attention = self.reverse_maps(1 - mask, edges)
        x, skips = self.inputs.join(image, mask, edges), []
        for conv, activate, attention in zip(
            self.encoder_convs, self.encoder_activations, forward_attention, strict=True
        ):
            skips.append(_weighted(conv(x), attention))
            x = activate(skips[-1])
        for deconv, activate, attention, skip in zip(
            self.decoder_deconvs, self.decoder_activations, reverse_attention[::-1], skips[-2::-1], strict=True
        ):
            x = activate(torch.cat([_weighted(deconv(x), attention), skip], dim=1))
        return InpaintingOutput(self.to_unit(self.to_image(x)))

    def map_layers(self) -> dict[str, nn.Module]:
        """What the paper's Figs. 7 and 8 show, level 1 being the finest.

        `forward_1`, ... and `reverse_1`, ... are the attention maps, g_A's outputs; `forward_mask_1`, ... and
        `reverse_mask_1`, ... the updated masks, g_M's; `encoder_feature_1` is the first layer's feature and
        `decoder_feature_1` the 13th's (the last but one), behind its activation: the decoder's own channels first,
        then those of the encoder's layer 1.
        """
        layers = {
            "forward": self.forward_maps.attend,
            "reverse": self.reverse_maps.attend,
            "forward_mask": self.forward_maps.update,
            "reverse_mask": self.reverse_maps.update,
            "encoder_feature": self.encoder_activations[:1],
            "decoder_feature": self.decoder_activations[-1:],
        }
        return {f"{name}_{level}": layer for name, made in layers.items() for level, layer in enumerate(made, start=1)}


def released_lbam(
    width: float = 1.0,
    levels: int = 7,
    forward_maps: MapsFactory = released_maps,
    reverse_maps: MapsFactory = released_reverse_maps,
) -> LBAM:
    """LBAM's release (of its authors), built from the same parts.

    Departs from the paper, as the release: no batch normalisation; the mask is a fourth channel of the image; g_A's
    numbers are clamped, and start elsewhere in reverse.
    Departs from the release: filters start so that a signal keeps its strength. Its own, N(0, 0.02^2), leave the
    deepest layers a gradient of 1e-18 where no batch norm scales it up; after 200 steps at mini scale that was 1 dB
    behind (one run each).
    """
    return LBAM(width, levels, forward_maps, reverse_maps, nn.Identity, inputs=ImageAndMask)


def released_edge_lbam_unet(
    width: float = 1.0,
    levels: int = 7,
    forward_maps: MapsFactory = released_edge_maps,
    reverse_maps: MapsFactory = released_reverse_edge_maps,
) -> LBAM:
    """The U-Net of Edge-LBAM's release (of its authors), which must be given edges.

    Departs from the paper, as the release: mask and edges are a fourth and a fifth channel of the image; |tanh| brings
    the output to [0, 1], so that black is where the last layer is 0 and turns round; and what `ReleasedEdgeMaps` says.
    Departs from the release: filters start as LBAM's here do.
    """
    unet = LBAM(width, levels, forward_maps, reverse_maps, inputs=ImageMaskAndEdges, to_unit=absolute_tanh)
    unet.canny = RELEASED_CANNY
    return unet
