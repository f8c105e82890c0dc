"""Frozen VGG-16 features up to the third pooling layer, for perceptual and style terms."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.common.errors import InputError
from src.common.pretrained import PublishedWeights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

BLOCKS = ((64, 64), (128, 128), (256, 256, 256))
"""Output channels of VGG-16's 3x3 convolutions; each block ends with pooling (Simonyan & Zisserman 2015)."""

LAYERS = (0, 2, 5, 7, 10, 12, 14)
"""Indices of these convolutions in torchvision's state dict: features.0.weight, features.0.bias, ..."""

IMAGENET_VGG16 = PublishedWeights(
    network="VGG-16 trained on ImageNet",
    url="https://download.pytorch.org/models/vgg16-397923af.pth",
    sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    alternatives="Or train without the terms that need it (loss.features.weights=none) or with random features "
    "(loss.features.weights=random); both differ from the papers' losses.",
)


class VGG16Features(nn.Module):
    """Outputs of pool1, pool2 and pool3 of a frozen VGG-16.

    Source: the layers of Xie et al., ICCV 2019, Eqs. 15 and 16, and of Liu et al., ECCV 2018, Eqs. 3 to 5.
    The weights are non-persistent buffers, which would otherwise add 7 MB to every checkpoint.

    Args:
        weights: "pretrained" for torchvision's vgg16-397923af.pth; "random" for He-initialised filters, which
            need no file; otherwise the path of a file with torchvision's entries.
        width: multiplier of VGG-16's channels; other widths than 1 need random filters.
    Shapes:
        image (B, 3, H, W) in [0, 1], H and W at least 8; returns (B, 64 width, H/2, W/2), (B, 128 width, H/4, W/4) and
        (B, 256 width, H/8, W/8), rounded down, all >= 0.
    Raises:
        MissingWeightsError: the published file is unavailable.
        InputError: a weight file or the width is invalid.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: str = "pretrained", width: float = 1.0) -> None:
        super().__init__()
        if not width > 0:
            raise InputError(f"loss.features.width must be above 0, got {width}")
        if weights != "random" and width != 1:
            raise InputError(
                f"loss.features.width={width} needs loss.features.weights=random, got {weights}: "
                "pretrained filters have width 1"
            )
        channels = [3, *(max(1, round(width * count)) for block in BLOCKS for count in block)]
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (in_channels, out_channels) in zip(LAYERS, pairwise(channels), strict=True):
            shapes[f"features.{layer}.weight"] = (out_channels, in_channels, 3, 3)
            shapes[f"features.{layer}.bias"] = (out_channels,)
        filters = _he_filters(shapes) if weights == "random" else IMAGENET_VGG16.load(weights, shapes)
        for key, value in filters.items():
            self.register_buffer(key.replace(".", "_"), value, persistent=False)  # names must not contain dots
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the features by layer, finest first."""
        features, layers, pooled = (image - self.mean) / self.std, iter(LAYERS), []
        for block in BLOCKS:
            for _ in block:
                layer = next(layers)
                weight, bias = (self.get_buffer(f"features_{layer}_{part}") for part in ("weight", "bias"))
                features = F.relu(F.conv2d(features, weight, bias, padding=1))
            features = F.max_pool2d(features, kernel_size=2)
            pooled.append(features)
        return tuple(pooled)


def vgg16_features(weights: str, width: float = 1.0) -> VGG16Features | None:
    """Build the feature extractor of a config; None for weights="none", which disables the terms that need it."""
    return None if weights == "none" else VGG16Features(weights, width)


def _he_filters(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return normal weights of variance 2 / fan-in, which preserve the scale of features, and zero biases."""
    generator = torch.Generator().manual_seed(0)  # leaves the global random state as it is
    return {
        key: torch.randn(shape, generator=generator) * math.sqrt(2 / math.prod(shape[1:]))
        if len(shape) > 1
        else torch.zeros(shape)
        for key, shape in shapes.items()
    }
