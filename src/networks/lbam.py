"""LBAM: a U-Net whose features are weighted by maps learned from the mask, forward and reverse."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.layers.attention_map import AttentionMaps, learnable_maps


class LBAM(InpaintingNetwork):
    """Image inpainting with learnable bidirectional attention maps.

    Encoder layer l:  e_l = conv_l(x) * forward_l;  x = LeakyReLU(BN(e_l)), no BN in layer 1
    Decoder layer l:  x = LeakyReLU(BN(cat(deconv_l(x) * reverse_l, e_l)));  last: (tanh(deconv(x)) + 1) / 2
    Source: Xie et al., ICCV 2019, arXiv:1909.00968v3, supplement Table 2 (Table 4 of the arXiv version): forward maps
    on all encoder layers, where Sec. 3.4 says the first six. All filters 4x4, stride 2, padding 1, no bias.
    Where the paper is silent, as the release: filters start as N(0, 0.02^2); the image enters in [0, 1] and leaves as
    (tanh + 1) / 2. Departs from the release, as the paper does: there is batch normalisation, the image enters without
    the mask as a fourth channel, and g_A's numbers are neither clamped nor started differently in reverse.

    In training mode the deepest features (H / 2^levels) must hold more than one value a channel for batch norm.

    Args:
        width: multiplies the channels 64, 128, 256, 512, 512 ... (at least 8 are kept).
        levels: layers of the encoder, and of the decoder; 7 in the paper. Sizes are padded to multiples of 2^levels.
        forward_maps, reverse_maps: given the channels of each level, make that direction's maps.
    """

    def __init__(
        self,
        width: float = 1.0,
        levels: int = 7,
        forward_maps: Callable[[Sequence[int]], AttentionMaps] = learnable_maps,
        reverse_maps: Callable[[Sequence[int]], AttentionMaps] = learnable_maps,
    ) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels must be at least 2, got {levels}")
        self.stride = 2**levels
        channels = [max(8, round(width * min(64 * 2**level, 512))) for level in range(levels)]
        decoded = channels[-2::-1]  # of the decoder layers, deep to shallow, before concatenation
        self.forward_maps, self.reverse_maps = forward_maps(channels), reverse_maps(channels[:-1])
        self.encoder_convs = nn.ModuleList(
            nn.Conv2d(i, o, 4, stride=2, padding=1, bias=False)
            for i, o in zip((3, *channels[:-1]), channels, strict=True)
        )
        self.encoder_activations = nn.ModuleList(
            nn.Sequential(nn.Identity() if level == 0 else nn.BatchNorm2d(c), nn.LeakyReLU(0.2))
            for level, c in enumerate(channels)
        )
        self.decoder_deconvs = nn.ModuleList(
            nn.ConvTranspose2d(i, o, 4, stride=2, padding=1, bias=False)
            for i, o in zip((channels[-1], *(2 * c for c in decoded[:-1])), decoded, strict=True)
        )
        self.decoder_activations = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(2 * c), nn.LeakyReLU(0.2)) for c in decoded
        )
        self.to_image = nn.ConvTranspose2d(2 * channels[0], 3, 4, stride=2, padding=1, bias=False)
        for layer in (*self.encoder_convs, *self.decoder_deconvs, self.to_image):
            nn.init.normal_(layer.weight, std=0.02)

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole; `edges` go to the maps, of which the paper's own do not use them."""
        forward_attention = self.forward_maps(mask, edges)
        reverse_attention = self.reverse_maps(1 - mask, edges)
        x, skips = image, []
        for conv, activate, attention in zip(
            self.encoder_convs, self.encoder_activations, forward_attention, strict=True
        ):
            skips.append(conv(x) * attention)
            x = activate(skips[-1])
        for deconv, activate, attention, skip in zip(
            self.decoder_deconvs, self.decoder_activations, reverse_attention[::-1], skips[-2::-1], strict=True
        ):
            x = activate(torch.cat([deconv(x) * attention, skip], dim=1))
        return InpaintingOutput((self.to_image(x).tanh() + 1) / 2)

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
