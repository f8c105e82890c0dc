"""LPIPS, a perceptual distance of deep features; unavailable without its weights."""

import warnings
from dataclasses import asdict
from pathlib import Path

import lpips
import torch
from torch import Tensor

from src.common.pretrained import PublishedWeights
from src.common.tensor_files import read_tensor_file
from src.metrics.scores import LPIPS, Score

IMAGENET_ALEXNET = PublishedWeights(
    network="AlexNet trained on ImageNet",
    url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    alternatives="Without it LPIPS is omitted; the other metrics need no file.",
)

FILTER_SHAPES = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
"""AlexNet's convolutions by their index in torchvision's state dict; one per slice of the lpips package."""

LINEAR_WEIGHTS = Path(lpips.__path__[0]) / "weights" / "v0.1" / "alex.pth"


class AlexLPIPS:
    """LPIPS v0.1 on AlexNet, through the authors' package, which ships its linear weights.

    Source: Zhang et al., CVPR 2018, arXiv:1801.03924. Deliberately not a Module, so that checkpoints do not contain the
    published network. It moves to the device of its input.

    Args:
        weights: "pretrained" for torchvision's alexnet-owt-7be5be79.pth, otherwise the path of a file with its entries.
    Raises:
        MissingWeightsError: the published file is unavailable.
        InputError: a file is invalid.
    """

    def __init__(self, weights: str = "pretrained") -> None:
        shapes: dict[str, tuple[int, ...]] = {}
        for number, shape in FILTER_SHAPES.items():
            shapes[f"features.{number}.weight"], shapes[f"features.{number}.bias"] = shape, shape[:1]
        filters = IMAGENET_ALEXNET.load(weights, shapes)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # The package builds a random AlexNet with deprecated torchvision arguments; its weights are replaced below.
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
            self.distance = lpips.LPIPS(net="alex", pnet_rand=True, pretrained=False, verbose=False)
        # The package's own loading may run pickled code, depending on an environment variable.
        self.distance.load_state_dict(read_tensor_file(LINEAR_WEIGHTS, "file of LPIPS"), strict=False)
        slices = {number: index for index, number in enumerate(FILTER_SHAPES, start=1)}
        trunk = {
            f"slice{slices[number]}.{number}.{part}": filters[f"features.{number}.{part}"]
            for number in FILTER_SHAPES
            for part in ("weight", "bias")
        }
        self.distance.net.load_state_dict(trunk)
        self.distance.requires_grad_(False)

    def __call__(self, prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
        """Return the distance of each image to its truth; shapes and range as in `Score`."""
        self.distance.to(truth.device)
        values: Tensor = self.distance(prediction, truth, normalize=True)  # normalize: from [0, 1] to [-1, 1]
        return values.flatten()


def lpips_score(weights: str = "pretrained") -> Score:
    """Return LPIPS as a score like the others; raises as `AlexLPIPS` does."""
    return Score(**asdict(LPIPS), function=AlexLPIPS(weights))
