"""Features of Inception v3 for FID, KID, U-IDS and P-IDS, from two published weight files; unavailable without them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import inception as torchvision_inception

from src.common.pretrained import PublishedWeights
from src.metrics.lpips import ALTERNATIVES

FEATURES = 2048
SIDE_PX = 299

PYTORCH_FID = PublishedWeights(
    network="Inception v3 of pytorch-fid",
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    alternatives=ALTERNATIVES,
)
NVIDIA = PublishedWeights(
    network="Inception v3 of StyleGAN2-ADA",
    url="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    alternatives=ALTERNATIVES,
)

FeatureExtractor = Callable[[Tensor], Tensor]
"""From images (B, 3, H, W) in [0, 1] to features (B, 2048)."""


class PytorchFIDFeatures:
    """Features as pytorch-fid computes them: bilinear resizing to 299x299 without antialiasing, inputs in [-1, 1].

    Outputs are rounded to 8 bits first, as pytorch-fid reads image files. Not a Module, for the reason in `DeepLPIPS`.
    Source: Seitzer's pytorch-fid, the features of LaMa's, ZITS's and AOT-GAN's FID.

    Args:
        weights: "pretrained" for the published file, otherwise the path of a file with its entries.
    Raises:
        MissingWeightsError: the published file is unavailable.
        InputError: a file is invalid.
    """

    def __init__(self, weights: str = "pretrained") -> None:
        self.network = fid_inception()
        shapes = {name: tuple(tensor.shape) for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(PYTORCH_FID.load(weights, shapes))
        self.network.fc = nn.Identity()

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Return the features; see `FeatureExtractor`."""
        resized = F.interpolate(_to_8_bits(image) / 255, (SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False)
        features: Tensor = self.network.to(image.device)(2 * resized - 1)
        return features


class NvidiaFeatures:
    """Features of NVIDIA's TorchScript file, which resizes and scales 8-bit images itself.

    The file is a program, so only the published one is loaded, after its SHA-256 was verified.
    Source: Karras et al., StyleGAN2-ADA, the features of CoModGAN's and MAT's FID, P-IDS and U-IDS.
    Raises:
        MissingWeightsError: the published file is unavailable.
        InputError: the file is not the published one.
    """

    def __init__(self) -> None:
        program: nn.Module = torch.jit.load(str(NVIDIA.fetch()), map_location="cpu")  # type: ignore[no-untyped-call]
        self.network = program.eval()

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Return the features; see `FeatureExtractor`."""
        network = self.network.to(image.device)
        features: Tensor = network(_to_8_bits(image).to(torch.uint8), return_features=True)
        return features


EXTRACTORS: Mapping[str, Callable[[], FeatureExtractor]] = {
    "pytorch_fid": PytorchFIDFeatures,
    "nvidia": NvidiaFeatures,
}
"""Functions that load an extractor by name; each raises MissingWeightsError if its file is unavailable."""


class _RedonePooling:
    """Replaces the average pooling of a block, whose branch comes last: TensorFlow's does not count the padding."""

    branch_pool: nn.Module
    pool = staticmethod(partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False))

    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(self.pool(x))]  # type: ignore[misc]


class _BlockA(_RedonePooling, torchvision_inception.InceptionA):  # type: ignore[misc]  # torchvision is not typed
    pass


class _BlockC(_RedonePooling, torchvision_inception.InceptionC):  # type: ignore[misc]
    pass


class _BlockE(_RedonePooling, torchvision_inception.InceptionE):  # type: ignore[misc]
    pass


def fid_inception() -> nn.Module:
    """Return the Inception v3 of TensorFlow's FID, without weights, in eval mode; its last layer has 1,008 outputs.

    Departs from torchvision's: average pooling without the padding, and a maximum in the last block.
    """
    blocks = [
        torchvision_inception.BasicConv2d, _BlockA, torchvision_inception.InceptionB, _BlockC,
        torchvision_inception.InceptionD, _BlockE, torchvision_inception.InceptionAux,
    ]  # fmt: skip
    network: Any = torchvision_inception.Inception3(
        num_classes=1008, aux_logits=False, transform_input=False, inception_blocks=blocks, init_weights=False
    )
    network.Mixed_7c.pool = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
    found: nn.Module = network.eval().requires_grad_(False)
    return found


def _to_8_bits(image: Tensor) -> Tensor:
    return (255 * image.clamp(0, 1)).round()
