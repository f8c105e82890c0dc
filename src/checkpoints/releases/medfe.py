"""Parameter names of MEDFE's release by its authors: three files with the prefixes EN, DE and MEDFE."""

from torch import nn

from src.checkpoints.releases.release import SPECTRAL_NORM, Release
from src.networks.discriminators.patches import WindowDiscriminator
from src.networks.medfe import released_medfe

BLOCK = "MEDFE.pc_block"

MEDFE = Release(
    released_medfe,
    {f"encoder.{n}.0": f"EN.Encoder_{n + 1}.model.{min(n, 1)}" for n in range(6)}
    | {f"encoder.{n}.1": f"EN.Encoder_{n + 1}.model.2" for n in range(1, 5)}
    | {f"middle.{n}.layers.{m}": f"EN.middle.{n}.conv_block.{m}" for n in range(4) for m in (1, 5)}
    | {f"decoder.{n}.{m}": f"DE.Decoder_{n + 1}.model.{m + 1}" for n in range(6) for m in range(2)}
    | {f"mutual.textures.{n}": f"{BLOCK}.down_{2 ** (7 - n)}.model" for n in range(3)}
    | {f"mutual.to_lower.{n}": f"{BLOCK}.down_{2 ** (4 - n)}.model" for n in range(3)}
    | {f"mutual.to_upper.{n}": f"{BLOCK}.up_{2 ** (7 - n)}.conv" for n in range(3)}
    | {
        f"mutual.{ours}": f"{BLOCK}.{theirs}"
        for ours, theirs in (
            ("lift", "up.conv"),
            ("merge", "down.model"),
            ("fuse", "fuse.model"),
            ("equalise.gate", "base.model.0.fc"),
            ("equalise.join", "base.down"),
        )
    }
    | {
        f"mutual.streams.{stream}.{n}.{ours}": f"{BLOCK}.cov_{kernel}.{n}.{theirs}"
        for stream, kernel in enumerate((3, 5, 7))
        for n in range(5)
        for ours, theirs in (("conv.conv", "conv.input_conv"), ("norm", "bn"))
    }
    | {"mutual.to_image": "MEDFE.loss.0.down_model.0"},
    constant={"mask_conv.weight": 1.0},  # counts known values
)


def _discriminators() -> nn.ModuleDict:
    return nn.ModuleDict({"global": WindowDiscriminator(), "local": WindowDiscriminator(window=0.25)})


MEDFE_DISCRIMINATOR = Release(
    _discriminators,
    {
        f"{ours}.layers.{n}": f"{theirs}.model.{n}"
        for ours, theirs in (("global", "D"), ("local", "F"))
        for n in (0, 2, 4, 6, 8)
    },
    parameters=SPECTRAL_NORM,
)
