"""Frozen VGG-16 and VGG-19 features, for perceptual and style terms."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.common.errors import InputError
from src.common.pretrained import VGG16_SHA256, VGG16_URL, PublishedWeights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

CHANNELS = (64, 128, 256, 512, 512)
"""Output channels of the 3x3 convolutions of each block, which ends with pooling (Simonyan & Zisserman 2015)."""

ALTERNATIVES = (
    "Or train without the terms that need it (loss.features.weights=none) or with random features "
    "(loss.features.weights=random); both differ from the papers' losses."
)

IMAGENET_VGG16 = PublishedWeights(
    network="VGG-16 trained on ImageNet",
    url=VGG16_URL,
    sha256=VGG16_SHA256,
    alternatives=ALTERNATIVES,
)

IMAGENET_VGG19 = PublishedWeights(
    network="VGG-19 trained on ImageNet",
    url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
    alternatives=ALTERNATIVES,
)


class VGGFeatures(nn.Module):
    """Outputs of layers of a frozen VGG.

    The weights are non-persistent buffers, which would otherwise add 7 MB and more to every checkpoint.

    Args:
        published: torchvision's weights of this VGG.
        convs: number of convolutions in each of the five blocks.
        layers: names of the layers: `relu3_2` is the activation of the second convolution in the third block, `pool3`
            the pooling at its end. Layers beyond the last one are not built.
        weights: "pretrained" for torchvision's file; "random" for He-initialised filters, which need no file; otherwise
            the path of a file with torchvision's entries.
        width: multiplier of the channels; other widths than 1 need random filters.
    Shapes:
        image (B, 3, H, W) in [0, 1], H and W at least 2^n, n the number of poolings before or in the last layer;
        returns the features in the order of the network, H and W halved by each pooling and rounded down, all >= 0.
    Raises:
        MissingWeightsError: the published file is unavailable.
        InputError: a layer, a weight file or the width is invalid.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        published: PublishedWeights,
        convs: Sequence[int],
        layers: Sequence[str],
        weights: str = "pretrained",
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if not width > 0:
            raise InputError(f"loss.features.width must be above 0, got {width}")
        if weights != "random" and width != 1:
            raise InputError(
                f"loss.features.width={width} needs loss.features.weights=random, got {weights}: "
                "pretrained filters have width 1"
            )
        names = [
            name
            for block, count in enumerate(convs, start=1)
            for name in (*(f"relu{block}_{n}" for n in range(1, count + 1)), f"pool{block}")
        ]
        if unknown := sorted(set(layers) - set(names)) or not layers:
            raise InputError(f"loss.features.layers must be among {', '.join(names)}, got {unknown or 'none'}")
        self.layers = frozenset(layers)
        self.names = names[: max(names.index(layer) for layer in layers) + 1]
        shapes: dict[str, tuple[int, ...]] = {}
        in_channels, position = 3, 0  # in torchvision's list, where each convolution is followed by its activation
        for name in self.names:
            if name.startswith("relu"):
                out_channels = max(1, round(width * CHANNELS[int(name[4]) - 1]))
                shapes[f"features.{position}.weight"] = (out_channels, in_channels, 3, 3)
                shapes[f"features.{position}.bias"] = (out_channels,)
                in_channels = out_channels
            position += 2 if name.startswith("relu") else 1
        filters = _he_filters(shapes) if weights == "random" else published.load(weights, shapes)
        for key, value in filters.items():
            self.register_buffer(key.replace(".", "_"), value, persistent=False)  # names must not contain dots
        self.filters = [key.replace(".", "_") for key in shapes if key.endswith("weight")]
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the features by layer, finest first."""
        x, filters, found = (image - self.mean) / self.std, iter(self.filters), []
        for name in self.names:
            if name.startswith("pool"):
                x = F.max_pool2d(x, kernel_size=2)
            else:
                key = next(filters)
                weight, bias = self.get_buffer(key), self.get_buffer(key.replace("weight", "bias"))
                x = F.relu(F.conv2d(x, weight, bias, padding=1))
            if name in self.layers:
                found.append(x)
        return tuple(found)


class VGG16Features(VGGFeatures):
    """Outputs of layers of a frozen VGG-16, by default pool1, pool2 and pool3.

    Source: the default layers are those of Xie et al., ICCV 2019, Eqs. 15 and 16, and of Liu et al., ECCV 2018, Eqs. 3
    to 5.
    """

    def __init__(
        self, weights: str = "pretrained", width: float = 1.0, layers: Sequence[str] = ("pool1", "pool2", "pool3")
    ) -> None:
        super().__init__(IMAGENET_VGG16, (2, 2, 3, 3, 3), layers, weights, width)


class VGG19Features(VGGFeatures):
    """Outputs of layers of a frozen VGG-19."""

    def __init__(self, layers: Sequence[str], weights: str = "pretrained", width: float = 1.0) -> None:
        super().__init__(IMAGENET_VGG19, (2, 2, 4, 4, 4), layers, weights, width)


def vgg16_features(
    weights: str, width: float = 1.0, layers: Sequence[str] = ("pool1", "pool2", "pool3")
) -> VGG16Features | None:
    """Build the feature extractor of a config; None for weights="none", which disables the terms that need it."""
    return None if weights == "none" else VGG16Features(weights, width, layers)


def vgg19_features(weights: str, layers: Sequence[str], width: float = 1.0) -> VGG19Features | None:
    """Build the feature extractor of a config; None for weights="none", which disables the terms that need it."""
    return None if weights == "none" else VGG19Features(layers, weights, width)


def _he_filters(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return normal weights of variance 2 / fan-in, which preserve the scale of features, and zero biases."""
    generator = torch.Generator().manual_seed(0)  # leaves the global random state as it is
    return {
        key: torch.randn(shape, generator=generator) * math.sqrt(2 / math.prod(shape[1:]))
        if len(shape) > 1
        else torch.zeros(shape)
        for key, shape in shapes.items()
    }
