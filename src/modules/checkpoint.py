"""Reading a checkpoint of ours: the network it was trained as, its weights, and the configuration beside them."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object, instantiate

from src.errors import InputError
from src.networks.interface import InpaintingNetwork

TRUSTED = ("src.networks.", "torch.nn.")
"""Where what a checkpoint's configuration calls must be defined: in a file, a `_target_` may name any function."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with what it was trained by.

    Attributes:
        config: the run's resolved configuration, with the keys of conf/train.yaml.
        step: generator steps taken.
    """

    path: Path
    network: InpaintingNetwork
    config: dict[str, Any]
    step: int


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint that `src.train` wrote, tensors and plain values alone.

    Raises:
        InputError: the file is missing, damaged, holds code, or is not a checkpoint of this suite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors and plain values, or is no checkpoint: it is not loaded"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged or not a checkpoint: {error}") from error
    if not isinstance(content, dict) or not {"state_dict", "config", "global_step"} <= content.keys():
        raise InputError(f"{path} is not a checkpoint of this suite: it lacks state_dict, config or global_step")
    return content


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Rebuild a trained network from its checkpoint alone, in eval mode on the CPU.

    Raises:
        InputError: as `read_checkpoint`; the configuration calls something untrusted; the weights do not fit.
    """
    path, content = Path(path), read_checkpoint(path)
    network_config = content["config"]["model"]["network"]
    _refuse_untrusted_targets(network_config, path)
    network: InpaintingNetwork = instantiate(network_config)
    prefix = "network."
    weights = {key.removeprefix(prefix): t for key, t in content["state_dict"].items() if key.startswith(prefix)}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"the weights in {path} do not fit {network_config['_target_']}: {error}") from error
    return Checkpoint(path, network.eval(), content["config"], content["global_step"])


def _refuse_untrusted_targets(node: Any, path: Path) -> None:
    if isinstance(node, dict) and "_target_" in node:
        target = node["_target_"]
        if not (str(target).startswith(TRUSTED) and _home(get_object(target)).startswith(TRUSTED)):
            raise InputError(f"{path} wants to call {target!r}; only what {' and '.join(TRUSTED)} define is trusted")
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _refuse_untrusted_targets(child, path)


def _home(thing: Any) -> str:
    # Not the name it is reached by: src.networks.interface.torch.hub.os.system starts well, too.
    return f"{getattr(thing, '__module__', '')}."
