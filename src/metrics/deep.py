"""The scores that need pretrained weights, by name."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial

from torch import Tensor
from torchmetrics.functional.image.dists import DISTSNetwork

from src.metrics.lpips import IMAGENET_VGG16, SQUEEZE, VGG, lpips_score
from src.metrics.scores import DISTS, Score


class DeepDISTS:
    """DISTS, through torchmetrics, which ships its weights of the channels; VGG-16 is torchvision's published file.

    Source: Ding et al., TPAMI 2020, arXiv:2004.07728. Not a Module, for the reason in `DeepLPIPS`.
    Raises:
        MissingWeightsError: the published file is unavailable.
        InputError: the file is invalid.
    """

    def __init__(self) -> None:
        IMAGENET_VGG16.fetch()  # verified here, as torchvision loads what it finds in the cache
        self.network = DISTSNetwork()

    def __call__(self, prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
        """Return the distance of each image to its truth; shapes and range as in `Score`."""
        values: Tensor = self.network.to(truth.device)(prediction, truth)
        return values.reshape(len(truth))


def dists_score() -> Score:
    """Return DISTS as a score like the others; raises as `DeepDISTS` does."""
    return Score(**asdict(DISTS), function=DeepDISTS())


DEEP_SCORES: Mapping[str, Callable[[], Score]] = {
    "lpips": lpips_score,
    "lpips_vgg": partial(lpips_score, backbone=VGG),
    "lpips_squeeze": partial(lpips_score, backbone=SQUEEZE),
    "dists": dists_score,
}
"""Functions that load a score; each raises MissingWeightsError if its file is unavailable."""
