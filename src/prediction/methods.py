"""Several methods under names that tell them apart: heads of columns and folders of results."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from src.common.errors import InputError
from src.prediction.inpainter import HUB, Inpainter, load, methods_without_weights
from src.prediction.sizes import Size

Checkpoints = str | Sequence[str] | Mapping[str, str]
"""One, several, or several by the names they are to have."""


def load_methods(
    checkpoints: Checkpoints | None, without_weights: str | Sequence[str] | None, device: str, size: Size
) -> dict[str, Inpainter]:
    """Load them, checkpoints first, by name: their models', and what tells their paths apart where these are alike.

    Raises:
        InputError: there is none, one is there twice, or one can't be loaded.
    """
    named = dict(checkpoints) if isinstance(checkpoints, Mapping) else {}
    paths = _listed(list(checkpoints.values()) if isinstance(checkpoints, Mapping) else checkpoints)
    names = _listed(without_weights)
    if not paths and not names:
        raise InputError(
            "give ckpt=<a checkpoint of src.train> or model=<a method without weights>, one of them or more"
        )
    possible = methods_without_weights() if names else ()
    for name in names:
        if name not in possible:
            raise InputError(f"model={name}: methods without weights are {', '.join(possible)}; others need ckpt=")
    for given in (paths, names, [*named, *names]):
        if twice := {one for one in given if given.count(one) > 1}:
            raise InputError(f"{', '.join(sorted(twice))} is given twice: name each method once")
    # As paths, where a name could be a method's.
    trained = [load(path if path.startswith(HUB) else Path(path), device=device, size=size) for path in paths]
    heads = list(named) or _told_apart([method.name for method in trained], [Path(path) for path in paths])
    others = [load(name, device=device, size=size) for name in names]
    return dict(zip([*heads, *names], [*trained, *others], strict=True))


def _told_apart(names: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """The names, and behind those that are alike the parts of the paths in which the alike ones differ."""
    parts = [path.expanduser().absolute().with_suffix("").parts for path in paths]
    apart = []
    for i, name in enumerate(names):
        rivals = [parts[k] for k in range(len(names)) if k != i and names[k] == name]
        apart.append("_".join([name, *(part for part in parts[i] if any(part not in rival for rival in rivals))]))
    if len(set(apart)) < len(apart):
        raise InputError("ckpt= holds several checkpoints of one model: name them, as in 'ckpt={a: x.ckpt, b: y.ckpt}'")
    return apart


def _listed(given: str | Sequence[str] | None) -> list[str]:
    return [] if given is None else [given] if isinstance(given, str) else list(given)
