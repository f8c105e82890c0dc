"""Train one model: `python -m src.train model=lbam data=places`."""

import logging
from typing import Any

import hydra
from hydra.utils import instantiate
from lightning.pytorch import Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf

import src.experiments  # noqa: F401  # rows of the papers' tables as experiments=
from src.data.mask_bank import MaskBank, bins_within
from src.errors import InputError, reports_input_errors
from src.modules.checkpoint import load_checkpoint, read_checkpoint
from src.modules.trainer import make_trainer
from src.networks.execution import compile_method, prepare
from src.networks.interface import InpaintingNetwork

log = logging.getLogger(__name__)

EXECUTION = ("compile", "channels_last", "gradient_checkpointing")
"""Keys that change how a network is run, and not what is trained."""


DATA_WITHOUT_EFFECT = {"workers", "cache_images", "packed"}
"""Keys of data that change how samples are read, and not what they are."""

SEEDS = ("init_seed", "mask_seed", "noise_seed")
"""Keys that are `seed` unless given: of initial weights, of masks, and of what a step draws."""


class NothingToTrainError(InputError):
    """The run that is to be gone on with has reached its end."""


def train(cfg: DictConfig) -> Trainer:
    """Train as conf/train.yaml composes.

    Returns:
        The Trainer: `callback_metrics` hold the last validation, `checkpoint_callback` the paths.

    Raises:
        InputError: the model has no weights, the data are not there, or the checkpoint to resume does not fit.
    """
    if "training" not in cfg.model:
        raise InputError(f"model={cfg.model.name} has no weights to train: use src.evaluate")
    if "loss" not in cfg:
        raise InputError("there is no such loss: loss=<a file of conf/loss>, such as lbam or pconv")
    for refused, (off, ours) in {
        "gradient_clip_val": (None, "clip_norm"),
        "accumulate_grad_batches": (1, "accumulate"),
    }.items():
        if cfg.trainer[refused] != off:
            raise InputError(f"trainer.{refused} is refused under manual optimisation: set {ours}= instead")
    if cfg.resume is not None and cfg.start_from is not None:
        raise InputError("give resume= (go on with a run) or start_from= (a new run from its weights), not both")
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    start = 0 if cfg.resume is None else _step_to_resume(cfg.resume, config)

    seed_everything(cfg.init_seed, workers=True, verbose=False)
    masks = instantiate(cfg.mask.generator)
    size = (cfg.scale.image_size, cfg.scale.image_size)
    data = instantiate(cfg.data, _partial_=True)(
        masks=masks,
        hole_share=tuple(cfg.mask.hole_share),
        validation_bank=MaskBank.draw(
            masks, size, cfg.bank_masks_per_bin, cfg.mask_seed, bins_within(tuple(cfg.mask.hole_share))
        ),
    )
    module = instantiate(cfg.model.training)(
        network=instantiate(cfg.model.network),
        loss=instantiate(cfg.loss),
        accumulate=cfg.accumulate,
        clip_norm=cfg.clip_norm,
        noise_seed=cfg.noise_seed,
    )
    module.run_config = config
    if cfg.start_from is not None:
        _start_from(cfg.start_from, module.network, config)
    prepare(module.network, **{key: cfg[key] for key in EXECUTION})
    if cfg.compile and module.loss.extractor is not None:
        compile_method(module.loss.extractor)  # but no critic: a gradient penalty is differentiated twice
    callbacks = [instantiate(callback) for callback in cfg.callbacks.values() if callback is not None]
    chosen = cfg.get("logger", {})  # logger=[] leaves none
    loggers = [instantiate(logger) for logger in chosen.values() if logger is not None]
    trainer = make_trainer(_in_batches(cfg.trainer, module.batches_per_step), callbacks=callbacks, logger=loggers)
    for logger in loggers:
        logger.log_hyperparams(config)
    log.info("training %s on %s, output in %s", cfg.model.name, cfg.data.name, cfg.output_dir)
    trainer.fit(module, datamodule=data, ckpt_path=cfg.resume, weights_only=True)
    if trainer.global_step == start:
        raise NothingToTrainError(
            f"nothing was trained, step {start} is the end: raise trainer.max_steps or trainer.max_epochs"
        )
    return trainer


def data_with_effect(data: Any) -> dict[str, Any]:
    """Entries of a configuration's data that decide what its samples are."""
    return {
        key: value
        for key, value in data.items()
        if key not in DATA_WITHOUT_EFFECT
        and not (key == "reduced_decode" and value is False)  # as in runs from before there was such a key
        and not (key == "mask_seed" and value == data["seed"])  # likewise
    }


def seeds_of_their_own(config: Any) -> dict[str, int]:
    """Those of a configuration's `SEEDS` that are not its `seed`: none of a run from before there were such keys."""
    return {key: config[key] for key in SEEDS if key in config and config[key] != config["seed"]}


def differing(one: Any, other: Any, prefix: str = "") -> list[str]:
    """Keys in which two plain configurations differ, dotted."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other else [prefix]
    return [
        found
        for key in sorted(one.keys() | other.keys())
        for found in differing(one.get(key), other.get(key), f"{prefix}.{key}".lstrip("."))
    ]


def _in_batches(trainer: DictConfig, batches_per_step: int) -> DictConfig:
    """What Lightning counts in batches, and our configuration in generator steps."""
    counts = {
        key: trainer[key] * batches_per_step
        for key in ("log_every_n_steps", "val_check_interval")
        if isinstance(trainer[key], int)
    }
    return OmegaConf.merge(trainer, counts)  # type: ignore[return-value]


def _start_from(path: str, network: InpaintingNetwork, config: dict[str, Any]) -> None:
    checkpoint = load_checkpoint(path)
    _refuse_another_network(f"start_from={path}", checkpoint.config, config)
    network.load_state_dict(checkpoint.network.state_dict())


def _refuse_another_network(origin: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    networks = [config["model"]["network"] for config in (before, now)]
    if networks[0] != networks[1]:
        raise InputError(f"{origin} holds another network: {networks[0]}, asked for {networks[1]}")


def _procedure(config: dict[str, Any]) -> dict[str, Any]:
    """What decides which optimisers a run has, and of what: their states are matched by position."""
    training, terms = config["model"]["training"], config["loss"]["terms"]
    stages = {
        name: {part: stage[part] for part in ("trains", "terms")} for name, stage in training.get("stages", {}).items()
    }
    return {"_target_": training["_target_"], "only": training.get("only"), "stages": stages, "loss.terms": terms}


def _with_effect(config: dict[str, Any]) -> dict[str, Any]:
    """What matters to a run that goes on, and is logged if it has changed."""
    left_out = ("resume", "output_dir", "callbacks", "logger", "workers", *EXECUTION, *SEEDS)
    others = {key: value for key, value in config.items() if key not in left_out} | seeds_of_their_own(config)
    trainer = {key: value for key, value in config["trainer"].items() if key != "default_root_dir"}  # of output_dir
    return others | {"data": data_with_effect(config["data"]), "trainer": trainer}


def _step_to_resume(path: str, config: dict[str, Any]) -> int:
    """The generator step of a checkpoint that can be gone on from; what has changed since is logged."""
    checkpoint = read_checkpoint(path)
    if "optimizer_states" not in checkpoint:
        raise InputError(f"resume={path} holds a network alone, no run to go on with: use start_from={path}")
    step, limit = checkpoint["global_step"], config["trainer"]["max_steps"]
    if 0 < limit <= step:
        raise NothingToTrainError(
            f"resume={path} is at step {step} of {limit} already: raise trainer.max_steps to go on"
        )
    _refuse_another_network(f"resume={path}", checkpoint["config"], config)
    before, now = (_procedure(given) for given in (checkpoint["config"], config))
    if others := [part for part in now if before[part] != now[part]]:
        raise InputError(
            f"resume={path} was trained with another {', '.join(others)}: its optimisers could not be restored; "
            f"start_from={path} begins a new run with its weights"
        )
    changed = differing(_with_effect(checkpoint["config"]), _with_effect(config))
    log.info("resuming %s at generator step %d; the best is chosen anew, among what follows", path, step)
    if changed:
        log.warning("the configuration has changed since that checkpoint in: %s", ", ".join(changed))
    return int(step)


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
@reports_input_errors
def main(cfg: DictConfig) -> float | None:
    """Train; the best validation PSNR is returned for Hydra's sweepers to maximise."""
    trainer = train(cfg)
    best = getattr(trainer.checkpoint_callback, "best_model_score", None)
    print(f"checkpoints: {cfg.output_dir}/checkpoints")
    return None if best is None else float(best)


if __name__ == "__main__":
    main()
