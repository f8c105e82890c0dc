"""Load methods: trained networks from checkpoints, export directories or the Hub, and classical methods by name."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import OmegaConf

from src.checkpoints.export_directory import HUB
from src.checkpoints.reading import load_checkpoint
from src.common.devices import select_device
from src.common.errors import InputError
from src.common.resolvers import MODELS
from src.networks.interface import InpaintingNetwork
from src.prediction.blending import Blend, paste
from src.prediction.inpainter import WHOLE, Inpainter
from src.prediction.sizes import SizeStrategy


def load(method: str | Path, *, device: str = "auto", size: SizeStrategy = WHOLE, blend: Blend = paste) -> Inpainter:
    """Load a method.

    Args:
        method: a checkpoint of `src.train`, an export directory of `src.export`, hf://user/name on the Hugging Face
            Hub, or the name of a classical method.
        device: auto (a GPU if there is one), cpu or cuda.
        size: how images are passed to the network: `Whole()`, `Tiled(...)` or `Reduced(...)`.
        blend: how predictions are blended into the hole: `paste` or `blend_poisson`.
    """
    torch_device = select_device(device)
    if method in list_classical_methods():
        network: InpaintingNetwork = instantiate(OmegaConf.load(MODELS / f"{method}.yaml").network)
        return Inpainter(str(method), network, torch_device, size, blend)
    if isinstance(method, str) and not method.startswith(HUB) and not Path(method).expanduser().exists():
        raise InputError(
            f"{method}: no such checkpoint, and not a classical method ({', '.join(list_classical_methods())})"
        )
    checkpoint = load_checkpoint(method)
    name = str(checkpoint.config["model"].get("name") or type(checkpoint.network).__name__)
    return Inpainter(name, checkpoint.network, torch_device, size, blend)


def load_methods(
    ckpt: str | Sequence[str] | Mapping[str, str] | None,
    model: str | Sequence[str] | None,
    device: str,
    size: SizeStrategy,
    blend: Blend = paste,
) -> dict[str, Inpainter]:
    """Load several methods under unique names, trained networks first.

    A network is named after its model; parts of the path are appended if several checkpoints have the same model.

    Args:
        ckpt: one or several checkpoints, optionally by name.
        model: one or several classical methods.
    """
    names = list(ckpt) if isinstance(ckpt, Mapping) else []
    values = list(ckpt.values()) if isinstance(ckpt, Mapping) else ckpt
    paths, classical = ([v] if isinstance(v, str) else list(v or []) for v in (values, model))
    for key, passed in (("ckpt", paths), ("model", classical)):
        if wrong := [one for one in passed if not isinstance(one, str)]:
            raise InputError(f"{key}: {wrong[0]!r} is no text: quote it, as in '{key}=[\"{wrong[0]}\",...]'")
    if not paths and not classical:
        raise InputError(
            "no method: pass ckpt=<checkpoint of src.train>, model=<classical method>, or several of either"
        )
    if unknown := [name for name in classical if name not in list_classical_methods()]:
        available = ", ".join(list_classical_methods())
        raise InputError(f"model={unknown[0]} is not a classical method ({available}): pass trained networks as ckpt=")
    for passed in (paths, classical, [*names, *classical]):
        if repeated := {value for value in passed if passed.count(value) > 1}:
            raise InputError(f"{', '.join(sorted(repeated))} is passed twice: pass each method once")
    # A Path is always a file, even if a classical method has the same name.
    trained = [
        load(path if path.startswith(HUB) else Path(path), device=device, size=size, blend=blend) for path in paths
    ]
    names = names or _make_unique([method.name for method in trained], [Path(path) for path in paths])
    others = [load(name, device=device, size=size, blend=blend) for name in classical]
    return dict(zip([*names, *classical], [*trained, *others], strict=True))


def list_classical_methods() -> tuple[str, ...]:
    """Return the names of the methods without weights: the files of conf/model that have no training section."""
    # A release's file inherits its paper's training section through its defaults. Parsing all files takes a second.
    trained = re.compile(r"^(training|defaults):", re.MULTILINE)
    return tuple(file.stem for file in sorted(MODELS.glob("*.yaml")) if not trained.search(file.read_text()))


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
