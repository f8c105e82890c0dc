"""LPIPS: the distance of deep features that people's judgements calibrated; a score only where its weights are."""

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
    otherwise="Without it there is no LPIPS; the other metrics need no file.",
)

FILTER_SHAPES = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
"""AlexNet's convolutions by their number in torchvision's state dict; one in each of the lpips package's slices."""

LINEAR_WEIGHTS = Path(lpips.__path__[0]) / "weights" / "v0.1" / "alex.pth"


class AlexLPIPS:
    """LPIPS v0.1 on AlexNet, through the authors' package, which ships its linear weights.

    Source: Zhang et al., CVPR 2018, arXiv:1801.03924. Not a Module on purpose: a published network is no part of a
    checkpoint. It follows its input to the input's device.

    Args:
        weights: "pretrained" for torchvision's alexnet-owt-7be5be79.pth, else the path of a file with its entries.
    Raises:
        MissingWeightsError: the published file can't be had. InputError: a file can't be used.
    """

    def __init__(self, weights: str = "pretrained") -> None:
        shapes: dict[str, tuple[int, ...]] = {}
        for number, shape in FILTER_SHAPES.items():
            shapes[f"features.{number}.weight"], shapes[f"features.{number}.bias"] = shape, shape[:1]
        filters = IMAGENET_ALEXNET.load(weights, shapes)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # The package first draws a random AlexNet, all of it replaced below, through torchvision's old arguments.
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
            self.distance = lpips.LPIPS(net="alex", pnet_rand=True, pretrained=False, verbose=False)
        # The package would load them by torch.load's default, which an environment variable makes run pickled code.
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
        """The distance of every image from its truth; shapes and range as in `Score`."""
        self.distance.to(truth.device)
        values: Tensor = self.distance(prediction, truth, normalize=True)  # normalize: [0, 1] to the package's [-1, 1]
        return values.flatten()


def lpips_score(weights: str = "pretrained") -> Score:
    """Return LPIPS as a score like the others; raises as `AlexLPIPS` does."""
    return Score(**asdict(LPIPS), function=AlexLPIPS(weights))
