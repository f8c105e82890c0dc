"""DFNet: a U-Net whose fusion blocks blend known pixels and completion at several scales."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.layers.coarse_to_fine import scaled


class FusionBlock(nn.Module):
    """Blend an image from the features with the known pixels, by a learned opacity for each pixel and channel.

    raw = s(conv1x1(x));  alpha = s(A(cat(known, raw)));  result = alpha raw + (1 - alpha) known      s the sigmoid

    Source: Hong et al., ACM MM 2019, arXiv:1904.08060, Sec. 3.1; the layers of A (1x1, 3x3, 1x1; batch norm and
    LeakyReLU after the first two) are the release's.

    Args:
        in_channels: channels of x.
        channels: channels within A.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.to_image = nn.Sequential(nn.Conv2d(in_channels, 3, 1), nn.Sigmoid())
        self.alpha = nn.Sequential(
            nn.Conv2d(6, channels, 1),
            nn.BatchNorm2d(channels),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            nn.LeakyReLU(0.2),
            nn.Conv2d(3, 3, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Blend features x (B, in_channels, h, w) and an image (B, 3, H, W), 0 in the hole, to (B, 3, h, w) in [0, 1].

        The image is resized bilinearly, without antialiasing, as in the release.
        """
        known = F.interpolate(image, size=x.shape[-2:], mode="bilinear", align_corners=False)
        raw = self.to_image(x)
        alpha = self.alpha(torch.cat([known, raw], dim=1))
        result: Tensor = alpha * raw + (1 - alpha) * known
        return result


class DFNet(InpaintingNetwork):
    """Deep fusion network: a U-Net that completes the image at several scales.

    Encoder layer l:  x_l = ReLU(BN(conv_l(x_l-1))), stride 2, kernels 7, 5, 5, 3, 3 ...; layer 0 is linear
    Decoder layer l:  y_l = LeakyReLU(BN(conv3x3(cat(up(y_l+1), x_l-1)))), up by nearest neighbours, x_-1 the input
    Fusion at level l:  result_l = `FusionBlock`(y_l, image), at 1 / 2^l of the image size

    Source: Hong et al., "Deep Fusion Network for Image Completion", ACM MM 2019, arXiv:1904.08060, Sec. 3, Fig. 2.
    Where the paper is silent, as the release: 8 levels, the deepest features of a 256x256 image are 1x1; one more row
    and column of zeros at the right and bottom than at the left and top; fusion at the six finest levels; the network
    reads and writes blue, green, red, as its weights require.

    In training mode, batch norm needs more than one value per channel in the deepest features (H / 2^levels).

    Args:
        width: factor of the channels 64, 128, 256, 512, 512 ... (at least 4 are kept).
        levels: number of encoder layers and of decoder layers. Images are padded to multiples of 2^levels.
        fused_levels: number of the finest levels with a fusion block; at most `levels`.
    """

    def __init__(self, width: float = 1.0, levels: int = 8, fused_levels: int = 6) -> None:
        super().__init__()
        if min(levels, fused_levels) < 1:
            raise ValueError(f"levels and fused_levels must be >= 1, got {levels} and {fused_levels}")
        self.stride = 2**levels
        channels = [4, *(scaled(min(64 * 2**level, 512), width) for level in range(levels))]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()  # finest first
        for level, (outer, inner) in enumerate(pairwise(channels)):
            self.encoder.append(_encoder_layer(outer, inner, level))
            self.decoder.append(_decoder_layer(inner + outer, outer))
        self.fusion = nn.ModuleList(
            FusionBlock(outer, scaled(32, width)) for outer in channels[: min(fused_levels, levels)]
        )

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole; `edges` are ignored. `output.parts` has the results of level 1, 2, ... as `level_1`, ..."""
        bgr = image.flip(1)
        features = [torch.cat([bgr, mask], dim=1)]
        for layer in self.encoder:
            features.append(layer(features[-1]))
        x, results = features.pop(), {}
        for level in reversed(range(len(self.decoder))):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.decoder[level](torch.cat([x, features.pop()], dim=1))
            if level < len(self.fusion):
                results[f"level_{level}"] = self.fusion[level](x, bgr).flip(1)
        return InpaintingOutput(results.pop("level_0"), parts=results)

    def map_layers(self) -> dict[str, nn.Module]:
        """Return the opacities of the fusion blocks, `alpha_1`, ... from the finest level; blue, green, red."""
        return {f"alpha_{level}": block.get_submodule("alpha") for level, block in enumerate(self.fusion, start=1)}


def _encoder_layer(in_channels: int, out_channels: int, level: int) -> nn.Sequential:
    kernel_size = 7 if level == 0 else 5 if level < 3 else 3
    before = (kernel_size - 2) // 2
    normalised = [nn.BatchNorm2d(out_channels), nn.ReLU()] if level else []
    return nn.Sequential(
        nn.ZeroPad2d((before, before + 1, before, before + 1)),
        nn.Conv2d(in_channels, out_channels, kernel_size, stride=2),
        *normalised,
    )


def _decoder_layer(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.LeakyReLU(0.2)
    )
