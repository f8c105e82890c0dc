"""LBAM: a U-Net whose features are weighted by learned forward and reverse attention maps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.layers.attention_map import AttentionMaps, learnable_maps, released_maps, released_reverse_maps
from src.networks.layers.canny import RELEASED_CANNY
from src.networks.layers.edge_guided_maps import require_edges
from src.networks.layers.filters import FilterInit, kaiming, upsampled_kaiming
from src.networks.layers.filters import small_normal as small_normal  # configs and checkpoints name it in this module
from src.networks.layers.released_edge_maps import released_edge_maps, released_reverse_edge_maps
from src.networks.ops.small_maps import SmallMapConv2d, SmallMapConvTranspose2d

MapsFactory = Callable[[Sequence[int]], AttentionMaps]
"""Makes the attention maps of one direction from the number of channels of each level."""


def group_norm(channels: int, groups: int = 8) -> nn.GroupNorm:
    """Return a norm that is independent of the batch, unlike batch norm; `groups` must divide `channels`."""
    return nn.GroupNorm(groups, channels)


@dataclass(frozen=True)
class ImageInputs:
    """Input of the first convolution of the image branch.

    Attributes:
        channels: number of channels that `join` returns.
        join: joins image (B, 3, H, W), 0 in the hole, mask and edges (B, 1, H, W) to (B, channels, H, W).
        takes_edges: whether edges are required; without them, `join` raises InputError.
    """

    channels: int
    join: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    takes_edges: bool = False


def _image_alone(image: Tensor, mask: Tensor, edges: Tensor | None) -> Tensor:
    return image


def _image_and_mask(image: Tensor, mask: Tensor, edges: Tensor | None) -> Tensor:
    return torch.cat([image, mask], dim=1)


def _image_mask_and_edges(image: Tensor, mask: Tensor, edges: Tensor | None) -> Tensor:
    return torch.cat([image, mask, require_edges(edges)], dim=1)


IMAGE_ALONE = ImageInputs(3, _image_alone)  # 256x256x3 in the supplement
IMAGE_AND_MASK = ImageInputs(4, _image_and_mask)  # LBAM's release
IMAGE_MASK_AND_EDGES = ImageInputs(5, _image_mask_and_edges, takes_edges=True)  # Edge-LBAM's release


def halved_tanh(x: Tensor) -> Tensor:
    """Map x to (0, 1) by (tanh + 1) / 2, as LBAM's release does."""
    return (x.tanh() + 1) / 2


def absolute_tanh(x: Tensor) -> Tensor:
    """Map x to [0, 1) by |tanh|, as Edge-LBAM's release does."""
    return x.tanh().abs()


def _activation(norm: nn.Module) -> nn.Sequential:
    """Norm and LeakyReLU. Without a norm, in-place LeakyReLU would overwrite the features that the decoder reuses."""
    return nn.Sequential(norm, nn.LeakyReLU(0.2, inplace=not isinstance(norm, nn.Identity)))


def _weighted(features: Tensor, attention: Tensor) -> Tensor:
    """Multiply features by attention, in place unless gradients or autocast need the original features."""
    if torch.is_grad_enabled() or features.dtype != attention.dtype:
        return features * attention
    return features.mul_(attention)


class LBAM(InpaintingNetwork):
    """Image inpainting with learnable bidirectional attention maps.

    Encoder layer l:  e_l = conv_l(x) * forward_l;  x = LeakyReLU(BN(e_l)), no BN in layer 1
    Decoder layer l:  x = LeakyReLU(BN(cat(deconv_l(x) * reverse_l, e_l)));  last: to_unit(deconv(x))
    Source: Xie et al., ICCV 2019, arXiv:1909.00968v3, supplement Table 2 (Table 4 of the arXiv version). The table has
    forward maps in all encoder layers, Sec. 3.4 in the first six. All filters: 4x4, stride 2, padding 1, no bias.
    Where the paper is silent, as the release (`released_lbam`): input in [0, 1], output (tanh + 1) / 2.
    Departs from paper and release: filters are initialised by `kaiming` and `upsampled_kaiming`, not from N(0, 0.02^2).
    With that, deep features have a standard deviation of 1e-5, which batch norm with its sqrt(eps) of 3e-3 does not
    scale up.

    In training mode, batch norm needs more than one value per channel in the deepest features (H / 2^levels).

    Args:
        width: factor of the channels 64, 128, 256, 512, 512 ... (at least 8 are kept).
        levels: number of encoder and of decoder layers; images are padded to multiples of 2^levels.
        forward_maps, reverse_maps: make the attention maps of a direction from the channels of each level.
        norm: makes the normalisation from the number of channels; partial(nn.GroupNorm, 8) suits small batches.
        start: initialises the filters of the encoder; the release's is `small_normal`.
        upsampling_start: initialises the filters of the decoder; the release's is `small_normal`.
        inputs: input of the image branch.
        to_unit: maps the output of the last layer to [0, 1].
    """

    def __init__(
        self,
        width: float = 1.0,
        levels: int = 7,
        forward_maps: MapsFactory = learnable_maps,
        reverse_maps: MapsFactory = learnable_maps,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        start: FilterInit = kaiming,
        upsampling_start: FilterInit = upsampled_kaiming,
        inputs: ImageInputs = IMAGE_ALONE,
        to_unit: Callable[[Tensor], Tensor] = halved_tanh,
    ) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels must be >= 2, got {levels}")
        self.stride = 2**levels
        channels = [max(8, round(width * min(64 * 2**level, 512))) for level in range(levels)]
        decoded = channels[-2::-1]  # output channels of the decoder layers, deep to shallow
        self.inputs, self.to_unit = inputs, to_unit
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
        for deconv in (*self.decoder_deconvs, self.to_image):  # each output uses 4 of the 16 positions of a filter
            upsampling_start(deconv.get_parameter("weight"), 4 * len(deconv.get_parameter("weight")))

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole. Raises InputError if edges are missing and `takes_edges` is true."""
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
        """Return the layers that the paper's Figs. 7 and 8 show; level 1 is the finest.

        `forward_1`, ... and `reverse_1`, ... are the attention maps (outputs of g_A), `forward_mask_1`, ... and
        `reverse_mask_1`, ... the updated masks (outputs of g_M). The features are those of layers 1 and 13; the latter
        has first the channels of the decoder, then those of encoder layer 1.
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
    """Build LBAM as in the authors' release, whose order of concatenation differs, which only permutes channels.

    Departs from the paper, as the release: no batch normalisation, the mask as a fourth image channel, clamped
    parameters of g_A with other initial values in the reverse direction.
    Departs from the release: filters are initialised by `kaiming` and `upsampled_kaiming`. Without batch norm, the
    release's N(0, 0.02^2) leaves the deepest layers a gradient of 1e-18.
    """
    return LBAM(width, levels, forward_maps, reverse_maps, nn.Identity, inputs=IMAGE_AND_MASK)


def released_edge_lbam_unet(
    width: float = 1.0,
    levels: int = 7,
    forward_maps: MapsFactory = released_edge_maps,
    reverse_maps: MapsFactory = released_reverse_edge_maps,
) -> LBAM:
    """Build the U-Net of Edge-LBAM as in the authors' release; it requires edges.

    Departs from the paper, as the release: mask and edges as image channels, |tanh| as output, and `ReleasedEdgeMaps`.
    Departs from the release: filters are initialised by `kaiming` and `upsampled_kaiming`.
    """
    unet = LBAM(width, levels, forward_maps, reverse_maps, inputs=IMAGE_MASK_AND_EDGES, to_unit=absolute_tanh)
    unet.canny = RELEASED_CANNY
    return unet
