"""Load methods: trained networks from checkpoints, export directories or the Hub, and classical methods by name."""

from pathlib import Path

import torch

from src.checkpoints.export_directory import HUB
from src.checkpoints.methods import Texts, find_methods, make_classical
from src.checkpoints.reading import PINNED, Checkpoint, load_checkpoint
from src.checkpoints.weights import list_classical_methods, load_weights
from src.common.devices import select_device
from src.common.errors import InputError
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
        return Inpainter(str(method), make_classical(str(method)), torch_device, size, blend)
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
    ckpt: Texts,
    methods: Texts,
    device: str,
    size: SizeStrategy,
    blend: Blend = paste,
    weights: str | None = None,
    model: str | None = None,
) -> dict[str, Inpainter]:
    """Load several methods by unique names; `ckpt`, `methods`, `weights` and `model` as in `find_methods`."""
    found = find_methods(methods=methods, ckpt=ckpt, weights=weights, model=model)
    torch_device = select_device(device)
    return {
        one.name: Inpainter(one.name, one.network, torch_device, size, blend)
        if one.checkpoint is None
        else _trained(one.checkpoint, torch_device, size, blend)
        for one in found
    }
