"""LPIPS, a perceptual distance of deep features; unavailable without its weights."""

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import lpips
import torch
from torch import Tensor

from src.common.errors import InputError
from src.common.pretrained import VGG16_SHA256, VGG16_URL, PublishedWeights
from src.common.tensor_files import read_tensor_file
from src.metrics.metric import Metric
from src.metrics.scores import LPIPS, LPIPS_SQUEEZE, LPIPS_VGG, Score

ALTERNATIVES = "Without it this score is omitted; the scores that are always computed need no file."

IMAGENET_ALEXNET = PublishedWeights(
    network="AlexNet trained on ImageNet",
    url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    alternatives=ALTERNATIVES,
)
IMAGENET_VGG16 = PublishedWeights("VGG-16 trained on ImageNet", VGG16_URL, VGG16_SHA256, ALTERNATIVES)
IMAGENET_SQUEEZENET = PublishedWeights(
    network="SqueezeNet 1.1 trained on ImageNet",
    url="https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
    sha256="b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
    alternatives=ALTERNATIVES,
)

LINEAR_WEIGHTS = Path(lpips.__path__[0]) / "weights" / "v0.1"


@dataclass(frozen=True)
class Backbone:
    """A network whose features are compared.

    Args:
        net: its name in the lpips package.
        published: returns its published weights.
        metric: the description of the score.
        smallest_px: shortest side of images, below which a layer has no output.
    """

    net: str
    published: Callable[[], PublishedWeights]
    metric: Metric
    smallest_px: int


ALEX = Backbone("alex", lambda: IMAGENET_ALEXNET, LPIPS, smallest_px=31)
VGG = Backbone("vgg", lambda: IMAGENET_VGG16, LPIPS_VGG, smallest_px=16)
SQUEEZE = Backbone("squeeze", lambda: IMAGENET_SQUEEZENET, LPIPS_SQUEEZE, smallest_px=17)


class DeepLPIPS:
    """LPIPS v0.1, through the authors' package, which ships its linear weights.

    Source: Zhang et al., CVPR 2018, arXiv:1801.03924. Deliberately not a Module, so that checkpoints do not contain the
    published network. It moves to the device of its input.

    Args:
        weights: "pretrained" for torchvision's file, otherwise the path of a file with its entries.
    Raises:
        MissingWeightsError: the published file is unavailable.
        InputError: a file is invalid.
    """

    def __init__(self, weights: str = "pretrained", backbone: Backbone = ALEX) -> None:
        self.backbone = backbone
        with torch.device("meta"), warnings.catch_warnings():
            # The package builds a random network with deprecated torchvision arguments: on meta, without its tensors.
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
            self.distance = lpips.LPIPS(net=backbone.net, pnet_rand=True, pretrained=False, verbose=False)
        shapes = {name: tuple(tensor.shape) for name, tensor in self.distance.net.state_dict().items()}
        keys = {name: f"features.{name.partition('.')[2]}" for name in shapes}
        filters = backbone.published().load(weights, {keys[name]: shape for name, shape in shapes.items()})
        # The package's own loading may run pickled code, depending on an environment variable.
        linear = read_tensor_file(LINEAR_WEIGHTS / f"{backbone.net}.pth", "file of LPIPS")
        trunk = {f"net.{name}": filters[key] for name, key in keys.items()}
        self.distance.load_state_dict({**linear, **trunk}, strict=False, assign=True)
        self.distance.requires_grad_(False)

    def __call__(self, prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
        """Return the distance of each image to its truth; shapes and range as in `Score`.

        Raises:
            InputError: the images are smaller than the network's layers allow.
        """
        if min(truth.shape[-2:]) < (least := self.backbone.smallest_px):
            raise InputError(
                f"{self.backbone.metric.label} needs images of at least {least}x{least} pixels, got "
                f"{truth.shape[-2]}x{truth.shape[-1]}: evaluate larger images, or leave this score out (lpips=false)"
            )
        self.distance.to(truth.device)
        values: Tensor = self.distance(prediction, truth, normalize=True)  # normalize: from [0, 1] to [-1, 1]
        return values.flatten()


def lpips_score(weights: str = "pretrained", backbone: Backbone = ALEX) -> Score:
    """Return LPIPS as a score like the others; raises as `DeepLPIPS` does."""
    return Score(**asdict(backbone.metric), function=DeepLPIPS(weights, backbone))
