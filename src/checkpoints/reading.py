"""Reading a checkpoint of ours: the network it was trained as, its weights, and the configuration beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import get_object, instantiate
from torch import Tensor

from src.checkpoints.export_directory import exported_weights, read_exported
from src.common.errors import InputError
from src.common.tensor_files import listed, read_tensor_file, state_dict_mismatch
from src.networks.interface import InpaintingNetwork

TRUSTED = ("src.networks.", "torch.nn.")
"""Where what a checkpoint's configuration calls must be defined: in a file, a `_target_` may name any function."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with what it was trained by.

    Attributes:
        path: of the file that holds the weights.
        config: the run's resolved configuration, with the keys of conf/train.yaml.
        step: generator steps taken.
    """

    path: Path
    network: InpaintingNetwork
    config: dict[str, Any]
    step: int


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint that `src.train` or `src.export` wrote, tensors and plain values alone.

    Args:
        path: a file; of an exported network, its folder or its file of weights. That has no optimisers.
    Raises:
        InputError: a file is missing, damaged, holds code, or is not a checkpoint of this suite.
    """
    path = Path(path).expanduser()
    weights = exported_weights(path)
    content = read_tensor_file(path, "checkpoint") if weights is None else read_exported(weights)
    if not isinstance(content, dict) or not {"state_dict", "config", "global_step"} <= content.keys():
        raise InputError(f"{path} is not a checkpoint of this suite: it lacks state_dict, config or global_step")
    try:
        content["config"]["model"]["network"]["_target_"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: its configuration has no model.network, which says what to build") from error
    # Not a text in its place, either: OmegaConf would read it as YAML, with calls in it that nobody has looked at.
    mappings = content["config"].get("scale", {}), content["state_dict"]
    if not all(isinstance(one, Mapping) for one in mappings) or type(content["global_step"]) is not int:
        raise InputError(
            f"{path} is not a checkpoint of this suite: its state_dict and config.scale are to be mappings, its "
            "global_step a whole number"
        )
    return content


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Rebuild a trained network from its checkpoint alone, in eval mode on the CPU.

    Raises:
        InputError: as `read_checkpoint`; the configuration calls something untrusted; the weights do not fit, or are no
            finite numbers.
    """
    path, content = Path(path).expanduser(), read_checkpoint(path)
    config = content["config"]
    network = _build(config["model"]["network"], path)
    # src.evaluate composes its data with the scale, the schedule left out.
    _refuse_untrusted({key: value for key, value in config.get("scale", {}).items() if key != "schedule"}, path)
    prefix = "network."
    weights = {
        key.removeprefix(prefix): t
        for key, t in content["state_dict"].items()
        if isinstance(key, str) and key.startswith(prefix) and isinstance(t, Tensor)
    }
    if differing := state_dict_mismatch(network.state_dict(), weights):
        raise InputError(f"the weights in {path} do not fit {config['model']['network']['_target_']}: {differing}")
    if unfit := [name for name, t in weights.items() if t.is_floating_point() and not bool(t.isfinite().all())]:
        raise InputError(f"{path} holds NaN or infinity, as after a run that diverged: {listed('weights', unfit)}")
    network.load_state_dict(weights)
    return Checkpoint(exported_weights(path) or path, network.eval(), config, content["global_step"])


def _build(network_config: dict[str, Any], path: Path) -> InpaintingNetwork:
    _refuse_untrusted(network_config, path)
    try:
        network = instantiate(network_config)
    except Exception as error:  # Hydra wraps what the network's class raises, which may be anything
        reason = " ".join(str(error.__cause__ or error).split())
        raise InputError(
            f"{path}: {network_config['_target_']} can't be built as its configuration says: {reason}"
        ) from error
    if not isinstance(network, InpaintingNetwork):
        raise InputError(f"{path}: {network_config['_target_']} is no inpainting network")
    return network


def _refuse_untrusted(node: Any, path: Path) -> None:
    """What is called must be trusted; an interpolation could make a call of a text, and a resolved file has none."""
    if isinstance(node, str) and "${" in node:
        raise InputError(f"{path}: its configuration is to be resolved, but holds {node!r}")
    if isinstance(node, Mapping) and "_target_" in node and not _is_trusted(str(node["_target_"])):
        raise InputError(
            f"{path} wants to call {node['_target_']!r}; only what {' and '.join(TRUSTED)} define is trusted"
        )
    for child in node.values() if isinstance(node, Mapping) else node if isinstance(node, list | tuple) else ():
        _refuse_untrusted(child, path)


def _is_trusted(target: str) -> bool:
    try:
        return target.startswith(TRUSTED) and _home(get_object(target)).startswith(TRUSTED)
    except Exception:  # what can't be found is nothing of ours
        return False


def _home(thing: Any) -> str:
    # Not the name it is reached by: src.networks.interface.torch.hub.os.system starts well, too.
    return f"{getattr(thing, '__module__', '')}."
