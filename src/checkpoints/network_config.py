"""Build networks from configs that anyone may have written: only listed classes, only plain values."""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from threading import get_ident
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from src.common.devices import on_meta_device
from src.common.errors import InputError
from src.common.tensor_files import state_dict_mismatch
from src.networks.interface import InpaintingNetwork

CONF, EXPERIMENTS = (Path(__file__).parents[2] / name for name in ("conf/model", "experiments"))

NETWORKS_OF_OVERRIDES = frozenset({"src.networks.contextual_attention.CoarseOnly"})
"""Networks that only an override of `_target_` selects, so that no file of conf/model or experiments names them."""

TORCH_MODULES = frozenset([
    "ELU", "GELU", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "Mish", "PReLU", "ReLU", "ReLU6", "SELU",
    "Sigmoid", "SiLU", "Softplus", "Softsign", "Tanh", "BatchNorm2d", "Dropout", "Dropout2d", "GroupNorm",
    "Identity", "InstanceNorm2d", "LayerNorm",
])  # fmt: skip
"""Activations, norms and dropout of torch.nn."""

TORCH_FUNCTIONS = frozenset([
    "elu", "gelu", "hardsigmoid", "hardtanh", "leaky_relu", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
    "softplus", "softsign", "tanh",
])  # fmt: skip
"""Activations of torch.nn.functional."""

HYDRA_KEYS = frozenset({"_target_", "_partial_", "_convert_"})

PLACEMENT = frozenset({"device", "dtype"})
"""Arguments of torch's modules that would take memory although a network is built without any."""

MAX_DEPTH, MAX_ENTRIES = 32, 20_000
"""Limits of a whole config. The largest of this suite has a depth of 9 and about 500 entries."""

MAX_NUMBER = 10_000
"""Limit of numbers in a network's config; larger ones could exhaust the memory before a shape can be compared."""


def require_plain(config: Any, path: Path) -> None:
    """Raise InputError unless a config consists of resolved plain values within the limits of depth and size."""
    entries, level = 1, [config]
    for _ in range(MAX_DEPTH):
        following: list[Any] = []
        for node in level:
            # Counted before they are listed, as an alias of YAML can repeat a long list many times.
            entries += len(node) if isinstance(node, Mapping | list | tuple) else 0
            if entries > MAX_ENTRIES:
                raise InputError(f"{path}: the config has more than {MAX_ENTRIES} entries; no config of this suite has")
            match node:
                case Mapping():
                    following += [*node.keys(), *node.values()]
                case list() | tuple():
                    following += node
                case str() if "${" in node:
                    raise InputError(f"{path}: the config must be resolved, but holds the interpolation {node[:80]!r}")
                case str() | int() | float() | None:  # bool is an int
                    pass
                case _:
                    raise InputError(f"{path}: the config holds a {type(node).__name__}, not only plain values")
        if not following:
            return
        level = following
    raise InputError(f"{path}: the config is nested more than {MAX_DEPTH} levels deep; no config of this suite is")


def require_no_calls(config: Any, path: Path) -> None:
    """Raise InputError if a plain config holds a key of Hydra's, such as `_target_`, which could call a function."""
    if isinstance(config, Mapping):
        if special := [key for key in config if isinstance(key, str) and key.startswith("_")]:
            raise InputError(f"{path}: the config has the key {special[0]!r}, which is not trusted here")
        config = list(config.values())
    for child in config if isinstance(config, list | tuple) else ():
        require_no_calls(child, path)


def build_network(config: Mapping[str, Any], weights: Mapping[str, Tensor], path: Path) -> InpaintingNetwork:
    """Build the network of a config and load its weights, without trusting either.

    The whole config is checked before anything of it is imported or called. The network is first built without memory
    for its weights, so its size is bounded by that of the file.

    Args:
        config: `model.network` of a checkpoint, with plain values as `require_plain` checks them.
        weights: dense tensors; all that the network has and no others.
    Returns:
        The network in eval mode on the CPU.
    Raises:
        InputError: the config names a class or function that is not allowed, holds something else than plain
            arguments, does not build an InpaintingNetwork, or the weights do not fit.
    """
    _require_allowed(config, path)
    _import_modules(config)  # not within the block, where their constants would have no memory either
    with on_meta_device(), _limited_parameters(4 * len(weights) + 1000):
        outline = _instantiate(config, path)
    if not isinstance(outline, InpaintingNetwork):
        raise InputError(f"{path}: {config['_target_']} is not an InpaintingNetwork")
    if differing := state_dict_mismatch(outline.state_dict(), weights):
        raise InputError(f"the weights in {path} do not fit {config['_target_']}: {differing}")
    network: InpaintingNetwork = _instantiate(config, path)
    network.load_state_dict(weights)
    return network.eval()


@cache
def allowed_networks() -> frozenset[str]:
    """Return the classes and factories of src.networks that the files of conf/model and experiments name."""
    files = [file for folder in (CONF, EXPERIMENTS) for file in folder.rglob("*.yaml")]
    texts = [re.sub(r"(^|\s)#.*", "", file.read_text(encoding="utf-8")) for file in files]
    named = {name for text in texts for name in re.findall(r"_target_: *(src\.networks(?:\.[A-Za-z]\w*)+)", text)}
    return frozenset(named) | NETWORKS_OF_OVERRIDES


def is_allowed(target: Any) -> bool:
    """Return whether a config that is not trusted may call the class or function with this dotted name."""
    if not isinstance(target, str):
        return False
    module, _, name = target.rpartition(".")
    return (
        target in allowed_networks()
        or (module == "torch.nn" and name in TORCH_MODULES)
        or (module == "torch.nn.functional" and name in TORCH_FUNCTIONS)
    )


@contextmanager
def _limited_parameters(limit: int) -> Iterator[None]:
    """Raise ValueError if the block gives modules more parameters: a config of few bytes may ask for 10,000 layers."""
    count, thread = 0, get_ident()

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count
        count += get_ident() == thread
        if count > limit:
            raise ValueError(f"it has more than {limit} parameters, far more than the weights in the file")

    handle = register_module_parameter_registration_hook(register)
    try:
        yield
    finally:
        handle.remove()


def _require_allowed(node: Any, path: Path) -> None:
    match node:
        case Mapping():
            if "_target_" in node and not is_allowed(node["_target_"]):
                raise InputError(
                    f"{path}: the config calls {str(node['_target_'])[:200]!r}, which is not trusted: only networks "
                    "that conf/model or experiments name, and activations and norms of torch.nn are"
                )
            for key in node:
                is_name = isinstance(key, str) and key.isidentifier() and key not in PLACEMENT
                if not (is_name and (key[0] != "_" or key in HYDRA_KEYS)):
                    raise InputError(f"{path}: {str(key)[:200]!r} is not the name of an argument of a network")
            if type(node.get("_partial_", False)) is not bool:
                raise InputError(f"{path}: _partial_ must be true or false, got {str(node['_partial_'])[:200]!r}")
            for child in node.values():
                _require_allowed(child, path)
        case list() | tuple():
            for child in node:
                _require_allowed(child, path)
        case int() | float() if not math.isfinite(node) or abs(node) > MAX_NUMBER:
            raise InputError(f"{path}: numbers of a network's config must lie within +-{MAX_NUMBER}, got {node!s:.20}")


def _import_modules(node: Any) -> None:
    """Import the modules of all classes and functions of a checked config."""
    match node:
        case Mapping():
            if "_target_" in node:
                import_module(node["_target_"].rpartition(".")[0])
            for child in node.values():
                _import_modules(child)
        case list() | tuple():
            for child in node:
                _import_modules(child)


def _instantiate(config: Mapping[str, Any], path: Path) -> Any:
    try:
        return _construct(config)
    except Exception as error:  # any exception of the network's class
        reason = " ".join(str(error).split())[:500]
        raise InputError(f"{path}: {config['_target_']} can't be built from the config: {reason}") from error


def _construct(node: Any) -> Any:
    """Build a checked config; not Hydra's `instantiate`, which accepts more than `_require_allowed` knows of."""
    if isinstance(node, list | tuple):
        return [_construct(child) for child in node]
    if not isinstance(node, Mapping):
        return node
    arguments = {key: _construct(child) for key, child in node.items() if key not in HYDRA_KEYS}
    if "_target_" not in node:
        return arguments
    module, _, name = node["_target_"].rpartition(".")
    target = getattr(import_module(module), name)
    return partial(target, **arguments) if node.get("_partial_", False) else target(**arguments)
