"""What the two-stage networks share: padded convolutions, encoder, dilated body, decoder, inputs, and [-1, 1]."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.ops.tracing import is_exporting, window_sum

Pad = Callable[[Tensor, int], Tensor]
"""(B, C, H, W), rows and columns to add on every side -> (B, C, H + 2 n, W + 2 n)."""

DILATIONS = (2, 4, 8, 16)
"""Of the dilated convolutions at 256 x 256. Yu et al., CVPR 2018, appendix D; MPGA/GLA (Sensors 2020), Table A1."""


def zero_pad(x: Tensor, padding: int) -> Tensor:
    """Zeros around x (B, C, H, W)."""
    return F.pad(x, (padding,) * 4)


def mirror_pad(x: Tensor, padding: int) -> Tensor:
    """x (B, C, H, W) reflected at its border pixels, over and over where it is smaller than the padding.

    F.pad refuses to reflect by a whole side or more, which a dilation of 16 asks of features of 16 x 16.
    """
    if not is_exporting() and padding < min(x.shape[-2:]):
        return F.pad(x, (padding,) * 4, mode="reflect")
    rows, columns = (_reflected(side, padding, x.device) for side in x.shape[-2:])
    if is_exporting():
        return x.index_select(-2, rows).index_select(-1, columns)
    return x[..., rows[:, None], columns]


def _reflected(side: int, padding: int, device: torch.device) -> Tensor:
    period = torch.full((), 2 * (side - 1), device=device).clamp_min(1)  # a single pixel is repeated
    position = torch.arange(-padding, side + padding, device=device) % period
    return torch.minimum(position, period - position)


class ConvBlock(nn.Module):
    """A convolution, padded so that stride 1 keeps the size and stride 2 halves an even one, and its activation.

    Args:
        pad: `mirror_pad` or `zero_pad`.
        activation: makes what follows; nn.Identity for nothing.
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
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, dilation=dilation)
        self.activation, self.pad, self.padding = activation(), pad, dilation * (kernel_size - 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        activated: Tensor = self.activation(self.conv(self.pad(x, self.padding)))
        return activated


def edge_pad(x: Tensor, padding: int) -> Tensor:
    """The border of x (B, C, H, W) repeated around it."""
    return F.pad(x, (padding,) * 4, mode="replicate")


class UpsampleConvBlock(nn.Module):
    """Enlarges twice by nearest neighbours, and then does what a 3x3 `ConvBlock` of stride 1 does.

    Every pixel that is convolved is there four times. So a transposed 4x4 convolution of the small features does both,
    each of its filters being the sum of four shifted 3x3 ones: 2.25 times fewer multiplications, and no large copies.
    A mirror at the border of the large features repeats, seen from the small ones, the pixel at their border.

    Raises:
        ValueError: the block is another one, or padded otherwise than by `mirror_pad` or `zero_pad`.
    """

    def __init__(self, block: ConvBlock) -> None:
        super().__init__()
        shape = block.conv.kernel_size, block.conv.stride, block.conv.dilation
        if shape != ((3, 3), (1, 1), (1, 1)) or block.pad not in (mirror_pad, zero_pad):
            raise ValueError(
                "what enlarges must be a 3x3 convolution of stride and dilation 1, padded by mirror_pad or zero_pad, "
                f"got {block.conv} and {block.pad}"
            )
        self.conv, self.activation = block.conv, block.activation
        self.pad: Pad = edge_pad if block.pad is mirror_pad else zero_pad

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, out_channels, 2 H, 2 W)."""
        shifted = F.pad(self.conv.weight.flip(2, 3), (1,) * 4)
        filters = window_sum(shifted, 2).transpose(0, 1)
        large = F.conv_transpose2d(self.pad(x, 1), filters, self.conv.bias, stride=2, padding=3)
        activated: Tensor = self.activation(large)
        return activated


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    stride: int = 1,
    dilation: int = 1,
    *,
    pad: Pad,
    activation: Callable[[], nn.Module],
    start: Callable[[Tensor], Tensor] = nn.init.xavier_uniform_,
) -> ConvBlock:
    """A `ConvBlock` whose filters start so that a signal keeps its strength, and its biases at 0.

    Where the papers are silent: Glorot and Bengio's uniform start is that of TensorFlow 1.3, in which contextual
    attention was trained. PyTorch's own shrinks what differs between pixels to 1e-5 of the output, and through the 34
    layers of MPGA/GLA what differs between two images to 1e-7.

    Args:
        start: fills the filters, in place.
    """
    made = ConvBlock(in_channels, out_channels, kernel_size, stride, dilation, pad=pad, activation=activation)
    start(made.conv.weight)
    if made.conv.bias is not None:
        nn.init.zeros_(made.conv.bias)
    return made


class BlockFactory(Protocol):
    """`ConvBlock` with a family's padding and activation filled in; both may be overridden."""

    def __call__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        *,
        activation: Callable[[], nn.Module] = ...,
    ) -> ConvBlock:
        """Make the block."""


elu_block: BlockFactory = partial(convolution, pad=zero_pad, activation=nn.ELU)  # near 0 ELU is linear
"""The convolution of both releases; where the papers have mirror padding, or LeakyReLU."""


@dataclass(frozen=True)
class StageInput:
    """A picture (B, 3, H, W) in [-1, 1] and what stands beside it.

    Attributes:
        channels: of the whole.
        of: makes it of the picture and of its mask (B, 1, H, W), 1 = known, 0 = hole.
    """

    channels: int
    of: Callable[[Tensor, Tensor], Tensor]


def _with_mask(picture: Tensor, mask: Tensor) -> Tensor:
    return torch.cat([picture, mask], 1)


def _with_ones_and_hole(picture: Tensor, mask: Tensor) -> Tensor:
    return torch.cat([picture, torch.ones_like(mask), 1 - mask], 1)


WITH_MASK, WITH_ONES_AND_HOLE = StageInput(4, _with_mask), StageInput(5, _with_ones_and_hole)
"""What the papers' stages see, and the releases': zero padding of the ones tells where the picture ends."""


def scaled(channels: int, width: float) -> int:
    """A paper's number of channels times `width`; at least 4 are kept."""
    return max(4, round(width * channels))


def encoder(in_channels: int, channels: Sequence[int], block: BlockFactory, last: BlockFactory) -> nn.Sequential:
    """Six convolutions, the first 5x5, the others 3x3, the second and the fourth of stride 2: the start of a branch.

    Args:
        channels: that each makes.
        last: makes the sixth, as `block` the others.
    Shapes:
        (B, in_channels, H, W) to (B, channels[-1], H/4, W/4).
    """
    c1, c2, c3, c4, c5, c6 = channels
    return nn.Sequential(
        block(in_channels, c1, 5),
        block(c1, c2, stride=2),
        block(c2, c3),
        block(c3, c4, stride=2),
        block(c4, c5),
        last(c5, c6),
    )


def dilated_body(channels: int, block: BlockFactory, dilations: Sequence[int] = DILATIONS) -> nn.Sequential:
    """One 3x3 convolution for each dilation, in cells: (B, channels, H, W) to the same.

    The papers' dilations fit the 64 x 64 cells of a 256 x 256 image. On 16 x 16 cells all taps of a dilation of 16
    but the centre read padding.
    """
    return nn.Sequential(*(block(channels, channels, dilation=dilation) for dilation in dilations))


def decoder(in_channels: int, width: float, block: BlockFactory) -> nn.Sequential:
    """128 - 128 - resize - 64 - 64 - resize - 32 - 16 - 3 - clip, all 3x3; resizing is by nearest neighbours.

    Source: Yu et al., CVPR 2018, appendix D, and MPGA/GLA (Sensors 2020), Tables A1 and A2, which agree.
    Shapes:
        (B, in_channels, H, W) to (B, 3, 4 H, 4 W) in [-1, 1].
    """
    c128, c64, c32, c16 = (scaled(channels, width) for channels in (128, 64, 32, 16))
    return nn.Sequential(
        block(in_channels, c128),
        block(c128, c128),
        nn.Identity(),  # where checkpoints have the enlarging, which needs no name
        UpsampleConvBlock(block(c128, c64)),
        block(c64, c64),
        nn.Identity(),
        UpsampleConvBlock(block(c64, c32)),
        block(c32, c16),
        block(c16, 3, activation=nn.Identity),
        nn.Hardtanh(-1.0, 1.0),
    )


def to_signed(image: Tensor) -> Tensor:
    """From [0, 1] to [-1, 1]."""
    return 2 * image - 1


def to_unit(image: Tensor) -> Tensor:
    """From [-1, 1] to [0, 1]."""
    return (image + 1) / 2
