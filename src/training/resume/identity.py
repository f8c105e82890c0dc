"""Whether two configurations describe the same run: which options define what a run computes, and which do not."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from src.common.errors import InputError

SEEDS = ("init_seed", "mask_seed", "noise_seed")
"""Seeds that equal `seed` unless they are overridden."""

DEFINING_OPTIONS = (
    *("model", "loss", "data", "mask", "scale", "trainer", "callbacks", "start_from", "weights"),
    *("batch_size", "accumulate", "clip_norm", "seed", "bank_masks_per_bin"),
)
"""Top-level options that define a run. All others change how it is executed, where it is kept or what is logged."""

IRRELEVANT_OPTIONS = {
    "data": {"workers", "cache_mib", "verify", "datamodule"},  # datamodule repeats the other keys
    "scale": {"test_batches"},
    "trainer": {
        *("accelerator", "benchmark", "default_root_dir", "enable_model_summary", "enable_progress_bar"),
        *("limit_test_batches", "log_every_n_steps", "logger", "max_time"),
    },
}
"""Options inside those groups that do not change what a run computes."""

_DEFINING_CALLBACKS = {"ema": None, "best": {"monitor", "mode"}}  # by callback, the options that matter; None: all
_REQUIRED = ("model.network", "model.training", "loss.terms", "data.seed", "trainer", "seed")


def run_identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a resolved configuration that defines a run: equal parts mean the same run.

    Applying it to its own result changes nothing, so saved identities stay comparable.
    """
    identity = {key: config[key] for key in DEFINING_OPTIONS if config.get(key) is not None}
    identity |= {key: config[key] for key in SEEDS if key in config and config[key] != config["seed"]}
    for group in ("data", "scale", "trainer"):
        identity[group] = _relevant(group, identity.get(group) or {})
    callbacks = identity.get("callbacks") or {}
    identity["callbacks"] = {
        name: callbacks[name] if keys is None else {key: callbacks[name].get(key) for key in keys}
        for name, keys in _DEFINING_CALLBACKS.items()
        if callbacks.get(name) is not None
    }
    return identity


def composed_identity(cfg: DictConfig) -> dict[str, Any]:
    """Return the `run_identity` of a composed configuration, whose output directory Hydra may not have chosen yet."""
    task = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in ("hydra", "logger")])
    with open_dict(task):
        task.output_dir = ""
    return run_identity(OmegaConf.to_container(task, resolve=True))  # type: ignore[arg-type]


def differing_keys(one: Any, other: Any, prefix: str = "") -> list[str]:
    """Return the dotted keys in which two plain configurations differ; a missing key equals null."""
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return [] if one == other else [prefix]
    return [
        found
        for key in sorted(one.keys() | other.keys())
        for found in differing_keys(one.get(key), other.get(key), f"{prefix}.{key}".lstrip("."))
    ]


def optimizer_layout(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that decide which optimisers a run has, as Lightning matches their states by position."""
    training, terms = config["model"]["training"], config["loss"]["terms"]
    stages = {
        name: {part: stage[part] for part in ("trains", "terms")} for name, stage in training.get("stages", {}).items()
    }
    return {"_target_": training["_target_"], "only": training.get("only"), "stages": stages, "loss.terms": terms}


def require_complete_config(path: object, config: Mapping[str, Any]) -> None:
    """Raise InputError if the configuration read from `path` lacks an option that is needed to compare runs."""
    for key in _REQUIRED:
        node: Any = config
        for part in key.split("."):
            if not isinstance(node, Mapping) or part not in node:
                raise InputError(f"{path} does not record how its run was trained: its configuration lacks {key}")
            node = node[part]


def _relevant(group: str, options: Mapping[str, Any]) -> dict[str, Any]:
    relevant = {key: value for key, value in options.items() if key not in IRRELEVANT_OPTIONS[group]}
    if group == "data" and options.get("mask_seed") == options.get("seed"):
        relevant.pop("mask_seed", None)  # as in SEEDS
    if isinstance(relevant.get("devices"), list):  # which devices does not matter
        relevant["devices"] = len(relevant["devices"])
    return relevant
