"""PConv: a U-Net of partial convolutions, whose masks shrink from layer to layer."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.interface import InpaintingNetwork, InpaintingOutput, to_channels_last
from src.networks.layers.partial_conv import PartialConv2d, to_mean
from src.networks.ops.asymmetric_gaussian import clamp_straight_through

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of images in [0, 1], as published by torchvision
IMAGENET_STD = (0.229, 0.224, 0.225)


class PartialConvStage(nn.Module):
    """Partial convolution, normalisation and activation; returns the updated mask, too."""

    def __init__(self, conv: PartialConv2d, norm: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.activation = conv, norm, activation

    def forward(self, features: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute features and mask, shapes as in `PartialConv2d`. After the norm, features in the hole are not 0."""
        x, mask = self.conv(features, masks)
        return self.activation(self.norm(x)), mask


class PConv(InpaintingNetwork):
    """Image inpainting for irregular holes using partial convolutions.

    Encoder: partial convolutions of stride 2, kernels 7, 5, 5, 3, 3 ..., batch norm in all but the first, ReLU.
    Decoder: nearest upsampling of features and mask, concatenation with the encoder's, 3x3 partial convolution, batch
    norm and LeakyReLU(0.2); the last layer is concatenated with the image and its mask and has neither.
    Source: Liu et al., ECCV 2018, arXiv:1804.07723, Sec. 3.2 and its table of the network; 8 levels there, for 512x512.
    Where the paper is silent, as its re-implementations: the image is normalised by ImageNet's mean and standard
    deviation and the output denormalised; only layers without batch norm have a bias.
    Departs from the paper: in the decoder, the features of both sides are rescaled apart (`PartialConv2d`). The output
    is clamped to [0, 1], which losses and metrics expect. The clamp passes gradients unchanged, so training does not
    stall where the output is out of range.

    In training mode, batch norm needs more than one value per channel in the deepest features (H / 2^levels).

    Args:
        width: factor of the channels 64, 128, 256, 512, 512 ... (at least 8 are kept).
        levels: number of encoder layers and of decoder layers. Images are padded to multiples of 2^levels.
        conv: makes the partial convolution of a layer; partial(PartialConv2d, together=True) rescales as printed.
        first_bias: whether the first layer has a bias; the last always has one.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        width: float = 1.0,
        levels: int = 7,
        *,
        conv: Callable[..., PartialConv2d] = PartialConv2d,
        first_bias: bool = True,
    ) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels must be >= 1, got {levels}")
        self.stride = 2**levels
        channels = [max(8, round(width * min(64 * 2**level, 512))) for level in range(levels)]
        self.encoder = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level, (in_channels, out_channels) in enumerate(zip((3, *channels[:-1]), channels, strict=True)):
            first = level == 0
            kernel_size = 7 if first else 5 if level < 3 else 3
            self.encoder.append(
                PartialConvStage(
                    conv(in_channels, out_channels, kernel_size, stride=2, bias=first and first_bias),
                    nn.Identity() if first else nn.BatchNorm2d(out_channels),
                    nn.ReLU(),
                )
            )
            # The mirror image of the encoder layer: from its output size back to its input size.
            self.decoder.insert(
                0,
                PartialConvStage(
                    conv(out_channels + in_channels, in_channels, 3, bias=first),
                    nn.Identity() if first else nn.BatchNorm2d(in_channels),
                    nn.Identity() if first else nn.LeakyReLU(0.2),
                ),
            )
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        to_channels_last(self)

    def encoder_batch_norms(self) -> Iterator[nn.BatchNorm2d]:
        """Return the batch norms of the encoder, which fine-tuning freezes (Sec. 4.2)."""
        return (layer for layer in self.encoder.modules() if isinstance(layer, nn.BatchNorm2d))

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole; `edges` are ignored. Pixels out of reach of all windows get ImageNet's mean colour."""
        prediction = self.normalised(image, mask) * self.std + self.mean
        return InpaintingOutput(clamp_straight_through(prediction, 0, 1))

    def normalised(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return the output of the last layer: an unclamped image, normalised by ImageNet's mean and deviation.

        Shapes:
            image (B, 3, H, W) in [0, 1], finite in the hole; mask (B, 1, H, W); H and W multiples of `stride`.
            Returns (B, 3, H, W).
        """
        features, masks = [(image - self.mean) / self.std], [mask]
        for stage in self.encoder:
            x, m = stage(features[-1:], masks[-1:])
            features.append(x)
            masks.append(m)
        x, m = features.pop(), masks.pop()
        for stage in self.decoder:
            x, m = (F.interpolate(t, scale_factor=2.0, mode="nearest") for t in (x, m))
            x, m = stage((x, features.pop()), (m, masks.pop()))
        normalised: Tensor = x
        return normalised

    def map_layers(self) -> dict[str, nn.Module]:
        """Return the mask updates: `encoder_1`, ... and `decoder_1`, ..., from the finest level to the coarsest."""
        stages = {"encoder": self.encoder, "decoder": self.decoder[::-1]}
        return {
            f"{side}_{level}": stage.get_submodule("conv.update")
            for side, side_stages in stages.items()
            for level, stage in enumerate(side_stages, start=1)
        }


def released_pconv(width: float = 1.0, levels: int = 7) -> PConv:
    """Build PConv as in its common PyTorch re-implementation.

    Departs from the paper, as the re-implementation: the sum over a window is divided by its number of known values
    (`to_mean`), so equivalent filters are larger by the number of values in a window, 147 to 9,216 at full width; the
    first layer has no bias.
    Departs from the re-implementation, in the initial weights only: the filters of the first and last layer, which have
    no batch norm, are scaled by that number, so both layers compute the same as the paper's. All other filters have
    Kaiming's initialisation, as there. Validation after 300 steps at mini scale: 24.4 dB, with the re-implementation's
    initial weights 19.9 dB.
    """
    network = PConv(width, levels, conv=partial(PartialConv2d, rescale=to_mean, together=True), first_bias=False)
    with torch.no_grad():
        for name in ("encoder.0.conv.conv.weight", f"decoder.{levels - 1}.conv.conv.weight"):
            filters = network.get_parameter(name)
            filters.mul_(filters[0].numel())
    return network
