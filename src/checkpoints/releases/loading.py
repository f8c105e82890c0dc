"""Load released weights by name: `load("lbam", "LBAM.pth")`."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from src.checkpoints.releases.deepfill_v2 import DEEPFILL_V2, DEEPFILL_V2_DISCRIMINATOR, DEEPFILL_V2_PT
from src.checkpoints.releases.dfnet import DFNET
from src.checkpoints.releases.edge_connect import EDGE_CONNECT, EDGE_CONNECT_DISCRIMINATOR, EDGE_CONNECT_EDGES
from src.checkpoints.releases.edge_lbam import EDGE_LBAM_UNET, MECNET
from src.checkpoints.releases.gl import GL_COMPLETION, GL_DISCRIMINATOR, GL_DISCRIMINATOR_PLACES2, read_mean_pixel
from src.checkpoints.releases.gmcnn import GMCNN_DISCRIMINATORS, GMCNN_NETWORK
from src.checkpoints.releases.lbam import LBAM_DISCRIMINATOR, LBAM_UNET
from src.checkpoints.releases.medfe import MEDFE, MEDFE_DISCRIMINATOR
from src.checkpoints.releases.pconv import PCONV
from src.checkpoints.releases.picnet import PICNET, PICNET_DISCRIMINATOR
from src.checkpoints.releases.two_stage import (
    CONTEXTUAL_ATTENTION,
    CONTEXTUAL_ATTENTION_CRITICS,
    MPGA_GLA,
    MPGA_GLA_DISCRIMINATOR,
)
from src.checkpoints.releases.weights import read_weights
from src.common.errors import InputError
from src.networks.edge_connect import EdgeConnect
from src.networks.edge_lbam import EdgeCompletion, EdgeLBAM
from src.networks.gl import GL
from src.networks.interface import InpaintingNetwork
from src.networks.layers.canny import RELEASED_CANNY
from src.networks.layers.edge_completion import keep_predicted

log = logging.getLogger(__name__)

Source = Mapping[str, Any] | str | Path
"""State dict, dictionary that holds one, or path of a file with either. For releases of several files, their directory
or a dictionary of their paths: see `read_weights`."""

NETWORKS = {
    "lbam": LBAM_UNET,
    "edge_lbam": EDGE_LBAM_UNET,
    "mecnet": MECNET,
    "contextual_attention": CONTEXTUAL_ATTENTION,
    "mpga_gla": MPGA_GLA,
    "pconv": PCONV,
    "dfnet": DFNET,
    "gmcnn": GMCNN_NETWORK,
    "medfe": MEDFE,
    "edge_connect": EDGE_CONNECT,
    "edge_connect_edges": EDGE_CONNECT_EDGES,
    "deepfill_v2": DEEPFILL_V2,
    "deepfill_v2_pt": DEEPFILL_V2_PT,
    "gl": GL_COMPLETION,
    "picnet": PICNET,
}
"""The inpainting networks, and MECNet and EdgeConnect's edge generator, which predict edges."""

CRITICS = {
    "lbam_discriminator": LBAM_DISCRIMINATOR,
    "contextual_attention_critics": CONTEXTUAL_ATTENTION_CRITICS,
    "mpga_gla_discriminator": MPGA_GLA_DISCRIMINATOR,
    "gmcnn_discriminators": GMCNN_DISCRIMINATORS,
    "medfe_discriminator": MEDFE_DISCRIMINATOR,
    "edge_connect_discriminator": EDGE_CONNECT_DISCRIMINATOR,
    "deepfill_v2_discriminator": DEEPFILL_V2_DISCRIMINATOR,
    "gl_discriminator": GL_DISCRIMINATOR,
    "gl_discriminator_places2": GL_DISCRIMINATOR_PLACES2,
    "picnet_discriminator": PICNET_DISCRIMINATOR,
}
"""Discriminators, called with image (B, 3, H, W) in [0, 1] and mask (B, 1, H, W); the second entry holds two."""

RELEASES = NETWORKS | CRITICS

COMPLETIONS: dict[str, tuple[str, Callable[..., InpaintingNetwork]]] = {
    "edge_lbam": ("mecnet", partial(EdgeLBAM, canny=RELEASED_CANNY)),
    "edge_connect": ("edge_connect_edges", partial(EdgeConnect, combine=keep_predicted)),
}
"""By name of a network that needs edges: the release that completes them, and the constructor of both together."""

LAYOUTS = {"deepfill_v2": "deepfill_v2_pt", "gl_discriminator": "gl_discriminator_places2"}
"""Second layouts of releases: a file of the second one also loads by the first one's name."""


def find_layout(name: str, source: Source) -> str:
    """Return the name of the release's layout that a file has: `name`, or its entry in `LAYOUTS`."""
    other = LAYOUTS.get(name)
    return other if other is not None and RELEASES[other].fits(read_weights(source)) else name


def load(
    name: str,
    source: Source,
    completion: Source | None = None,
    mean_pixel: Sequence[float] | str | Path | None = None,
) -> nn.Module:
    """Load a released implementation's weights into our network that computes the same, in eval mode on the CPU.

    Args:
        name: key of `RELEASES`. `edge_lbam` and `edge_connect` without `completion` need edges as an input.
        source: its weights, as in `read_weights`.
        completion: weights of MECNet or of EdgeConnect's edge generator, with which the network predicts its edges.
        mean_pixel: for `gl`: the mean of its training images, three numbers in [0, 1] or the JSON file with the entry
            `mpv` that is published with the weights. None takes ImageNet's mean, with a warning.
    Raises:
        InputError: the release is unknown, or a file is missing, corrupt, or of another release. The message lists
            the names that differ and the releases that the file matches.
    """
    if name not in RELEASES:
        raise InputError(f"unknown release {name!r}; choose one of {', '.join(RELEASES)}")
    if completion is not None and name not in COMPLETIONS:
        raise InputError(f"completion= applies to name={' and '.join(COMPLETIONS)} only, not to {name}: remove it")
    if mean_pixel is not None and name != "gl":
        raise InputError(f"mean_pixel= applies to name=gl only, not to {name}: remove it")
    network = _load(find_layout(name, source), source)
    if isinstance(network, GL):
        if mean_pixel is None:
            log.warning("gl fills holes with ImageNet's mean: pass mean_pixel=, the JSON file of the weights")
        else:
            network.set_mean_pixel(read_mean_pixel(mean_pixel))
    if completion is None:
        return network
    edges_name, combine = COMPLETIONS[name]
    edges = _load(edges_name, completion)
    assert isinstance(edges, EdgeCompletion)
    return combine(edges.completion, network).eval()


def _load(name: str, source: Source) -> nn.Module:
    candidates = read_weights(source)
    try:
        return RELEASES[name].load(candidates)
    except InputError as error:
        origin = "the state dict" if isinstance(source, Mapping) else source
        others = [other for other, release in RELEASES.items() if release.fits(candidates)]
        hint = f". The file matches {' and '.join(others)}" if others else ""
        raise InputError(f"{origin} does not fit {name}: {error}{hint}") from None
