"""Load methods: trained networks from checkpoints, export directories or the Hub, and classical methods by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from src.checkpoints.export_directory import HUB
from src.checkpoints.reading import PINNED, Checkpoint, load_checkpoint
from src.checkpoints.weights import list_classical_methods, load_weights
from src.common.devices import select_device
from src.common.errors import InputError
from src.common.resolvers import MODELS
from src.networks.interface import InpaintingNetwork
from src.prediction.blending import Blend, paste
from src.prediction.inpainter import Inpainter
from src.prediction.sizes import SizeStrategy
from src.prediction.windows import AroundHoles

AROUND_HOLES = AroundHoles()


def load(
    method: str | Path,
    *,
    weights: str | None = None,
    device: str = "auto",
    size: SizeStrategy = AROUND_HOLES,
    blend: Blend = paste,
) -> Inpainter:
    """Load a method.

    Args:
        method: a checkpoint of `src.train`, an export directory of `src.export`, hf://user/name on the Hugging Face
            Hub, or the name of a classical method; with `weights`, the name of a model.
        weights: a size that is shipped for the model, such as "small", or its checkpoint, as for `method`.
        device: auto (a GPU if there is one), cpu or cuda.
        size: how images are passed to a network: `AroundHoles(...)`, `Whole()`, `Tiled(...)` or `Reduced(...)`.
        blend: how predictions are blended into the hole: `paste` or `blend_poisson`.
    """
    torch_device = select_device(device)
    if weights is not None:
        return _trained(load_weights(weights, str(method)), torch_device, size, blend)
    if method in list_classical_methods():
        network: InpaintingNetwork = instantiate(OmegaConf.load(MODELS / f"{method}.yaml").network)
        return Inpainter(str(method), network, torch_device, size, blend)
    address = str(method).partition(PINNED)[0]
    if isinstance(method, str) and not method.startswith(HUB) and not Path(address).expanduser().exists():
        raise InputError(
            f"{method}: no such checkpoint, and not a classical method ({', '.join(list_classical_methods())}); a "
            "model's name needs weights="
        )
    return _trained(load_checkpoint(method), torch_device, size, blend)


def _trained(checkpoint: Checkpoint, device: torch.device, size: SizeStrategy, blend: Blend) -> Inpainter:
    return Inpainter(checkpoint.model, checkpoint.network, device, size, blend, checkpoint.trained_on)


def load_methods(
    ckpt: str | Sequence[str] | Mapping[str, str] | None,
    model: str | Sequence[str] | None,
    device: str,
    size: SizeStrategy,
    blend: Blend = paste,
    weights: str | None = None,
) -> dict[str, Inpainter]:
    """Load several methods under unique names, trained networks first.

    A network is named after its model; parts of the path are appended if several checkpoints have the same model.

    Args:
        ckpt: one or several checkpoints, optionally by name.
        model: one or several classical methods; with `weights`, trained models, too.
        weights: weights of the trained models of `model`, as in `find_weights`; not together with `ckpt`.
    """
    names = list(ckpt) if isinstance(ckpt, Mapping) else []
    values = list(ckpt.values()) if isinstance(ckpt, Mapping) else ckpt
    paths, models = ([v] if isinstance(v, str) else list(v or []) for v in (values, model))
    for key, passed in (("ckpt", paths), ("model", models)):
        if wrong := [one for one in passed if not isinstance(one, str)]:
            raise InputError(f"{key}: {wrong[0]!r} is no text: quote it, as in '{key}=[\"{wrong[0]}\",...]'")
    if not paths and not models and weights is None:
        raise InputError(
            "no method: pass ckpt=<checkpoint of src.train>, model=<model> weights=<shipped size or path>, "
            "model=<classical method>, or several of them"
        )
    classical = [name for name in models if name in list_classical_methods()]
    trained = [name for name in models if name not in classical]
    if trained and weights is None:
        available = ", ".join(list_classical_methods())
        raise InputError(
            f"model={trained[0]} is not a classical method ({available}): add weights=<shipped size or path>, or pass "
            "the network as ckpt="
        )
    for passed in (paths, models, [*names, *classical]):
        if repeated := {value for value in passed if passed.count(value) > 1}:
            raise InputError(f"{', '.join(sorted(repeated))} is passed twice: pass each method once")
    if weights is None:
        checkpoints = [load_checkpoint(path) for path in paths]
        names = names or _make_unique([one.model for one in checkpoints], [Path(path) for path in paths])
    else:
        wanted: Sequence[str | None] = trained or models[:1] or (None,)  # classical methods alone are an error
        checkpoints = [load_weights(weights, name, ckpt=ckpt) for name in wanted]
        names = [one.model for one in checkpoints]
    networks = [_trained(one, select_device(device), size, blend) for one in checkpoints]
    others = [load(name, device=device, size=size, blend=blend) for name in classical]
    return dict(zip([*names, *classical], [*networks, *others], strict=True))


def _make_unique(names: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """Make equal names unique: append the parts of their paths that differ."""
    parts = [path.expanduser().absolute().with_suffix("").parts for path in paths]
    unique = []
    for i, name in enumerate(names):
        rivals = [parts[k] for k in range(len(names)) if k != i and names[k] == name]
        unique.append("_".join([name, *(part for part in parts[i] if any(part not in rival for rival in rivals))]))
    if len(set(unique)) < len(unique):
        raise InputError(
            "ckpt= has several checkpoints of the same name: name them, as in 'ckpt={a: x.ckpt, b: y.ckpt}'"
        )
    return unique
