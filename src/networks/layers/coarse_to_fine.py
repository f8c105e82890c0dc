"""Building blocks of the two-stage networks: padded convolutions, encoder, dilated body, decoder and inputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.ops.tracing import is_exporting, window_sum

Pad = Callable[[Tensor, int], Tensor]
"""Pads (B, C, H, W) by n rows and columns on each side to (B, C, H + 2 n, W + 2 n)."""

DILATIONS = (2, 4, 8, 16)
"""Dilations for 256x256 images: Yu et al., CVPR 2018, appendix D; MPGA/GLA (Sensors 2020), Table A1."""


def zero_pad(x: Tensor, padding: int) -> Tensor:
    """Pad x (B, C, H, W) with zeros."""
    return F.pad(x, (padding,) * 4)


def mirror_pad(x: Tensor, padding: int) -> Tensor:
    """Pad x (B, C, H, W) by reflection, repeatedly where x is smaller than the padding, unlike F.pad."""
    if not is_exporting() and padding < min(x.shape[-2:]):
        return F.pad(x, (padding,) * 4, mode="reflect")
    rows, columns = (_reflected(side, padding, x.device) for side in x.shape[-2:])
    if is_exporting():
        return x.index_select(-2, rows).index_select(-1, columns)
    return x[..., rows[:, None], columns]


def pad_to_multiple(x: Tensor, stride: int) -> Tensor:
    """Pad (B, C, H, W) by repeating the last row and column until `stride` divides H and W."""
    right, bottom = -x.shape[-1] % stride, -x.shape[-2] % stride
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if right or bottom else x


def _reflected(side: int, padding: int, device: torch.device) -> Tensor:
    period = torch.full((), 2 * (side - 1), device=device).clamp_min(1)  # repeats a single pixel
    position = torch.arange(-padding, side + padding, device=device) % period
    return torch.minimum(position, period - position)


class ConvBlock(nn.Module):
    """Convolution and activation, padded so that stride 1 keeps the size and stride 2 halves an even size.

    Biases start at zero. Where the papers are silent on filters: Glorot's uniform initialisation is the default of
    TensorFlow 1.3, in which contextual attention was trained. With PyTorch's default, differences between pixels shrink
    to 1e-5 of the output, and differences between two images to 1e-7 in the 34 layers of MPGA/GLA.

    Args:
        pad: `mirror_pad` or `zero_pad`.
        activation: makes the activation; nn.Identity for none.
        start: initialises the filters in place.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        *,
        pad: Pad,
        activation: Callable[[], nn.Module],
        start: Callable[[Tensor], Tensor] = nn.init.xavier_uniform_,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, dilation=dilation)
        start(self.conv.weight)
        nn.init.zeros_(self.conv.get_parameter("bias"))
        self.activation, self.pad, self.padding = activation(), pad, dilation * (kernel_size - 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        activated: Tensor = self.activation(self.conv(self.pad(x, self.padding)))
        return activated


def edge_pad(x: Tensor, padding: int) -> Tensor:
    """Pad x (B, C, H, W) by repeating its border."""
    return F.pad(x, (padding,) * 4, mode="replicate")


class UpsampleConvBlock(nn.Module):
    """Nearest-neighbour upsampling by 2 followed by a 3x3 `ConvBlock` of stride 1, in one step.

    Upsampling repeats each pixel four times. One transposed 4x4 convolution of the small features, whose filters are
    sums of four shifted 3x3 filters, therefore computes the same with 2.25 times fewer multiplications and without the
    upsampled copy. Mirror padding of the upsampled features repeats the border pixels of the small ones.

    Raises ValueError if the block is not a 3x3 convolution of stride and dilation 1 with `mirror_pad` or `zero_pad`.
    """

    def __init__(self, block: ConvBlock) -> None:
        super().__init__()
        shape = block.conv.kernel_size, block.conv.stride, block.conv.dilation
        if shape != ((3, 3), (1, 1), (1, 1)) or block.pad not in (mirror_pad, zero_pad):
            raise ValueError(
                "UpsampleConvBlock needs a 3x3 convolution of stride and dilation 1, padded by mirror_pad or zero_pad, "
                f"got {block.conv} and {block.pad}"
            )
        self.conv, self.activation = block.conv, block.activation
        self.pad: Pad = edge_pad if block.pad is mirror_pad else zero_pad

    def forward(self, x: Tensor) -> Tensor:
        """Upsample and convolve (B, in_channels, H, W) to (B, out_channels, 2 H, 2 W)."""
        shifted = F.pad(self.conv.weight.flip(2, 3), (1,) * 4)
        filters = window_sum(shifted, 2).transpose(0, 1)
        upsampled = F.conv_transpose2d(self.pad(x, 1), filters, self.conv.bias, stride=2, padding=3)
        activated: Tensor = self.activation(upsampled)
        return activated


BlockFactory = Callable[..., ConvBlock]
"""Makes a `ConvBlock` with the padding and activation of a model, from the positional arguments of `ConvBlock`."""

elu_block: BlockFactory = partial(ConvBlock, pad=zero_pad, activation=nn.ELU)  # Glorot's fits: ELU is linear near 0
"""The convolution of both releases; the papers have mirror padding or LeakyReLU instead."""


@dataclass(frozen=True)
class StageInput:
    """Input of a stage: an image and further channels.

    Attributes:
        channels: number of input channels.
        join: makes the input from the image (B, 3, H, W) in [-1, 1] and its mask (B, 1, H, W), 1 = known, 0 = hole.
    """

    channels: int
    join: Callable[[Tensor, Tensor], Tensor]


def _with_mask(image: Tensor, mask: Tensor) -> Tensor:
    return torch.cat([image, mask], 1)


def _with_ones_and_hole(image: Tensor, mask: Tensor) -> Tensor:
    return torch.cat([image, torch.ones_like(mask), 1 - mask], 1)


WITH_MASK, WITH_ONES_AND_HOLE = StageInput(4, _with_mask), StageInput(5, _with_ones_and_hole)
"""Inputs in the papers and in the releases; the zero padding of the ones marks the image border."""


def scaled(channels: int, width: float) -> int:
    """Scale a number of channels by `width`; at least 4 are kept."""
    return max(4, round(width * channels))


def encoder(
    in_channels: int, channels: Sequence[int], width: float, block: BlockFactory, last: BlockFactory
) -> nn.Sequential:
    """Build the encoder of a branch: six convolutions, the first 5x5, the others 3x3, the second and fourth stride 2.

    Args:
        channels: output channels of each convolution at width 1.
        width: factor of the channels.
        block, last: make the first five convolutions, and the sixth.
    Shapes: (B, in_channels, H, W) to (B, width channels[-1], H/4, W/4).
    """
    c1, c2, c3, c4, c5, c6 = (scaled(count, width) for count in channels)
    return nn.Sequential(
        block(in_channels, c1, 5),
        block(c1, c2, stride=2),
        block(c2, c3),
        block(c3, c4, stride=2),
        block(c4, c5),
        last(c5, c6),
    )


def dilated_body(channels: int, block: BlockFactory, dilations: Sequence[int] = DILATIONS) -> nn.Sequential:
    """Build one 3x3 convolution per dilation (in cells); the shape (B, channels, H, W) stays the same."""
    return nn.Sequential(*(block(channels, channels, dilation=dilation) for dilation in dilations))


clip = partial(nn.Hardtanh, -1.0, 1.0)
"""Makes the last layer of both papers' stages."""


def decoder(
    in_channels: int, width: float, block: BlockFactory, bound: Callable[[], nn.Module] = clip
) -> nn.Sequential:
    """Build the decoder 128 - 128 - resize - 64 - 64 - resize - 32 - 16 - 3 - clip, all 3x3; resizing is nearest.

    Source: Yu et al., CVPR 2018, appendix D, and MPGA/GLA (Sensors 2020), Tables A1 and A2, which agree.

    Args:
        bound: makes the last layer, which limits the image to [-1, 1].
    Shapes: (B, in_channels, H, W) to (B, 3, 4 H, 4 W) in [-1, 1].
    """
    c128, c64, c32, c16 = (scaled(channels, width) for channels in (128, 64, 32, 16))
    return nn.Sequential(
        block(in_channels, c128),
        block(c128, c128),
        nn.Identity(),  # keeps the parameter names of checkpoints with a separate upsampling layer
        UpsampleConvBlock(block(c128, c64)),
        block(c64, c64),
        nn.Identity(),
        UpsampleConvBlock(block(c64, c32)),
        block(c32, c16),
        block(c16, 3, activation=nn.Identity),
        bound(),
    )


def to_signed(image: Tensor) -> Tensor:
    """Map [0, 1] to [-1, 1]."""
    return 2 * image - 1


def to_unit(image: Tensor) -> Tensor:
    """Map [-1, 1] to [0, 1]."""
    return (image + 1) / 2
