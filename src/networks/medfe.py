"""MEDFE (Liu et al., ECCV 2020): an encoder-decoder whose texture and structure features are equalised."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.layers.coarse_to_fine import scaled, to_signed, to_unit
from src.networks.layers.partial_conv import PartialConv2d, Rescale, to_full_window, to_mean
from src.networks.layers.residual_block import InstanceNorm, ResidualBlock, Start, initialised

IMAGENET_MEAN_BYTES = (123, 117, 104)
"""Mean colour of ImageNet in RGB, 0 to 255, which fills the hole."""

SWAPPED_MEAN_BYTES = (123, 104, 117)
"""The same with green and blue swapped, as in the release."""

CELL = 8
"""Pixels per cell of the equalised features in each direction."""


affine_norm = partial(InstanceNorm, affine=True)


def _conv(in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, (kernel_size - 1) // 2, bias=bias)
    initialised(conv)
    return conv


def _leaky() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.2)


Fold = Callable[[Tensor], Tensor]
"""Arranges (B, h, w, C), the features of each position, to (B, C, h, w)."""


def by_position(x: Tensor) -> Tensor:
    """Move the channels of (B, h, w, C) behind the batch."""
    return x.permute(0, 3, 1, 2)


def untransposed(x: Tensor) -> Tensor:
    """Read the numbers of (B, h, w, C), row by row, as (B, C, h, w), which mixes positions and channels.

    The release does so by a reshape without a transposition.
    """
    batch, height, width, channels = x.shape
    return x.reshape(batch, channels, height, width)


class FeatureEqualisation(nn.Module):
    """Squeeze and excitation, then a bilateral mean of the features over space and over similar neighbours.

    e = x * gate(mean(x));  s = sigmoid(e)
    spatial_p = sum over all q of g(p - q) e_q / sum over all q of g(p - q), g a Gaussian
    range_p = sum over q in the 3x3 window of p of softmax_q(mean over channels of s_p s_q) e_q
    Source: Liu et al., ECCV 2020, Sec. 3.2, "feature equalizations".
    Where the paper is silent, as the release: sigma of 1.5 cells; the softmax of the range term includes zero padding.

    Args:
        fold: arranges both means; see `Fold`.
        sigma_cells: standard deviation of the Gaussian in cells.
    """

    def __init__(self, channels: int, hidden: int, fold: Fold, sigma_cells: float = 1.5) -> None:
        super().__init__()
        self.fold, self.sigma_cells = fold, sigma_cells
        self.gate = nn.Sequential(
            _conv(channels, hidden, 1, bias=True), nn.ReLU(), _conv(hidden, channels, 1, bias=True), nn.Sigmoid()
        )
        self.join = nn.Sequential(_conv(2 * channels, channels, 1), InstanceNorm(channels), _leaky())

    def forward(self, x: Tensor) -> Tensor:
        """Equalise (B, channels, h, w); the shape stays the same."""
        equalised = x * self.gate(x.mean((2, 3), keepdim=True))
        means = self._spatial_mean(equalised), self._range_mean(equalised)
        joined: Tensor = self.join(torch.cat([self.fold(mean.permute(0, 2, 3, 1)) for mean in means], dim=1))
        return joined

    def _spatial_mean(self, x: Tensor) -> Tensor:
        rows, columns = (self._gaussian(side, x) for side in x.shape[-2:])
        return rows @ x @ columns.mT

    def _gaussian(self, side: int, like: Tensor) -> Tensor:
        """Return the weights of all positions of a row for each position, (side, side); rows sum to 1."""
        position = torch.arange(side, device=like.device, dtype=torch.float64)
        weights = torch.exp((position - position[:, None]).square() / (-2 * self.sigma_cells**2))
        return (weights / weights.sum(1, keepdim=True)).to(like.dtype)

    def _range_mean(self, x: Tensor) -> Tensor:
        similar = x.sigmoid()
        scores = torch.stack([(similar * shifted).mean(1) for shifted in _neighbours(similar)])
        weighted = [w[:, None] * shifted for w, shifted in zip(scores.softmax(0), _neighbours(x), strict=True)]
        return torch.stack(weighted).sum(0)


def _neighbours(x: Tensor) -> list[Tensor]:
    """Return x (B, C, h, w), zero padded, shifted to each of the nine positions of a 3x3 window."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (1, 1, 1, 1))
    return [padded[..., i : i + height, j : j + width] for i in range(3) for j in range(3)]


class PartialBlock(nn.Module):
    """Partial convolution, instance norm and LeakyReLU(0.2)."""

    def __init__(self, channels: int, kernel_size: int, rescale: Rescale) -> None:
        super().__init__()
        self.conv = PartialConv2d(channels, channels, kernel_size, rescale=rescale)
        self.norm = affine_norm(channels)

    def forward(self, masked: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Convolve features (B, channels, h, w) and update their mask (B, 1, h, w)."""
        x, mask = self.conv([masked[0]], [masked[1]])
        return F.leaky_relu(self.norm(x), 0.2), mask


class MutualEncoder(nn.Module):
    """Fill texture and structure features by partial convolutions, equalise both, and add them to all levels.

    texture = fill(cat of levels 1 to 3);  structure = fill(cat of levels 4 to 6), at 1/8 of the image's size
    g = equalise(fuse(cat(structure, texture)));  level l: f_l + resize_l(g)
    Source: Liu et al., ECCV 2020, Secs. 3.1 and 3.2: `fill` has three streams of five partial convolutions with 3x3,
    5x5 and 7x7 filters.
    Where the paper is silent, as the release: both branches share the streams and the 1x1 convolutions; layers and
    channels of the resizing parts.

    Args:
        counts: channels of the six levels.
        rescale: factor of the windows' sums in the partial convolutions.
        fold: see `FeatureEqualisation`.
    """

    def __init__(self, counts: Sequence[int], rescale: Rescale, fold: Fold) -> None:
        super().__init__()
        c64, c128, c256, c512 = counts[:4]
        self.textures = nn.ModuleList([_halve(c64, c128, c256), _halve(c128, c256), _project(c256, c256)])
        self.lift = _conv(c512, c256, 1)
        self.lift_norm = nn.Sequential(InstanceNorm(c256), _leaky())
        self.merge = _project(3 * c256, c256)
        self.streams = nn.ModuleList(
            nn.Sequential(*(PartialBlock(c256, kernel, rescale) for _ in range(5))) for kernel in (3, 5, 7)
        )
        self.fuse = _project(2 * c256, c512)
        self.equalise = FeatureEqualisation(c512, max(4, c512 // 16), fold)
        self.to_upper = nn.ModuleList(_conv(c512, c, 1) for c in (c64, c128, c256))
        self.upper_norms = nn.ModuleList(nn.Sequential(InstanceNorm(c), _leaky()) for c in (c64, c128, c256))
        self.to_lower = nn.ModuleList(_halve(*[c512] * n)[:-1] for n in (2, 3, 4))  # no activation at the end
        self.to_image = _conv(c256, 3, 1, bias=True)

    def forward(self, levels: Sequence[Tensor], mask: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Equalise the features of an encoder.

        Shapes:
            levels[l] (B, counts[l], H / 2^(l + 1), W / 2^(l + 1)); mask (B, 1, H / 8, W / 8).
            Returns features as `levels`, and the images of structure and texture, (B, 3, H / 8, W / 8) in [-1, 1].
        """
        active = [F.leaky_relu(level, 0.2) for level in levels]
        size = mask.shape[-2:]
        texture = torch.cat([part(level) for part, level in zip(self.textures, active[:3], strict=True)], dim=1)
        # The 1x1 convolution comes first, as it commutes with the resizing.
        lifted = [_resize(self.lift(level), size) for level in active[3:]]
        structure = torch.cat([self.lift_norm(level) for level in lifted], dim=1)
        structure, texture = self._fill(torch.cat([structure, texture]), torch.cat([mask, mask])).chunk(2)
        images = self.to_image(structure).tanh(), self.to_image(texture).tanh()
        equalised = self.equalise(self.fuse(torch.cat([structure, texture], dim=1)))
        added = [
            norm(_resize(part(equalised), level.shape[-2:]))
            for part, norm, level in zip(self.to_upper, self.upper_norms, levels[:3], strict=True)
        ] + [part(equalised) for part in self.to_lower]
        return [level + more for level, more in zip(levels, added, strict=True)], *images

    def _fill(self, features: Tensor, mask: Tensor) -> Tensor:
        masked = self.merge(features), mask
        merged: Tensor = self.merge(torch.cat([stream(masked)[0] for stream in self.streams], dim=1))
        return merged


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def _project(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(_conv(in_channels, out_channels, 1), InstanceNorm(out_channels), _leaky())


def _halve(*counts: int) -> nn.Sequential:
    """Return a 4x4 convolution of stride 2, instance norm and LeakyReLU for each two consecutive counts."""
    return nn.Sequential(
        *(layer for i, o in pairwise(counts) for layer in (_conv(i, o, 4, stride=2), InstanceNorm(o), _leaky()))
    )


class MEDFE(InpaintingNetwork):
    """Mutual encoder-decoder with feature equalisations.

    levels = encoder(cat(filled image, mask));  x' = tanh(decoder(equalised levels));  images in [-1, 1]
    Source: Liu et al., ECCV 2020, arXiv:2007.06929, Sec. 3.
    Where the paper is silent, as the release: six levels of 4x4 convolutions of stride 2 with instance norm, four
    residual blocks at the deepest level, U-Net skips; the hole of the input is filled with ImageNet's mean colour, and
    three copies of the mask are added; a cell of the features is known if its top left pixel is.
    Departs from the release, as the paper does: partial convolutions rescale to full windows, and the equalised
    features stay at their positions (`by_position`). `released_medfe` is the release.

    Args:
        width: factor of the channels 64, 128, 256, 512, 512, 512.
        rescale: factor of the windows' sums in the partial convolutions.
        fold: arranges the equalised features; see `FeatureEqualisation`.
        hole_bytes: colour of the hole in the input, RGB from 0 to 255.
        masked: whether the partial convolutions get the mask; False treats everything as known.
        upsampling_start: initialises a transposed convolution; `start_upsampling` or, as the release, `initialised`.
    """

    stride = 64

    def __init__(
        self,
        width: float = 1.0,
        rescale: Rescale = to_full_window,
        fold: Fold = by_position,
        hole_bytes: Sequence[int] = IMAGENET_MEAN_BYTES,
        masked: bool = True,
        upsampling_start: Start = initialised,
    ) -> None:
        super().__init__()
        counts = [scaled(channels, width) for channels in (64, 128, 256, 512, 512, 512)]
        self.encoder = nn.ModuleList(
            nn.Sequential(_conv(i, o, 4, stride=2, bias=True), nn.Identity() if level in (0, 5) else affine_norm(o))
            for level, (i, o) in enumerate(pairwise([6, *counts]))
        )
        self.middle = nn.Sequential(
            *(ResidualBlock(counts[-1], start=initialised, norm=InstanceNorm) for _ in range(4))
        )
        self.mutual = MutualEncoder(counts, rescale, fold)
        self.decoder = nn.ModuleList(
            nn.Sequential(
                upsampling_start(nn.ConvTranspose2d(i, o, 4, stride=2, padding=1)),
                nn.Tanh() if level == 5 else affine_norm(o),
            )
            for level, (i, o) in enumerate(
                zip([counts[5], *(2 * c for c in counts[4::-1])], [*counts[4::-1], 3], strict=True)
            )
        )
        self.masked = masked
        self.hole_colour = [2 * value / 255 - 1 for value in hole_bytes]

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole; `edges` are ignored."""
        colour = image.new_tensor(self.hole_colour)[:, None, None]
        x = torch.cat([torch.where(mask > 0, to_signed(image), colour), mask.expand(-1, 3, -1, -1)], dim=1)
        levels = []
        for layer in self.encoder[:-1]:
            x = F.leaky_relu(layer(x), 0.2)
            levels.append(x)
        levels.append(self.middle(self.encoder[-1](x)))
        cells = mask[..., ::CELL, ::CELL]
        cells = cells if self.masked else torch.ones_like(cells)
        (*upper, deepest), structure, texture = self.mutual(levels, cells)
        x = self.decoder[0](deepest.relu())
        for layer, skip in zip(self.decoder[1:], reversed(upper), strict=True):
            x = layer(torch.cat([x, skip], dim=1).relu())
        return InpaintingOutput(to_unit(x), parts={"structure": to_unit(structure), "texture": to_unit(texture)})

    def checkpointed_parts(self) -> Sequence[nn.Module]:
        """Return the parts without a result of several tensors."""
        return [*self.encoder, self.middle, *self.decoder]


def released_medfe(width: float = 1.0, masked: bool = True) -> MEDFE:
    """Build MEDFE as in the authors' release.

    Departs from the paper, as the release: sums over a window are divided by the sum of its mask, not scaled up to a
    full window; the equalised features are not transposed (`untransposed`); green and blue are swapped in the colour of
    the hole.

    Args:
        width: factor of the numbers of channels.
        masked: True as in the release's first version, whose weights were published; in its last version (2020-11-07)
            the mask does not reach the partial convolutions.
    """
    return MEDFE(width, to_mean, untransposed, SWAPPED_MEAN_BYTES, masked)
