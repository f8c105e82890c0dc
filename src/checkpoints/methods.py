"""The methods that a command works on: `methods=` with `weights=`, and `ckpt=`, the same for all commands."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from src.checkpoints.reading import Checkpoint, load_checkpoint
from src.checkpoints.weights import list_classical_methods, load_weights
from src.common.errors import InputError
from src.common.resolvers import MODELS
from src.networks.interface import InpaintingNetwork

Texts = str | Sequence[str] | Mapping[str, str] | None
"""One value, several, or several by name, as in ckpt=a.ckpt, ckpt=[a.ckpt,b.ckpt] and 'ckpt={ours: a.ckpt}'."""


@dataclass(frozen=True)
class Method:
    """A method with its network on the CPU, and a name that is unique among the methods of a command.

    Attributes:
        model: its name and network as in conf/model; None for images of another program.
        checkpoint: the network's; None for a method without weights.
    """

    name: str
    network: InpaintingNetwork
    model: dict[str, Any] | None
    checkpoint: Checkpoint | None = None

    @classmethod
    def trained(cls, name: str, checkpoint: Checkpoint) -> "Method":
        """Return the method of a checkpoint."""
        return cls(name, checkpoint.network, checkpoint.config["model"], checkpoint)


def find_methods(*, methods: Texts, ckpt: Texts, weights: str | None, model: str | None = None) -> list[Method]:
    """Load the methods of a command line, in its order: those of `methods` or `model`, then those of `ckpt`.

    A checkpoint without a name is named after its model; parts of its path are appended if several have the same model.

    Args:
        methods: names of conf/model: classical methods and, with `weights`, trained models.
        ckpt: checkpoints, as in `load_checkpoint`, optionally by name.
        weights: of the trained models, as in `find_weights`; by itself, of the model that it names.
        model: a single name, instead of `methods`.
    Raises:
        InputError: there is no method, a name is unknown or not unique, or weights are missing or invalid.
    """
    if model is not None and methods is not None:
        raise InputError(f"model={model} and methods= both name methods: add {model} to methods=[...]")
    names = [name for _, name in parse_values("methods" if model is None else "model", methods or model)]
    files = parse_values("ckpt", ckpt)
    if not names and not files and weights is None:
        raise InputError(
            "no method: pass ckpt=<checkpoint of src.train>, model=<model> weights=<shipped size or path>, "
            "model=<classical method>, or several of them as methods=[a,b] and ckpt=[a.ckpt,b.ckpt]"
        )
    trained = [name for name in names if name not in list_classical_methods()]
    if trained and weights is None:
        available = ", ".join(list_classical_methods())
        key = "methods=[...]:" if model is None else "model="
        raise InputError(
            f"{key}{trained[0]} is not a classical method ({available}): add weights=<shipped size or path>, or pass "
            "the network as ckpt="
        )
    found = [
        Method(name, make_classical(name), {"name": name, "network": classical_network(name)})
        for name in names
        if name not in trained
    ]
    if weights is not None:
        # Classical methods alone are an error, which load_weights explains.
        wanted: Sequence[str | None] = trained or names[:1] or [None]
        checkpoints = [load_weights(weights, name, ckpt=None if trained else ckpt) for name in wanted]
        found += [Method.trained(one.model, one) for one in checkpoints]
    found.sort(key=lambda method: names.index(method.name) if method.name in names else len(names))
    loaded = [load_checkpoint(path) for _, path in files]
    unique = _make_unique([one.model for one in loaded], [Path(path) for _, path in files])
    for (name, _), automatic, one in zip(files, unique, loaded, strict=True):
        found.append(Method.trained(name or automatic, one))
    require_unique(method.name for method in found)
    return found


def make_classical(name: str) -> InpaintingNetwork:
    """Return a method without weights by its name in conf/model."""
    network: InpaintingNetwork = instantiate(classical_network(name))
    return network


def classical_network(name: str) -> dict[str, Any]:
    """Return the config of a method without weights."""
    return OmegaConf.to_container(OmegaConf.load(MODELS / f"{name}.yaml").network)  # type: ignore[return-value]


def parse_values(key: str, values: Texts) -> list[tuple[str | None, str]]:
    """Return the values of an option with their names, or None, as in key=a, key=[a,b] and 'key={name: a, other: b}'.

    Raises:
        InputError: a value is no text or is passed twice, or a name can't name a directory.
    """
    if isinstance(values, Mapping):
        pairs: list[tuple[str | None, str]] = list(values.items())
    else:
        pairs = [(None, value) for value in ([values] if isinstance(values, str) else values or [])]
    for name, value in pairs:
        if not isinstance(value, str):
            raise InputError(f"{key}: {value!r} is no text: quote it, as in '{key}=[\"{value}\",...]'")
        if name is not None and (not isinstance(name, str) or not name or name[0] == "." or set(name) & set("/\\")):
            raise InputError(f"{key}: the name {name!r} can't name a directory: use letters, digits, _ and -")
    passed = [value for _, value in pairs]
    if repeated := sorted({value for value in passed if passed.count(value) > 1}):
        raise InputError(f"{key}: {', '.join(repeated)} is passed twice: pass each method once")
    return pairs


def require_unique(names: Iterable[str]) -> None:
    """Raise InputError if two methods have the same name."""
    names = list(names)
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"several methods have the name {', '.join(repeated)}: name them, as in 'ckpt={{ours: a.ckpt, theirs: "
            "b.ckpt}'"
        )


def _make_unique(names: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """Make equal names unique: append the parts of their paths that differ."""
    parts = [path.expanduser().absolute().with_suffix("").parts for path in paths]
    unique = []
    for i, name in enumerate(names):
        rivals = [parts[k] for k in range(len(names)) if k != i and names[k] == name]
        unique.append("_".join([name, *(part for part in parts[i] if any(part not in rival for rival in rivals))]))
    return unique
