"""Discriminators of whole images and of their holes: one score per image."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.common.errors import InputError
from src.networks.layers.coarse_to_fine import scaled, to_signed


def _resized(size: int, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Resize image and mask to size x size (nearest)."""
    if image.ndim != 4 or image.shape[1] != 3 or mask.shape != (len(image), 1, *image.shape[-2:]):
        raise ValueError(
            f"image must be (B, 3, H, W) and mask (B, 1, H, W), got {tuple(image.shape)} and {tuple(mask.shape)}"
        )
    return F.interpolate(image, size=(size, size)), F.interpolate(mask, size=(size, size))


class TwoColumnDiscriminator(nn.Module):
    """LBAM's critic: one column gets the known pixels, the other those of the hole.

    Source: Xie et al., ICCV 2019, supplement Table 1 (Table 3 of the arXiv version). Filters are 4x4 with stride 2 and
    padding 1, down to 4x4 features (6 layers at 256x256), with batch norm from the second layer and LeakyReLU(0.2). The
    concatenated columns end in a valid 4x4 convolution ("stride = 0" in the table is a misprint) and a sigmoid.
    Where the paper is silent, as the release: biases, filters from N(0, 0.02^2), images resized to `size` (nearest).

    Args:
        size: height and width of the input of the columns; a power of two >= 8.
        width: factor of the channels 64, 128, 256, 512, 512 ... (at least 8 are kept).
    """

    score_range = (0.0, 1.0)  # of the sigmoid

    def __init__(self, size: int = 256, width: float = 1.0) -> None:
        super().__init__()
        if size < 8 or size & (size - 1):
            raise ValueError(f"size must be a power of two >= 8, got {size}")
        self.size = size
        layers = size.bit_length() - 3  # log2(size / 4)
        channels = [max(8, round(width * min(64 * 2**layer, 512))) for layer in range(layers)]
        self.known_column, self.hole_column = self._column(channels), self._column(channels)
        self.score = nn.Sequential(nn.Conv2d(2 * channels[-1], 1, 4), nn.Sigmoid())
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.02)

    @staticmethod
    def _column(channels: list[int]) -> nn.Sequential:
        layers: list[nn.Module] = []
        for i, o in zip((3, *channels[:-1]), channels, strict=True):
            norm = nn.BatchNorm2d(o) if layers else nn.Identity()
            layers += [nn.Conv2d(i, o, 4, stride=2, padding=1), norm, nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return a score for each image; higher is more real.

        Shapes:
            image (B, 3, H, W) in [0, 1], complete; mask (B, 1, H, W), 1 = known, 0 = hole. Returns (B,) in (0, 1).
        Raises ValueError if a tensor has another shape.
        """
        image, mask = _resized(self.size, image, mask)
        columns = self.known_column(image * mask), self.hole_column(image * (1 - mask))
        score: Tensor = self.score(torch.cat(columns, dim=1))
        return score.flatten()


def leaky_relu() -> nn.Module:
    """Return LeakyReLU(0.2)."""
    return nn.LeakyReLU(0.2)


def unchanged(layer: nn.Module) -> nn.Module:
    """Return the layer."""
    return layer


class _StridedCritic(nn.Module):
    """5x5 convolutions of stride 2 with activations, and a fully connected layer to one score.

    Source: Yu et al., CVPR 2018, appendix D: K5S2C64 - K5S2C128 - ... - fully-connected to 1. Where the paper is
    silent, as the release's PyTorch port: zero padding of 2, biases, images in [-1, 1]. GMCNN has the same layers.

    Args:
        size: height and width of the images.
        channels: channels of each convolution at width 1.
        normalise, activation: as for `GlobalCritic`.
    """

    def __init__(
        self,
        size: int,
        channels: Sequence[int],
        width: float,
        normalise: Callable[[nn.Module], nn.Module],
        activation: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size must be >= 1 (>= 2 for a local window of half the size), got {size}")
        counts = [3, *(scaled(count, width) for count in channels)]
        layers: list[nn.Module] = []
        for i, o in pairwise(counts):
            layers += [normalise(nn.Conv2d(i, o, 5, stride=2, padding=2)), activation()]
        self.features = nn.Sequential(*layers)
        side = -(-size // 2 ** len(channels))  # halved and rounded up by every layer
        self.score = normalise(nn.Linear(counts[-1] * side**2, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Score images (B, 3, size, size) in [-1, 1]; returns (B,)."""
        score: Tensor = self.score(self.features(image).flatten(1))
        return score.flatten()


class GlobalCritic(nn.Module):
    """Contextual attention's global critic; its score is unbounded, as WGAN-GP requires.

    Source: Yu et al., CVPR 2018, Sec. 3 and appendix D, "Global WGAN-GP critic".
    Decision, where the paper is silent: images of another size are resized to `size` (nearest), as the fully connected
    layer fixes the size.

    Args:
        size: height and width of the input.
        width: factor of the channels.
        channels: channels of each convolution at width 1; None for those of appendix D.
        normalise: wraps each convolution and the fully connected layer, for example with spectral norm.
        activation: makes the activation behind each convolution.
    """

    default_channels = (64, 128, 256, 256)
    windows = 1  # number of windows that fit into an image side

    def __init__(
        self,
        size: int = 256,
        width: float = 1.0,
        channels: Sequence[int] | None = None,
        normalise: Callable[[nn.Module], nn.Module] = unchanged,
        activation: Callable[[], nn.Module] = leaky_relu,
    ) -> None:
        super().__init__()
        self.size, self.window = size, size // self.windows
        self.critic = _StridedCritic(self.window, channels or self.default_channels, width, normalise, activation)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return a score for each image; higher is more real.

        Shapes:
            image (B, 3, H, W) in [0, 1], complete; mask (B, 1, H, W), 1 = known, 0 = hole. Returns (B,).
        Raises ValueError if a tensor has another shape.
        """
        scores: Tensor = self.critic(self.look(*_resized(self.size, image, mask)))
        return scores

    def look(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return the critic's view of resized images: (B, 3, size, size) in [-1, 1]."""
        return to_signed(image)


class MaskedLocalCritic(GlobalCritic):
    """Contextual attention's local critic for holes of any shape; its input is the full image, 0 outside the hole.

    Source: Yu et al., CVPR 2018, appendix D, "Local WGAN-GP critic".
    Departs from the paper, whose holes are rectangles and whose local critic gets a crop (`CroppedLocalCritic`): a crop
    around an irregular hole would contain many known pixels.
    """

    default_channels = (64, 128, 256, 512)

    def look(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return the image in [-1, 1], 0 outside the hole."""
        return to_signed(image) * (1 - mask)


class CroppedLocalCritic(GlobalCritic):
    """Contextual attention's local critic for rectangular holes; its input is a window around the hole.

    The window has half the size of the image. It is centred on the bounding box of the hole and shifted to lie inside
    the image; for an image without a hole it is the top left corner.

    Source: Yu et al., CVPR 2018, Sec. 3 (after its ref. [17], "a small area centered at the generated region") and
    appendix D, "Local WGAN-GP critic"; Sec. 5: 256 x 256 with holes up to 128 x 128.
    The last convolution has 512 channels, as in the paper and the TensorFlow code; the PyTorch port has 256.
    The argument `size` is that of the image, twice that of the window.
    """

    default_channels = (64, 128, 256, 512)
    windows = 2

    def look(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return the window around each hole; raises InputError if a hole is larger than the window."""
        longest = max(int((end - first).max()) for first, end in _hole_spans(mask))
        if longest > self.window:
            raise InputError(
                f"a hole spans {longest} px, but CroppedLocalCritic has a window of {self.window} px: use rectangles "
                "up to that size (mask=contextual_attention), or MaskedLocalCritic, which supports any hole "
                "(loss=contextual_attention)"
            )
        return to_signed(_crop_around_hole(image, mask, self.window))


def _hole_spans(mask: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the first row of each hole and the row after its last one, (B,) each, then the same of columns."""
    spans = []
    for dim in (3, 2):
        in_hole = (mask <= 0).any(dim=dim).flatten(1)
        first = in_hole.int().argmax(dim=1)
        spans.append(
            (first, torch.where(in_hole.any(dim=1), in_hole.shape[1] - in_hole.flip(1).int().argmax(dim=1), 0))
        )
    return spans


def _crop_around_hole(image: Tensor, mask: Tensor, window: int) -> Tensor:
    """Crop windows (B, 3, window, window) centred on the bounding boxes of the holes and shifted to lie inside.

    Along a side on which the hole is longer than the window, the window is in the middle of the image.
    """
    within = torch.arange(window, device=image.device)
    rows, columns = (
        torch.where(end - first > window, (side - window) // 2, ((first + end - window) // 2).clamp(0, side - window))
        for (first, end), side in zip(_hole_spans(mask), image.shape[-2:], strict=True)
    )
    samples = torch.arange(len(image), device=image.device)[:, None, None]
    # advanced indexing moves the channels last
    return image.permute(0, 2, 3, 1)[
        samples, (rows[:, None] + within)[:, :, None], (columns[:, None] + within)[:, None, :]
    ].permute(0, 3, 1, 2)


class ContextDiscriminator(nn.Module):
    """GL's discriminator: a branch for the whole image and one for a window around the hole share the last layer.

    5x5 convolutions of stride 2, 64 - 128 - 256 - 512 - 512 (- 512) channels, and a fully connected layer to 1024 in
    each branch.

    Source: Iizuka et al., ACM Transactions on Graphics 36(4), 2017, Sec. 3.3, Table 2: six convolutions for images of
    256x256, five for the window of 128x128.
    Where the paper is silent: padding of 2, as the PyTorch port; other images are resized to `size` (nearest).
    Decisions, where the paper is silent, as its holes are rectangles smaller than the window: the window of an image is
    centred on the bounding box of its hole, for the true image, too (a random window in the paper); along a side on
    which the hole is longer, it is in the middle of the image. The score is a logit, so that the loss can be computed
    without saturation; `activation` nn.Sigmoid gives the paper's.

    Args:
        size: height and width of the image.
        window: height and width of the window; None for half of `size`.
        width: factor of all channels.
        layers: number of convolutions of the global and of the local branch; None for as many as leave 4x4 features,
            which are the paper's for its sizes.
        normalised_last: whether batch norm follows ReLU, as in the port, instead of preceding it.
        activation: makes the activation of the score.
    Raises:
        ValueError: `window` does not lie between 1 and `size`.
    """

    def __init__(
        self,
        size: int = 256,
        window: int | None = None,
        width: float = 1.0,
        layers: tuple[int, int] | None = None,
        normalised_last: bool = False,
        activation: Callable[[], nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        self.size, self.window = size, size // 2 if window is None else window
        if not 1 <= self.window <= size:
            raise ValueError(f"window must lie between 1 and size={size}, got {self.window}")
        hidden = scaled(1024, width)
        self.whole, self.local = (
            _context_branch(side, count, width, normalised_last)
            for side, count in zip((size, self.window), layers or map(_halvings, (size, self.window)), strict=True)
        )
        self.score = nn.Sequential(nn.Linear(2 * hidden, 1), activation())
        if isinstance(self.score[1], nn.Sigmoid):
            self.score_range = (0.0, 1.0)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return a score for each image; as in `GlobalCritic`, with images in [0, 1]."""
        image, mask = _resized(self.size, image, mask)
        local = self.local(_crop_around_hole(image, mask, self.window))
        score: Tensor = self.score(torch.cat([local, self.whole(image)], dim=1))
        return score.flatten()


def _halvings(side: int) -> int:
    """Return how often a side is halved, rounding up, until at most 4 px are left; at least once, at most six times."""
    return min(6, max(1, math.ceil(math.log2(side / 4))))


def _context_branch(side: int, count: int, width: float, normalised_last: bool) -> nn.Sequential:
    channels = [3, *(scaled(c, width) for c in (64, 128, 256, 512, 512, 512)[:count])]
    layers: list[nn.Module] = []
    for i, o in pairwise(channels):
        after = [nn.BatchNorm2d(o), nn.ReLU()]
        layers += [nn.Conv2d(i, o, 5, stride=2, padding=2), *(after[::-1] if normalised_last else after)]
    inputs = channels[-1] * (-(-side // 2**count)) ** 2  # halved and rounded up by every layer
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs, scaled(1024, width)), nn.ReLU())
