"""Residual blocks and self-attention with spectral norm, which PICNet's network and discriminator share."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from src.networks.layers.coarse_to_fine import scaled
from src.networks.layers.global_attention import attention, full_precision
from src.networks.layers.residual_block import InstanceNorm
from src.networks.ops.tracing import clone_if_exporting

SLOPE = 0.1
"""Slope of LeakyReLU for negative values, in all blocks but those of the attention."""


CHANNELS = (32, 64, 128)
"""Of the finest features, the next ones, and all deeper ones."""


def level_channels(levels: int, width: float) -> list[int]:
    """Return the channels of features from the finest to the coarsest; the three coarsest levels have the most.

    Raises ValueError if there are fewer than three levels.
    """
    if levels < 3:
        raise ValueError(f"levels must be >= 3, got {levels}")
    return [scaled(CHANNELS[max(0, 2 - max(0, levels - 3 - level))], width) for level in range(levels)]


def orthogonal(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """Draw orthogonal filters, which keep the variance of features under spectral norm, and set the biases to 0."""
    nn.init.orthogonal_(conv.weight)
    nn.init.zeros_(conv.get_parameter("bias"))
    return conv


def spectral(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """Return a convolution with orthogonal filters W (first dimension, all others), divided by its spectral norm.

    Source: Miyato et al., ICLR 2018. As in PICNet's release, the first dimension of transposed filters are the input
    channels, too.
    """
    normalised: nn.Module = spectral_norm(orthogonal(conv), dim=0)
    return normalised


class SpectralBlock(nn.Module):
    """Residual block conv3x3(act(conv3x3(act(x)))) + conv1x1(x), act LeakyReLU, optionally halved by average pooling.

    Source: Zheng et al., CVPR 2019, arXiv:1903.04227, after its release.

    Args:
        hidden: channels between the 3x3 convolutions; None for `out_channels`.
        first: whether the block reads an image, and so begins without an activation.
        slope: slope of LeakyReLU for negative values.
        halve: whether to pool cells of 2x2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden: int | None = None,
        *,
        first: bool = False,
        slope: float = SLOPE,
        halve: bool = False,
    ) -> None:
        super().__init__()
        hidden = out_channels if hidden is None else hidden
        self.layers = nn.Sequential(
            nn.Identity() if first else nn.LeakyReLU(slope),
            spectral(nn.Conv2d(in_channels, hidden, 3, padding=1)),
            nn.LeakyReLU(slope),
            spectral(nn.Conv2d(hidden, out_channels, 3, padding=1)),
        )
        self.bypass = spectral(nn.Conv2d(in_channels, out_channels, 1))
        self.pool = nn.AvgPool2d(2) if halve else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, in_channels, H, W) to (B, out_channels, H, W), or to half the height and width."""
        residual: Tensor = self.pool(self.layers(x))
        bypass: Tensor = self.bypass(self.pool(x))  # pooled first, which is the same with fewer multiplications
        return residual + bypass


class UpsamplingBlock(nn.Module):
    """Residual block that doubles height and width: transposed(act(norm(conv(act(norm(x)))))) + transposed(x).

    All filters are 3x3, the norm is instance norm with learned scale and shift, act is LeakyReLU.
    Source: as for `SpectralBlock`.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            InstanceNorm(in_channels, affine=True),
            nn.LeakyReLU(SLOPE),
            spectral(nn.Conv2d(in_channels, out_channels, 3, padding=1)),
            InstanceNorm(out_channels, affine=True),
            nn.LeakyReLU(SLOPE),
            spectral(nn.ConvTranspose2d(out_channels, out_channels, 3, stride=2, padding=1, output_padding=1)),
        )
        self.bypass = spectral(nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, in_channels, H, W) to (B, out_channels, 2 H, 2 W)."""
        residual: Tensor = self.layers(x)
        bypass: Tensor = self.bypass(x)
        return residual + bypass


class SelfAttention(nn.Module):
    """x + gamma attend(x), with attend(v)_i = sum over j of softmax_j(q_i^T q_j) v_j and q a 1x1 convolution of x.

    Source: Zheng et al., CVPR 2019, Sec. 3.3: queries and keys are the same. Where the paper is silent, as the release:
    queries have a quarter of the channels and no spectral norm, scores are not scaled, and gamma starts at 0.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.query = nn.Conv2d(channels, max(1, channels // 4), 1)
        orthogonal(self.query)

    def attend(self, x: Tensor, values: Sequence[Tensor]) -> list[Tensor]:
        """Return weighted means of each of the values (B, C, H, W), all of one size, by the similarity of x."""
        with full_precision(x):
            joined = torch.cat(list(values), dim=1).float()
            query = self.query(x.to(self.query.weight.dtype)).float().flatten(2).transpose(1, 2)
            means = attention(query, query, joined.flatten(2).transpose(1, 2))
        attended = clone_if_exporting(means.transpose(1, 2)).reshape(joined.shape).to(x)
        return list(attended.tensor_split(len(values), dim=1))

    def forward(self, x: Tensor) -> Tensor:
        """Add attended features to x (B, channels, H, W)."""
        (attended,) = self.attend(x, [x])
        return self.gamma * attended + x


def halving_blocks(channels: Sequence[int]) -> nn.ModuleList:
    """Return blocks from an image to features of these channels, each block with half the height and width."""
    return nn.ModuleList(
        [
            SpectralBlock(3, channels[0], first=True, halve=True),
            *(SpectralBlock(i, o, hidden=i, halve=True) for i, o in pairwise(channels)),
        ]
    )
