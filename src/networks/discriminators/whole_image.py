"""Discriminators of whole images and of their holes: one score per image."""

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
        hole = mask <= 0
        rows, columns = (_window(hole.any(dim=dim).flatten(1), self.window) for dim in (3, 2))
        samples = torch.arange(len(image), device=image.device)[:, None, None]
        # advanced indexing moves the channels last
        return to_signed(image.permute(0, 2, 3, 1)[samples, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2))


def _window(in_hole: Tensor, window: int) -> Tensor:
    """Return the rows (or columns) of a window centred on the hole: (B, size), boolean, to (B, window)."""
    size = in_hole.shape[1]
    first = in_hole.int().argmax(dim=1)
    end = torch.where(in_hole.any(dim=1), size - in_hole.flip(1).int().argmax(dim=1), 0)
    if bool((end - first > window).any()):
        raise InputError(
            f"a hole spans {int((end - first).max())} px, but CroppedLocalCritic has a window of {window} px: use "
            "rectangles up to that size (mask=contextual_attention), or MaskedLocalCritic, which supports any hole "
            "(loss=contextual_attention)"
        )
    start = ((first + end - window) // 2).clamp(0, size - window)
    return start[:, None] + torch.arange(window, device=in_hole.device)
