"""Parameter names of DeepFill v2's PyTorch port: converted weights, those trained in PyTorch, and the discriminator."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch.nn import functional as F

from src.checkpoints.releases.release import SPECTRAL_NORM, Release
from src.checkpoints.releases.two_stage import DECODER, DILATED, ENCODER
from src.checkpoints.releases.weights import Weights
from src.common.errors import InputError
from src.networks.deepfill_v2 import released_deepfill_v2, released_deepfill_v2_pt, same_pad
from src.networks.discriminators.patches import FreeFormDiscriminator, leaky

UPSAMPLED = DECODER | {3: "13_upsample.conv", 6: "15_upsample.conv"}


def _names(parts: Mapping[str, tuple[str, Sequence[str] | Mapping[int, str]]]) -> dict[str, str]:
    """Return our module names to the release's, from the release's prefix and names of each of our parts."""
    return {
        f"{ours}.{place}": f"{prefix}{name}"
        for ours, (prefix, names) in parts.items()
        for place, name in (names.items() if isinstance(names, Mapping) else enumerate(names))
    }


DEEPFILL_V2 = Release(
    released_deepfill_v2,
    _names(
        {
            "coarse.layers.0": ("conv", ENCODER),
            "coarse.layers.1": ("conv", DILATED),
            "coarse.layers.2": ("conv", UPSAMPLED),
            "refinement.hallucinate.0": ("xconv", ENCODER),
            "refinement.hallucinate.1": ("xconv", DILATED),
            "refinement.before_attention": ("pmconv", ENCODER),
            "refinement.after_attention": ("pmconv", ("9", "10")),
            "refinement.decode": ("allconv", UPSAMPLED),
        }
    ),
)
"""Layout `networks_tf`: weights converted from the authors' TensorFlow files."""

PT_ENCODER = ("conv1", *(f"down_block{n}.{part}" for n in (1, 2) for part in ("conv1_downsample", "conv2")), "conv_bn1")
PT_DILATED = tuple(f"conv_bn{n}" for n in range(2, 6))
PT_DECODER = {
    0: "conv_bn6",
    1: "conv_bn7",
    3: "up_block1.conv1_upsample.conv",
    4: "up_block1.conv2",
    6: "up_block2.conv1_upsample.conv",
    7: "up_block2.conv2",
    8: "conv_to_rgb",
}
FUSE_WEIGHT = "stage2.contextual_attention.fuse_weight"


def _without_fuse_weight(weights: Weights) -> Weights:
    """Remove the filter of the fusion, which our attention has built in."""
    identity = torch.eye(3).view(1, 1, 3, 3)
    if FUSE_WEIGHT in weights and not torch.equal(weights[FUSE_WEIGHT].float(), identity):
        raise InputError(f"{FUSE_WEIGHT} must be the 3x3 identity: the network has this value built in")
    return {name: tensor for name, tensor in weights.items() if name != FUSE_WEIGHT}


DEEPFILL_V2_PT = Release(
    released_deepfill_v2_pt,
    _names(
        {
            "coarse.layers.0": ("stage1.", PT_ENCODER),
            "coarse.layers.1": ("stage1.", PT_DILATED),
            "coarse.layers.2": ("stage1.", PT_DECODER),
            "refinement.hallucinate.0": ("stage2.conv_", PT_ENCODER),
            "refinement.hallucinate.1": ("stage2.conv_", PT_DILATED),
            "refinement.before_attention": ("stage2.ca_", PT_ENCODER),
            "refinement.after_attention": ("stage2.ca_", ("conv_bn4", "conv_bn5")),
            "refinement.decode": ("stage2.", PT_DECODER),
        }
    ),
    convert=_without_fuse_weight,
)
"""Layout `networks`: weights that the author of the port trained on."""


def _with_both_singular_vectors(weights: Weights) -> Weights:
    """Add the right singular vectors, which the release recomputes in each forward pass."""
    converted = dict(weights)
    for name in [name for name in weights if name.endswith(".weight_u")]:
        left, filters = weights[name].flatten(), weights.get(name.removesuffix("_u"))
        if filters is not None and filters.ndim and len(filters) == len(left):
            converted |= {name: left, f"{name[:-1]}v": F.normalize(filters.flatten(1).float().T @ left.float(), dim=0)}
    return converted


DEEPFILL_V2_DISCRIMINATOR = Release(
    partial(FreeFormDiscriminator, pad=same_pad, last=leaky),
    {f"layers.{n}.conv": f"conv{n + 1}.conv_sn" for n in range(6)},
    parameters=SPECTRAL_NORM | {"parametrizations.weight.original": "weight"},
    convert=_with_both_singular_vectors,
)
