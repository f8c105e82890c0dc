"""Parameter names of PICNet's release by its authors: two files with the prefixes E and G, and the discriminators."""

from collections.abc import Iterable

from src.checkpoints.releases.release import Release
from src.checkpoints.releases.weights import Weights
from src.networks.discriminators.residual import ResidualDiscriminator
from src.networks.picnet import PICNet

LEVELS, INFER_BLOCKS = 5, 6
SPECTRAL_NORM = {
    "parametrizations.weight.original": "weight_bar",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
}
"""The release's names lack "module.", as `read_weights` removes it."""

SECOND_NAMES = frozenset({"conv1", "conv2", "bypass"})
"""Names within a block of layers that the release registers twice; the others, `model` and `shortcut`, count."""


def _block(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.layers.{n}": f"{theirs}.model.{n}" for n in (1, 3)} | {f"{ours}.bypass": f"{theirs}.shortcut.0"}


def _halving_blocks(ours: str, prefix: str) -> dict[str, str]:
    first = {"layers.1": "model.0", "layers.3": "model.2", "bypass": "shortcut.1"}
    names = {f"{ours}.0.{mine}": f"{prefix}block0.{theirs}" for mine, theirs in first.items()}
    for level in range(1, LEVELS):
        names |= _block(f"{ours}.{level}", f"{prefix}encoder{level - 1}")
    return names


def _decoder() -> dict[str, str]:
    names = _block("decoder.generate", "G.generator") | _block("decoder.attention.merge", "G.attn1.model")
    names |= {"decoder.attention.attention.query": "G.attn1.query_conv"}
    names |= {"decoder.attention.attention": "G.attn1", "decoder.attention": "G.attn1"}
    for level in range(LEVELS):
        names |= {f"decoder.up.{level}.layers.{n}": f"G.decoder{level}.model.{n}" for n in (0, 2, 3, 5)}
        names |= {f"decoder.up.{level}.bypass": f"G.decoder{level}.shortcut.0"}
        if level:
            names |= {f"decoder.to_image.{level - 1}.2": f"G.out{level}.model.2"}
    return names


def _without(weights: Weights, names: Iterable[str], unused: tuple[str, ...]) -> Weights:
    dropped = set(names)
    return {
        name: tensor
        for name, tensor in weights.items()
        if dropped.isdisjoint(name.split(".")) and not name.startswith(unused)
    }


def _network_weights(weights: Weights) -> Weights:
    """Leave out second names, and the discriminators in a directory with all files of the release."""
    return _without(weights, SECOND_NAMES, ("D.", "D_rec."))


def _discriminator_weights(weights: Weights) -> Weights:
    """Leave out second names, and the parts of the attention that the discriminator does not use."""
    return _without(weights, SECOND_NAMES, ("attn2.alpha", "attn2.model."))


PICNET = Release(
    PICNet,
    _halving_blocks("encoder", "E.")
    | {ours: theirs for n in range(INFER_BLOCKS) for ours, theirs in _block(f"infer.{n}", f"E.infer_prior{n}").items()}
    | _block("prior.block", "E.prior")
    | _block("posterior.block", "E.posterior")
    | _decoder(),
    parameters=SPECTRAL_NORM,
    convert=_network_weights,
)

PICNET_DISCRIMINATOR = Release(
    ResidualDiscriminator,
    _halving_blocks("blocks", "")
    | _block("last", "block1")
    | {"attention.query": "attn2.query_conv", "attention": "attn2", "score.1": "conv"},
    parameters=SPECTRAL_NORM,
    convert=_discriminator_weights,
)
"""The release has two, `D` for the generative path and `D_rec` for the reconstructive one."""
