"""PICNet's discriminator: residual blocks with self-attention."""

from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.coarse_to_fine import to_signed
from src.networks.layers.spectral_blocks import (
    SLOPE,
    SelfAttention,
    SpectralBlock,
    halving_blocks,
    level_channels,
    spectral,
)


class ResidualDiscriminator(nn.Module):
    """Scores of overlapping parts of an image, by residual blocks as in PICNet's encoder, and one of self-attention.

    Spectral norm in all convolutions but the queries of the attention; LeakyReLU(0.1).

    Source: Zheng et al., CVPR 2019, arXiv:1903.04227, Sec. 3.2 (two discriminators, one for each path). Where the paper
    is silent, as the release: layers, whose last is a valid 3x3 convolution, and images in [-1, 1].

    Args:
        width: factor of the channels 32, 64, 128 (at least 4 are kept).
        levels: number of halvings, at least 3; 5 for images of 256x256, which get 6x6 scores. The attention follows the
            third coarsest level.
    """

    def __init__(self, width: float = 1.0, levels: int = 5) -> None:
        super().__init__()
        channels = level_channels(levels, width)
        self.blocks = halving_blocks(channels)
        self.attention = SelfAttention(channels[-3])
        self.last = SpectralBlock(channels[-1], channels[-1])
        self.score = nn.Sequential(nn.LeakyReLU(SLOPE), spectral(nn.Conv2d(channels[-1], 1, 3)))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return scores of parts; higher is more real. The mask is ignored.

        Shapes:
            image (B, 3, H, W) in [0, 1], complete; mask (B, 1, H, W).
            Returns (B, 1, H / 2^levels - 2, W / 2^levels - 2), rounded down first, and at least 1: features of less
            than 3x3 are padded by repeating the last row and column.
        """
        x = to_signed(image)
        for level, block in enumerate(self.blocks, start=1):
            x = block(x)
            if level == len(self.blocks) - 2:
                x = self.attention(x)
        bottom, right = (max(0, 3 - side) for side in x.shape[-2:])
        scores: Tensor = self.score(F.pad(self.last(x), (0, right, 0, bottom), mode="replicate"))
        return scores
