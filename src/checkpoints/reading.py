"""Read our checkpoints: rebuild the trained network from the weights and config in the file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import get_object, instantiate
from torch import Tensor

from src.checkpoints.export_directory import HUB, find_exported_weights, read_export_directory
from src.common.errors import InputError
from src.common.tensor_files import read_tensor_file, state_dict_mismatch, summarise_names
from src.networks.interface import InpaintingNetwork

TRUSTED = ("src.networks.", "torch.nn.")
"""Modules whose classes and functions a checkpoint's config may call; a `_target_` could name any other function."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with the config of its run.

    Attributes:
        path: path of the weights file.
        config: the run's resolved config, with the keys of conf/train.yaml.
        step: generator steps taken.
    """

    path: Path
    network: InpaintingNetwork
    config: dict[str, Any]
    step: int


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read the tensors and plain values of a checkpoint that `src.train` or `src.export` wrote.

    Args:
        path: a checkpoint, an export directory or its weights file; the last two have no optimiser states.
    Raises:
        InputError: the file is missing, corrupt, contains code, or is not a checkpoint of this suite.
    """
    path = Path(path).expanduser()
    weights = find_exported_weights(path)
    content = read_tensor_file(path, "checkpoint") if weights is None else read_export_directory(weights)
    if not isinstance(content, dict) or not {"state_dict", "config", "global_step"} <= content.keys():
        raise InputError(f"{path} is not a checkpoint of this suite: state_dict, config or global_step is missing")
    try:
        content["config"]["model"]["network"]["_target_"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: the config has no model.network, which defines the network to build") from error
    # A string is no mapping: OmegaConf would parse it as YAML, whose calls would escape the check of trusted modules.
    mappings = content["config"].get("scale", {}), content["state_dict"]
    if not all(isinstance(value, Mapping) for value in mappings) or type(content["global_step"]) is not int:
        raise InputError(
            f"{path} is not a checkpoint of this suite: state_dict and config.scale must be mappings, and global_step "
            "an integer"
        )
    return content


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Rebuild a trained network from its checkpoint alone, in eval mode on the CPU.

    Args:
        path: a checkpoint, an export directory or its weights file, or the address of a Hub repository.
    Raises:
        InputError: as in `read_checkpoint`; or the download fails, the config calls an untrusted function, or the
            weights do not fit the network or are not finite.
    """
    path = _download(str(path)) if str(path).startswith(HUB) else Path(path).expanduser()
    content = read_checkpoint(path)
    config = content["config"]
    network = _build(config["model"]["network"], path)
    # src.evaluate composes its data with the scale, without the schedule.
    _require_trusted({key: value for key, value in config.get("scale", {}).items() if key != "schedule"}, path)
    prefix = "network."
    weights = {
        key.removeprefix(prefix): t
        for key, t in content["state_dict"].items()
        if isinstance(key, str) and key.startswith(prefix) and isinstance(t, Tensor)
    }
    if differing := state_dict_mismatch(network.state_dict(), weights):
        raise InputError(f"the weights in {path} do not fit {config['model']['network']['_target_']}: {differing}")
    if not_finite := [name for name, t in weights.items() if t.is_floating_point() and not bool(t.isfinite().all())]:
        raise InputError(
            f"{path} holds NaN or infinity, probably of a diverged run; use an earlier checkpoint: "
            f"{summarise_names('weights', not_finite)}"
        )
    network.load_state_dict(weights)
    return Checkpoint(find_exported_weights(path) or path, network.eval(), config, content["global_step"])


def _download(address: str) -> Path:
    try:
        from src.checkpoints.hub import download  # needs the extra `export`
    except ModuleNotFoundError as error:
        raise InputError(
            f"{address} needs the package huggingface-hub: pip install -c constraints.txt -e '.[export]'"
        ) from error
    return download(address)


def _build(network_config: dict[str, Any], path: Path) -> InpaintingNetwork:
    _require_trusted(network_config, path)
    try:
        network = instantiate(network_config)
    except Exception as error:  # Hydra wraps any exception of the network's class
        reason = " ".join(str(error.__cause__ or error).split())
        raise InputError(f"{path}: {network_config['_target_']} can't be built from the config: {reason}") from error
    if not isinstance(network, InpaintingNetwork):
        raise InputError(f"{path}: {network_config['_target_']} is not an InpaintingNetwork")
    return network


def _require_trusted(node: Any, path: Path) -> None:
    """Check all `_target_`s of a config. Reject interpolations, which could create a call from a string."""
    if isinstance(node, str) and "${" in node:
        raise InputError(f"{path}: the config must be resolved, but holds the interpolation {node!r}")
    if isinstance(node, Mapping) and "_target_" in node and not _is_trusted(str(node["_target_"])):
        raise InputError(
            f"{path}: the config calls {node['_target_']!r}, which is not trusted: only the modules "
            f"{' and '.join(TRUSTED)} are"
        )
    for child in node.values() if isinstance(node, Mapping) else node if isinstance(node, list | tuple) else ():
        _require_trusted(child, path)


def _is_trusted(target: str) -> bool:
    try:
        return target.startswith(TRUSTED) and _home(get_object(target)).startswith(TRUSTED)
    except Exception:  # the target does not exist, so it is not one of ours
        return False


def _home(thing: Any) -> str:
    # The defining module, not the path used: src.networks.interface.torch.hub.os.system has a trusted prefix, too.
    return f"{getattr(thing, '__module__', '')}."
