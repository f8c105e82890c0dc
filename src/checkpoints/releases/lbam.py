"""Parameter names of LBAM's release by its authors: the U-Net and its two-column discriminator."""

from src.checkpoints.releases.release import Release
from src.networks.discriminators.whole_image import TwoColumnDiscriminator
from src.networks.lbam import released_lbam

LEVELS = 7
G_A = {"gamma_l": "sigma1", "gamma_r": "sigma2"}

DECODER = (
    {f"decoder_deconvs.{n}": f"dc{n + 1}.conv" for n in range(LEVELS - 1)}
    | {f"decoder_activations.{n}.0": f"dc{n + 1}.bn" for n in range(LEVELS - 1)}
    | {"to_image": f"dc{LEVELS}"}
)
ENCODER_FIRST = frozenset(
    [f"dc{n}.bn" for n in range(1, LEVELS)] + [f"dc{n}.conv" for n in range(2, LEVELS)] + [f"dc{LEVELS}"]
)
"""Modules whose input concatenates encoder and decoder features; our networks concatenate them in reverse order."""

UNET = (
    {f"encoder_convs.{n}": f"ec{n + 1}.conv.conv" for n in range(LEVELS)}
    | {f"encoder_activations.{n}.0": f"ec{n + 1}.bn" for n in range(1, LEVELS)}
    | {f"forward_maps.mask_convs.{n}": f"ec{n + 1}.conv.maskConv" for n in range(LEVELS)}
    | {f"forward_maps.attend.{n}": f"ec{n + 1}.conv.activationFuncG_A" for n in range(LEVELS)}
    | {f"reverse_maps.mask_convs.{n}": f"reverseConv{n + 1}.reverseMaskConv" for n in range(LEVELS - 1)}
    | {f"reverse_maps.attend.{n}": f"reverseConv{n + 1}.activationFuncG_A" for n in range(LEVELS - 1)}
    | DECODER
)
"""Modules that LBAM and Edge-LBAM share: our names to the release's."""

LBAM_UNET = Release(released_lbam, UNET, parameters=G_A, swapped=ENCODER_FIRST)

LBAM_DISCRIMINATOR = Release(
    TwoColumnDiscriminator,
    {  # three modules per layer; the release's first layer has two, as it has no batch norm
        f"{ours}.{3 * layer + part}": f"{theirs}.{max(3 * layer - 1 + part, 0)}"
        for ours, theirs in (("known_column", "globalConv"), ("hole_column", "localConv"))
        for layer in range(6)
        for part in range(2 if layer else 1)
    }
    | {"score.0": "fusionLayer.0"},
)
