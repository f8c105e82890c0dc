"""Parameter names of the releases of contextual attention and of MPGA/GLA, which is built on it."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from torch import nn

from src.checkpoints.releases.release import SPECTRAL_NORM, Release
from src.networks.contextual_attention import released_contextual_attention
from src.networks.discriminators.patches import FeatureVolumeDiscriminator
from src.networks.discriminators.whole_image import CroppedLocalCritic, GlobalCritic
from src.networks.mpga_gla import released_mpga_gla

ENCODER = ("1", "2_downsample", "3", "4_downsample", "5", "6")
DILATED = ("7_atrous", "8_atrous", "9_atrous", "10_atrous")
DECODER = {0: "11", 1: "12", 3: "13", 4: "14", 6: "15", 7: "16", 8: "17"}  # the other modules are no convolutions


def _rows(ours: str, theirs: str, names: Sequence[str] | Mapping[int, str]) -> Iterator[tuple[str, str]]:
    places = names.items() if isinstance(names, Mapping) else enumerate(names)
    return ((f"{ours}.{place}", f"{theirs}{name}") for place, name in places)


def _two_branches(ours: str, theirs: str, encoder: str, dilated: str, decoder: str) -> dict[str, str]:
    """Return the names of a stage with two branches; `encoder`, `dilated` and `decoder` are our names of its parts."""
    return dict(
        [
            *_rows(f"{ours}.{encoder}", f"{theirs}.conv", ENCODER),
            *_rows(f"{ours}.{dilated}", f"{theirs}.conv", DILATED),
            *_rows(f"{ours}.before_attention", f"{theirs}.pmconv", ENCODER),
            *_rows(f"{ours}.after_attention", f"{theirs}.pmconv", ("9", "10")),
            *_rows(f"{ours}.{decoder}", f"{theirs}.allconv", DECODER),
        ]
    )


CONTEXTUAL_ATTENTION = Release(
    make=released_contextual_attention,
    modules=dict(
        [
            *_rows("coarse.layers.0", "coarse_generator.conv", ENCODER),
            *_rows("coarse.layers.1", "coarse_generator.conv", DILATED),
            *_rows("coarse.layers.2", "coarse_generator.conv", DECODER),
        ]
    )
    | _two_branches("refinement", "fine_generator", "hallucinate.0", "hallucinate.1", "decode"),
)


def _critics() -> nn.ModuleDict:
    local_critic = CroppedLocalCritic(channels=GlobalCritic.default_channels)  # the release has equal critics
    return nn.ModuleDict({"local": local_critic, "global": GlobalCritic()})


CONTEXTUAL_ATTENTION_CRITICS = Release(
    make=_critics,
    modules={
        f"{critic}.critic.{ours}": f"{critic}.{theirs}"
        for critic in ("local", "global")
        for ours, theirs in {
            **{f"features.{2 * i}": f"dis_conv_module.conv{i + 1}.conv" for i in range(4)},
            "score": "linear",
        }.items()
    },
    aliases={"localD": "local", "globalD": "global"},
)

PROJECTIONS = ("query", "key", "value")

MPGA_GLA = Release(
    make=released_mpga_gla,
    modules={
        **_two_branches("coarse", "coarse_generator", "regular", "regular.6", "decoder"),
        **_two_branches("refinement", "fine_generator", "regular", "regular.6", "decoder"),
        **{f"coarse.attention.{p}": f"coarse_generator.contextul_attention.{p}_conv" for p in PROJECTIONS},
        **{
            f"refinement.attention.whole.{p}": f"fine_generator.contextul_attention.feature_attention.{p}_conv"
            for p in PROJECTIONS
        },
        **{
            f"refinement.attention.{p}": f"fine_generator.contextul_attention.patch_attention.{p}_channel"
            for p in PROJECTIONS
        },
    },
)

MPGA_GLA_DISCRIMINATOR = Release(
    make=partial(FeatureVolumeDiscriminator, dilation=1, dropout=nn.Identity),
    modules={f"features.{place}": f"dis_conv_module.conv{i}.conv" for i, place in enumerate((0, 2, 4, 6, 9), start=1)},
    parameters=SPECTRAL_NORM,
)
