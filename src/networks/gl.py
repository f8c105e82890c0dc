"""GL (Iizuka et al., SIGGRAPH 2017), globally and locally consistent image completion: the completion network."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from src.networks.interface import InpaintingNetwork, InpaintingOutput, to_channels_last
from src.networks.layers.coarse_to_fine import DILATIONS, scaled

MEAN_PIXEL = (0.485, 0.456, 0.406)
"""Mean of ImageNet's training images in [0, 1]."""


def normalised_then_activated(conv: nn.Module, channels: int) -> nn.Sequential:
    """Build conv, batch norm, ReLU: the paper's order (Sec. 3.2, "Batch Normalization")."""
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


def activated_then_normalised(conv: nn.Module, channels: int) -> nn.Sequential:
    """Build conv, ReLU, batch norm: the order of the PyTorch port."""
    return nn.Sequential(conv, nn.ReLU(), nn.BatchNorm2d(channels))


UpsamplingStart = Callable[[nn.ConvTranspose2d], nn.Module]
"""Initialises a transposed convolution in place and returns it."""


class GL(InpaintingNetwork):
    """The completion network.

    x' = C(x * m + mean * (1 - m), 1 - m), in [0, 1]
    Source: Iizuka, Simo-Serra and Ishikawa, ACM Transactions on Graphics 36(4), 2017, Secs. 3.2 and 4, Table 1a.
    Where the paper is silent: zero padding, biases, He's normal initial filters, and the mean pixel value of ImageNet,
    unless `mean_pixel` is that of the training set.

    Args:
        width: factor of the channels in the table (at least 4 are kept).
        mean_pixel: mean of the training images, red, green and blue in [0, 1]; the network sees it in the hole.
        block: builds a layer from its convolution and its number of channels.
        dilations: dilations of the dilated convolutions, in cells of 4x4 pixels.
        upsampling_start: initialises a transposed convolution; `start_upsampling`, or by default as the others.
    """

    stride = 4

    def __init__(
        self,
        width: float = 1.0,
        mean_pixel: Sequence[float] = MEAN_PIXEL,
        block: Callable[[nn.Module, int], nn.Sequential] = normalised_then_activated,
        dilations: Sequence[int] = DILATIONS,
        upsampling_start: UpsamplingStart | None = None,
    ) -> None:
        super().__init__()
        self.mean_pixel: Tensor
        self.set_mean_pixel(mean_pixel)
        c256, c128, c64, c32 = (scaled(channels, width) for channels in (256, 128, 64, 32))

        def conv(i: int, o: int, kernel_size: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
            padding = dilation * (kernel_size - 1) // 2
            return block(_started(nn.Conv2d(i, o, kernel_size, stride, padding, dilation)), o)

        def deconv(i: int, o: int) -> nn.Sequential:
            return block((upsampling_start or _started)(nn.ConvTranspose2d(i, o, 4, stride=2, padding=1)), o)

        self.layers = nn.Sequential(
            conv(4, c64, 5),
            conv(c64, c128, stride=2),
            conv(c128, c128),
            conv(c128, c256, stride=2),
            conv(c256, c256),
            conv(c256, c256),
            nn.Sequential(*(conv(c256, c256, dilation=dilation) for dilation in dilations)),
            conv(c256, c256),
            conv(c256, c256),
            deconv(c256, c128),
            conv(c128, c128),
            deconv(c128, c64),
            conv(c64, c32),
            nn.Conv2d(c32, 3, 3, padding=1),
            nn.Sigmoid(),
        )
        to_channels_last(self)

    def set_mean_pixel(self, mean_pixel: Sequence[float]) -> None:
        """Set what the network sees in the hole; the config of a checkpoint holds it, so its weights do not.

        Raises ValueError unless it is three numbers in [0, 1].
        """
        if len(mean_pixel) != 3 or not all(0 <= value <= 1 for value in mean_pixel):
            raise ValueError(f"mean_pixel must be three numbers in [0, 1], got {mean_pixel}")
        self.register_buffer("mean_pixel", torch.tensor(mean_pixel).view(3, 1, 1), persistent=False)

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole; `edges` are ignored."""
        hole = 1 - mask
        return InpaintingOutput(self.layers(torch.cat([image * mask + self.mean_pixel * hole, hole], dim=1)))


def _started(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def released_gl(
    width: float = 1.0,
    mean_pixel: Sequence[float] = MEAN_PIXEL,
    dilations: Sequence[int] = DILATIONS,
    upsampling_start: UpsamplingStart | None = None,
) -> GL:
    """Build the completion network of the common PyTorch port; the authors' own code is in Torch7.

    Departs from the paper, as the port: batch norm after ReLU.
    """
    return GL(width, mean_pixel, activated_then_normalised, dilations, upsampling_start)
