"""Parameter names of Edge-LBAM's release by its authors: MECNet, and the U-Net that inpaints along its edges."""

from src.checkpoints.releases.lbam import ENCODER_FIRST, G_A, LEVELS, UNET
from src.checkpoints.releases.release import SPECTRAL_NORM, Release
from src.networks.edge_lbam import EdgeCompletion
from src.networks.layers.canny import RELEASED_CANNY
from src.networks.lbam import released_edge_lbam_unet
from src.networks.mecnet import MECNet

ENTRANCES = {  # two convolutions each for mask and edges; the release numbers the reverse ones after the forward ones
    f"{direction}_maps.enter_{ours}.{n}": f"{theirs}conv{first + n}"
    for direction, first in (("forward", 1), ("reverse", 3))
    for ours, theirs in (("mask", "mask"), ("edges", "edge"))
    for n in range(2)
}
GUIDANCE = {
    f"{direction}_maps.{ours.format(n)}": f"{prefix}edge{n + 1}.{theirs}"
    for direction, prefix, levels in (("forward", "", LEVELS), ("reverse", "reverse", LEVELS - 1))
    for n in range(levels)
    for ours, theirs in (
        ("guides.{}.mask_conv", "maskconv"),
        ("guides.{}.edge_conv", "edgegradient"),
        ("guides.{}.agreement", "edgemaskcoincide"),
        ("edge_convs.{}", "edgeconv"),
    )
}
EDGE_LBAM_UNET = Release(released_edge_lbam_unet, UNET | ENTRANCES | GUIDANCE, parameters=G_A, swapped=ENCODER_FIRST)


def _mecnet() -> EdgeCompletion:
    return EdgeCompletion(MECNet(), RELEASED_CANNY)


MECNET = Release(
    _mecnet,
    {f"completion.encoder.{n}": f"encoder.{n}" for n in (1, 4, 7)}
    | {f"completion.body.{n}.layers.{m}": f"middle.{n}.conv_block.{m}" for n in range(8) for m in (1, 5)}
    | {f"completion.upsamples.{n}.0": f"upsample{n + 1}.0" for n in range(3)}
    | {f"completion.decoders.0.{n}": f"decoder.{n}" for n in (0, 3, 7)},
    parameters=SPECTRAL_NORM,
)
