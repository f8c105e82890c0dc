"""PConv: a U-Net of partial convolutions, which fills holes from their rims as its masks shrink."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.interface import InpaintingNetwork, InpaintingOutput, to_channels_last
from src.networks.layers.partial_conv import PartialConv2d, to_mean

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # per channel of images in [0, 1], as torchvision publishes them
IMAGENET_STD = (0.229, 0.224, 0.225)


class ClampStraightThrough(torch.autograd.Function):
    """Clamp to [0, 1] whose gradient is 1 everywhere, so that values outside can come back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Clamp; any shape."""
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Hand the gradient on."""
        return gradient


class PartialConvStage(nn.Module):
    """Partial convolution, normalisation, activation; the mask goes on as the convolution updated it."""

    def __init__(self, conv: PartialConv2d, norm: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.activation = conv, norm, activation

    def forward(self, features: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Shapes as in `PartialConv2d`; the hole's features are not 0 behind the normalisation."""
        x, mask = self.conv(features, masks)
        return self.activation(self.norm(x)), mask


class PConv(InpaintingNetwork):
    """Image inpainting for irregular holes using partial convolutions.

    Encoder: partial convolutions of stride 2, kernels 7, 5, 5, 3, 3 ..., batch norm in all but the first, ReLU.
    Decoder: nearest upsampling of features and mask, concatenation with the encoder's, 3x3 partial convolution, batch
    norm and LeakyReLU(0.2); the last layer is concatenated with the image and its mask and has neither.
    Source: Liu et al., ECCV 2018, arXiv:1804.07723, Sec. 3.2 and its table of the network; 8 levels there, for 512x512.
    Where the paper is silent, as its re-implementations: the image is normalised by ImageNet's mean and deviation,
    and the output taken back; a bias only in layers without batch norm.
    Departs from the paper: the output is clamped to [0, 1], which its loss and metrics expect, with the gradient of no
    clamp, so that training does not stall where the output is out of range.

    In training mode the deepest features (H / 2^levels) must hold more than one value a channel for batch norm.

    Args:
        width: multiplies the channels 64, 128, 256, 512, 512 ... (at least 8 are kept).
        levels: layers of the encoder, and of the decoder. Sizes are padded to multiples of 2^levels.
        conv: makes a layer's partial convolution.
        first_bias: whether the first layer has a bias, as the last always has.
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
            raise ValueError(f"levels must be at least 1, got {levels}")
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
            # Built beside the encoder layer that it mirrors: from that layer's output size back to its input's.
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
        """The layers that the second stage of training freezes (Sec. 4.2)."""
        return (layer for layer in self.encoder.modules() if isinstance(layer, nn.BatchNorm2d))

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole; `edges` are not used. What no window reaches gets ImageNet's mean colour."""
        picture = self.normalised(image, mask) * self.std + self.mean
        return InpaintingOutput(ClampStraightThrough.apply(picture))  # type: ignore[no-untyped-call]

    def normalised(self, image: Tensor, mask: Tensor) -> Tensor:
        """The picture as the last layer leaves it: normalised by ImageNet's mean and deviation, and of any value.

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
        picture: Tensor = x
        return picture

    def map_layers(self) -> dict[str, nn.Module]:
        """The updated masks: `encoder_1`, ... and `decoder_1`, ..., from the finest level to the coarsest."""
        stages = {"encoder": self.encoder, "decoder": self.decoder[::-1]}
        return {
            f"{side}_{level}": stage.get_submodule("conv.update")
            for side, side_stages in stages.items()
            for level, stage in enumerate(side_stages, start=1)
        }


def released_pconv(width: float = 1.0, levels: int = 7) -> PConv:
    """PConv as its common PyTorch re-implementation computes it.

    Departs from the paper, as that does: a window's sum is divided by its number of known values (`to_mean`), so
    filters that do the same are larger by what a window holds, 147 to 9,216 values at full width; the first layer has
    no bias.
    Departs from the re-implementation, where training starts alone: the filters of the first and the last layer, which
    no batch norm follows, are larger by that number, so that both give what the paper's do. All others start as there,
    Kaiming's as of a plain convolution: filters of another size would be out of reach of Adam's steps. At mini scale,
    after 300 steps, validation was 24.4 dB; 19.9 with the re-implementation's start, 16.0 with all filters larger, and
    25.4 for the paper's network.
    """
    network = PConv(width, levels, conv=partial(PartialConv2d, rescale=to_mean), first_bias=False)
    with torch.no_grad():
        for name in ("encoder.0.conv.conv.weight", f"decoder.{levels - 1}.conv.conv.weight"):
            filters = network.get_parameter(name)
            filters.mul_(filters[0].numel())
    return network
