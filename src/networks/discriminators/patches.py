"""Patch discriminators with spectral norm: many scores per image."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from src.common.distributed import draw_rank_consistent, get_rank_and_world_size
from src.networks.layers.coarse_to_fine import ConvBlock, Pad, scaled, to_signed, zero_pad


class SampleDropout(nn.Dropout):
    """Dropout whose mask for a sample does not depend on the number of processes."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply dropout to a tensor whose first dimension is the batch."""
        if not self.training or get_rank_and_world_size()[1] == 1:
            return super().forward(x)
        drop = super().forward
        return x * draw_rank_consistent(lambda samples: drop(x.new_ones(samples, *x.shape[1:])), len(x))


class FeatureVolumeDiscriminator(nn.Module):
    """MPGA/GLA's discriminator: five convolutions; each element of the last features is a score.

    5x5 filters, stride 2, dilation 2, 64 - 128 - 256 - 256 - 256 channels, spectral norm, LeakyReLU(0.2).

    Source: MPGA/GLA (Sensors 2020), Sec. 3.3 and Table A3. With dilation 2, the receptive field is 249 px, which can
    "cover the input image"; without dilation it is 125 px.
    Departs from the table: its last row, "Linear 1 1 1 1", is left out, as Sec. 3.3 uses the feature volume.
    Departs from the release, as the paper does: dilation 2 (1 in the release).
    Departs from Sec. 3.3, as the release: no dropout. Real and fake images would get different dropout masks, and the
    Lorentzian term penalises any difference between their scores. `SampleDropout` is the option.
    Where the paper is silent, as the release: zero padding, LeakyReLU(0.2), biases, and images in [-1, 1].

    Args:
        width: factor of the channels.
        dilation: dilation of all convolutions.
        dropout: makes a layer before the last convolution, so that no score itself is dropped.
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
        """Return a score for each position and channel; higher is more real. The mask is ignored.

        Shapes:
            image (B, 3, H, W) in [0, 1], complete; mask (B, 1, H, W). Returns (B, 256 width, H/32, W/32), rounded up.
        Raises ValueError if the image has another shape.
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"image must be (B, 3, H, W), got {tuple(image.shape)}")
        volume: Tensor = self.features(to_signed(image))
        return volume


leaky = partial(nn.LeakyReLU, 0.2)


class FreeFormDiscriminator(nn.Module):
    """DeepFill v2's discriminator, SN-PatchGAN: each element of the last features is a score, for holes of any shape.

    Six 5x5 filters of stride 2, 64 - 128 - 256 - 256 - 256 - 256 channels, spectral norm, LeakyReLU(0.2); the input is
    the image and the hole.

    Source: Yu et al., ICCV 2019, arXiv:1806.03589, Sec. 3.2 and Fig. 3.
    Departs from the release: no activation after the last convolution, where LeakyReLU shrinks the negative scores that
    the hinge loss wants below -1; spectral norm does not change the weights, and the gradient passes through it.
    Where the paper is silent, as the release: LeakyReLU with slope 0.2, biases, and images in [-1, 1].

    Args:
        width: factor of the channels.
        pad: pads by 2 for a stride of 2; TensorFlow's is `same_pad`.
        last: makes the activation after the last convolution.
    """

    def __init__(self, width: float = 1.0, pad: Pad = zero_pad, last: Callable[[], nn.Module] = nn.Identity) -> None:
        super().__init__()
        counts = [4, *(scaled(count, width) for count in (64, 128, 256, 256, 256, 256))]
        activations: list[Callable[[], nn.Module]] = [*[leaky] * (len(counts) - 2), last]
        self.layers = nn.Sequential(
            *(
                ConvBlock(i, o, 5, stride=2, pad=pad, activation=activation)
                for (i, o), activation in zip(pairwise(counts), activations, strict=True)
            )
        )
        for layer in self.layers:
            assert isinstance(layer, ConvBlock)
            spectral_norm(layer.conv)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return a score for each position and channel; higher is more real.

        Shapes:
            image (B, 3, H, W) in [0, 1], complete; mask (B, 1, H, W), 1 = known, 0 = hole.
            Returns (B, 256 width h w), h and w being H / 64 and W / 64, rounded up; channels first.
        Raises:
            ValueError: a tensor has another shape.
        """
        if image.ndim != 4 or image.shape[1] != 3 or mask.shape != (len(image), 1, *image.shape[-2:]):
            raise ValueError(
                f"image must be (B, 3, H, W) and mask (B, 1, H, W), got {tuple(image.shape)} and {tuple(mask.shape)}"
            )
        volume: Tensor = self.layers(torch.cat([to_signed(image), 1 - mask], dim=1))
        return volume.flatten(1)


class PatchDiscriminator(nn.Module):
    """MECNet's discriminator: a 70x70 PatchGAN on edges and image.

    4x4 filters of stride 2, 2, 2, 1, 1 and 64 - 128 - 256 - 512 - 1 channels; LeakyReLU(0.2) after all but the last.

    Source: Edge-LBAM, Sec. 3.3 ("PatchGAN", "70 x 70"), Eq. 7: the input is edges and the corrupted image.
    Where the paper is silent, as EdgeConnect (Nazeri et al. 2019), on which it builds: spectral norm, no biases,
    initial filters from N(0, 0.02^2).

    Args:
        image_channels: number of image channels.
        width: factor of the channels, except that of the score.
    """

    def __init__(self, image_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        self.layers = _patch_layers(1 + image_channels, width)

    def forward(self, edges: Tensor, image: Tensor) -> tuple[Tensor, ...]:
        """Return the features of each layer for feature matching; the last are the scores, higher is more real.

        Shapes:
            edges (B, 1, H, W) in [0, 1]; image (B, image_channels, H, W) in [0, 1]; H and W >= 24.
            Returns (B, C, h, w) for each layer; scores are (B, 1, H/8 - 2, W/8 - 2), rounded down first.
        Raises ValueError if edges and image differ in batch size, height or width.
        """
        if edges.shape != (len(image), 1, *image.shape[-2:]):
            raise ValueError(
                f"edges must be (B, 1, H, W) for the image, got {tuple(edges.shape)}, {tuple(image.shape)}"
            )
        features, layers = torch.cat([edges, image], dim=1), []
        for layer in self.layers:
            features = layer(features)
            layers.append(features)
        return tuple(layers)


class WindowDiscriminator(nn.Module):
    """MEDFE's discriminators: scores of patches of an image, or of a window of it.

    4x4 filters of stride 2, 64 - 128 - 256 - 512 - 1 channels, spectral norm; LeakyReLU(0.2) after all but the last.

    Source: Liu et al., ECCV 2020, Sec. 3.3: a global and a local discriminator. Where the paper is silent, as the
    release: layers, zero padding of 1, biases, images in [-1, 1]; in training the local window is at a random
    position, not at the hole. In eval mode it is the centre of the image.

    Args:
        width: factor of the channels, except that of the score.
        window: sides of the window over those of the image, 0.25 in the release; at least 32 px are kept, as
            five convolutions of stride 2 need them. None for the whole image.
    """

    def __init__(self, width: float = 1.0, window: float | None = None) -> None:
        super().__init__()
        counts = [3, *(scaled(count, width) for count in (64, 128, 256, 512)), 1]
        layers: list[nn.Module] = []
        for i, o in pairwise(counts):
            conv = nn.Conv2d(i, o, 4, stride=2, padding=1)
            nn.init.normal_(conv.weight, std=0.02)
            layers += [spectral_norm(conv), nn.LeakyReLU(0.2)]
        self.layers, self.window = nn.Sequential(*layers[:-1]), window

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return scores of patches; higher is more real. The mask is ignored.

        Shapes:
            image (B, 3, H, W) in [0, 1], complete, H and W >= 32; mask (B, 1, H, W). Returns (B, 1, h, w), H / 32 and
            W / 32 of the window, rounded down.
        """
        scores: Tensor = self.layers(to_signed(image if self.window is None else self._cut(image, self.window)))
        return scores

    def _cut(self, image: Tensor, window: float) -> Tensor:
        sides = [max(32, round(window * side)) for side in image.shape[-2:]]
        free = [side - cut for side, cut in zip(image.shape[-2:], sides, strict=True)]
        starts = image.new_full((len(image), 2), 0.5)
        if self.training:
            starts = draw_rank_consistent(lambda samples: torch.rand(samples, 2, device=image.device), len(image))
        rows, columns = (
            (start * (space + 1)).long()[:, None] + torch.arange(side, device=image.device)
            for start, space, side in zip(starts.unbind(1), free, sides, strict=True)
        )
        samples = torch.arange(len(image), device=image.device)[:, None, None]
        # advanced indexing moves the channels last
        return image.permute(0, 2, 3, 1)[samples, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class ImagePatchDiscriminator(nn.Module):
    """EdgeConnect's discriminator of images: the 70x70 PatchGAN of `PatchDiscriminator`, on an image and its edges.

    Source: Nazeri et al., arXiv:1901.00212, Sec. 3.2: the composite edge map is its condition. The release's sees the
    image alone.

    Args:
        edge_channels: number of channels of the condition; 0 in the release.
        width: factor of the channels, except that of the score.
    """

    def __init__(self, edge_channels: int = 1, width: float = 1.0) -> None:
        super().__init__()
        self.edge_channels = edge_channels
        self.layers = _patch_layers(3 + edge_channels, width)

    def forward(self, image: Tensor, edges: Tensor) -> Tensor:
        """Return scores, the logits of a sigmoid; higher is more real.

        Shapes:
            image (B, 3, H, W) in [0, 1], complete, H and W >= 24; edges (B, 1, H, W) in [0, 1], not read if
            `edge_channels` is 0. Returns (B, 1, H/8 - 2, W/8 - 2), rounded down first.
        """
        scores = torch.cat([image, edges[:, : self.edge_channels].to(image)], dim=1)
        for layer in self.layers:
            scores = layer(scores)
        return scores


def _patch_layers(in_channels: int, width: float) -> nn.ModuleList:
    """Build the layers of a 70x70 PatchGAN."""
    counts = [in_channels, *(scaled(count, width) for count in (64, 128, 256, 512)), 1]
    layers = nn.ModuleList()
    for (i, o), stride in zip(pairwise(counts), (2, 2, 2, 1, 1), strict=True):
        conv = nn.Conv2d(i, o, 4, stride=stride, padding=1, bias=False)
        nn.init.normal_(conv.weight, std=0.02)
        layers.append(nn.Sequential(spectral_norm(conv), nn.LeakyReLU(0.2) if o > 1 else nn.Identity()))
    return layers
