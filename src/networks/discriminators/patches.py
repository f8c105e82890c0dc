"""Discriminators that judge places of a picture: many scores an image, spectrally normalised."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from src.common.distributed import draw_rank_consistent, get_rank_and_world_size
from src.networks.layers.coarse_to_fine import scaled, to_signed


class SampleDropout(nn.Dropout):
    """Dropout that a sample meets alike however many processes share its batch."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) or any other shape with the samples first."""
        if not self.training or get_rank_and_world_size()[1] == 1:
            return super().forward(x)
        drop = super().forward
        return x * draw_rank_consistent(lambda samples: drop(x.new_ones(samples, *x.shape[1:])), len(x))


class FeatureVolumeDiscriminator(nn.Module):
    """MPGA/GLA's discriminator: five convolutions whose last features, each element by itself, say how real a place is.

    5x5 filters, stride 2, dilation 2, 64 - 128 - 256 - 256 - 256 channels, spectral norm, LeakyReLU(0.2) after each.

    Source: MPGA/GLA (Sensors 2020), Sec. 3.3 and Table A3. Its dilation makes the receptive field
    1 + 8 (1 + 2 + 4 + 8 + 16) = 249 px, and so lets it "cover the input image", which 125 px without it would not.
    Departs from the table: no last row, "Linear 1 1 1 1", as Sec. 3.3 applies the GAN to the feature volume itself.
    Departs from the release, as the paper does: dilation (dilation=1 there).
    Departs from Sec. 3.3, as the release: no dropout. Real and fake images would meet different dropout masks, and the
    Lorentzian term has a price for each difference of their scores, so that the discriminator keeps all scores close.
    `SampleDropout` is the option.
    Decisions where the paper is silent: zero padding that halves the size; as the release, LeakyReLU's slope 0.2,
    biases, [-1, 1].

    Args:
        width: multiplies the channels.
        dropout: makes the layer in front of the last convolution, so that no score itself is dropped.
    """

    def __init__(self, width: float = 1.0, dilation: int = 2, dropout: Callable[[], nn.Module] = nn.Identity) -> None:
        super().__init__()
        counts = [3, *(scaled(count, width) for count in (64, 128, 256, 256, 256))]
        convs = [
            spectral_norm(nn.Conv2d(i, o, 5, stride=2, padding=2 * dilation, dilation=dilation))
            for i, o in pairwise(counts)
        ]
        layers: list[nn.Module] = [layer for conv in convs[:-1] for layer in (conv, nn.LeakyReLU(0.2))]
        self.features = nn.Sequential(*layers, dropout(), convs[-1], nn.LeakyReLU(0.2))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Score each place of each image in every channel; the higher, the more real. The mask is not looked at.

        Shapes:
            image (B, 3, H, W) in [0, 1], complete; mask (B, 1, H, W). Returns (B, 256 width, H/32, W/32), rounded up.
        Raises:
            ValueError: the image's shape is not as above.
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"image must be (B, 3, H, W), got {tuple(image.shape)}")
        volume: Tensor = self.features(to_signed(image))
        return volume


class PatchDiscriminator(nn.Module):
    """MECNet's discriminator: each score judges a patch of 70 x 70 edges and pixels.

    4x4 filters of stride 2, 2, 2, 1, 1 and 64 - 128 - 256 - 512 - 1 channels; LeakyReLU(0.2) after all but the last.

    Source: Edge-LBAM, Sec. 3.3 ("PatchGAN", "70 x 70"), Eq. 7: it sees edges beside the corrupted image.
    Where the paper is silent, as EdgeConnect (Nazeri et al. 2019), which it builds on: spectral norm, no biases,
    filters start as N(0, 0.02^2).

    Args:
        image_channels: of what stands beside the edges.
        width: multiplies the channels, but for the score's.
    """

    def __init__(self, image_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        counts = [1 + image_channels, *(scaled(count, width) for count in (64, 128, 256, 512)), 1]
        self.layers = nn.ModuleList()
        for (i, o), stride in zip(pairwise(counts), (2, 2, 2, 1, 1), strict=True):
            conv = nn.Conv2d(i, o, 4, stride=stride, padding=1, bias=False)
            nn.init.normal_(conv.weight, std=0.02)
            activation = nn.LeakyReLU(0.2) if o > 1 else nn.Identity()
            self.layers.append(nn.Sequential(spectral_norm(conv), activation))

    def forward(self, edges: Tensor, image: Tensor) -> tuple[Tensor, ...]:
        """Each layer's features, for feature matching; the last are the scores: the higher, the more real.

        Shapes:
            edges (B, 1, H, W) in [0, 1]; image (B, image_channels, H, W) in [0, 1]; H and W at least 24.
            Returns (B, C, h, w) for each layer; scores are (B, 1, H/8 - 2, W/8 - 2), rounded down first.
        Raises:
            ValueError: edges and image differ in number, height or width.
        """
        if edges.shape != (len(image), 1, *image.shape[-2:]):
            raise ValueError(f"edges must be (B, 1, H, W) as the image, got {tuple(edges.shape)}, {tuple(image.shape)}")
        features, layers = torch.cat([edges, image], dim=1), []
        for layer in self.layers:
            features = layer(features)
            layers.append(features)
        return tuple(layers)
