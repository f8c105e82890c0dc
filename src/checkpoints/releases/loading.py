"""Released weights in, networks of this suite out: `load("lbam", "LBAM.pth")`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from src.checkpoints.releases.edge_lbam import EDGE_LBAM_UNET, MECNET
from src.checkpoints.releases.lbam import LBAM_DISCRIMINATOR, LBAM_UNET
from src.checkpoints.releases.pconv import PCONV
from src.checkpoints.releases.two_stage import (
    CONTEXTUAL_ATTENTION,
    CONTEXTUAL_ATTENTION_CRITICS,
    MPGA_GLA,
    MPGA_GLA_DISCRIMINATOR,
)
from src.checkpoints.releases.weights import read_weights
from src.common.errors import InputError
from src.networks.edge_lbam import EdgeCompletion, EdgeLBAM
from src.networks.lbam import LBAM
from src.networks.ops.canny import RELEASED_CANNY

Source = Mapping[str, Any] | str | Path
"""A state dict, a dictionary that holds one, or the path of a file of either."""

NETWORKS = {
    "lbam": LBAM_UNET,
    "edge_lbam": EDGE_LBAM_UNET,
    "mecnet": MECNET,
    "contextual_attention": CONTEXTUAL_ATTENTION,
    "mpga_gla": MPGA_GLA,
    "pconv": PCONV,
}
"""Those that paint, and MECNet, which predicts edges: each an `InpaintingNetwork`."""

CRITICS = {
    "lbam_discriminator": LBAM_DISCRIMINATOR,
    "contextual_attention_critics": CONTEXTUAL_ATTENTION_CRITICS,
    "mpga_gla_discriminator": MPGA_GLA_DISCRIMINATOR,
}
"""Called with image (B, 3, H, W) in [0, 1] and mask (B, 1, H, W), as every critic here; the second holds two."""

RELEASES = NETWORKS | CRITICS


def load(name: str, source: Source, completion: Source | None = None) -> nn.Module:
    """A released implementation's weights in our network that computes the same; in eval mode, on the CPU.

    Sources: the authors' code for LBAM, Edge-LBAM (with MECNet) and MPGA/GLA; for contextual attention its common
    PyTorch port, and for PConv its common re-implementation.

    Args:
        name: of `RELEASES`. `edge_lbam` alone is the U-Net, which must be given edges; `contextual_attention_critics`
            are a module of two, `global` and `local`.
        source: its weights. Files are read without running any code in them. DataParallel's prefixes and what
            wraps a state dict (`{"generator": ..., "iteration": ...}`) are seen through.
        completion: MECNet's weights: with them `edge_lbam` is the whole of it, and finds its edges itself.
    Raises:
        InputError: there is no such release; a file is missing, damaged, or not of this release: the message says
            which names are missing, unexpected or of another shape, and which release's they are.
    """
    if name not in RELEASES:
        raise InputError(f"there is no release {name!r}: choose one of {', '.join(RELEASES)}")
    if completion is not None and name != "edge_lbam":
        raise InputError(f"completion= is for edge_lbam alone, which MECNet gives edges; got it for {name}")
    network = _load(name, source)
    if completion is None:
        return network
    completing = _load("mecnet", completion)
    assert isinstance(network, LBAM)
    assert isinstance(completing, EdgeCompletion)
    return EdgeLBAM(completing.completion, network, RELEASED_CANNY).eval()


def _load(name: str, source: Source) -> nn.Module:
    readings = read_weights(source)
    try:
        return RELEASES[name].load(readings)
    except InputError as error:
        origin = "the state dict" if isinstance(source, Mapping) else source
        others = [other for other, release in RELEASES.items() if release.fits(readings)]
        hint = f". It is of {' and '.join(others)}" if others else ""
        raise InputError(f"{origin} does not fit {name}: {error}{hint}") from None
