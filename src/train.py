"""Train one model: `python -m src.train model=lbam data=places`."""

import logging
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
from hydra.utils import instantiate
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

import src.experiments  # noqa: F401  # rows of the papers' tables as experiments=
from src.continuing import FINISHED, alone_in, finish, finished, latest_checkpoint
from src.data.mask_bank import MaskBank, bins_within
from src.errors import InputError, reports_input_errors
from src.modules.checkpoint import load_checkpoint, read_checkpoint
from src.modules.checkpoint_io import WholeCheckpointIO
from src.modules.last_checkpoint import LOGGED_ROWS, ROUNDING, rounding
from src.modules.trainer import make_trainer
from src.networks.execution import compile_method, prepare
from src.networks.interface import InpaintingNetwork
from src.tensor_files import misfit

log = logging.getLogger(__name__)

# A run that goes on finds its checkpoints there.
warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")

EXECUTION = ("compile", "channels_last", "gradient_checkpointing")
"""Keys that change how a network is run, and not what is trained."""

RUN = {"optimizer_states", "loops", "callbacks", "pytorch-lightning_version"}
"""Keys of a checkpoint that a run goes on from, beside those of any."""

DATA_WITHOUT_EFFECT = {"workers", "cache_images", "packed", "verify"}
"""Keys of data that change how samples are read, and not what they are."""

SEEDS = ("init_seed", "mask_seed", "noise_seed")
"""Keys that are `seed` unless given: of initial weights, of masks, and of what a step draws."""


TAKEN_UP: dict[str, Callable[[dict[str, Any]], dict[str, int]]] = {
    "src.modules.csv_log.CSVLog": lambda checkpoint: {"rows_kept": checkpoint.get(LOGGED_ROWS, 0)},
    "lightning.pytorch.loggers.TensorBoardLogger": lambda checkpoint: {"purge_step": checkpoint["global_step"] + 1},
}
"""What tells a logger to leave out what a run logged behind the checkpoint from which it goes on in its folder."""


class NothingToTrainError(InputError):
    """The run that is to be gone on with has reached its end."""


def train(cfg: DictConfig) -> Trainer:
    """Train as conf/train.yaml composes; with resume=auto, go on with what `output_dir` holds of the same run.

    Returns:
        The Trainer: `callback_metrics` hold the last validation, `checkpoint_callback` the paths.

    Raises:
        NothingToTrainError: the run came to its end before.
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
    if cfg.resume not in (None, "auto") and cfg.start_from is not None:
        raise InputError("give resume= (go on with a run) or start_from= (a new run from its weights), not both")
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    folder = Path(cfg.output_dir)
    resumed, before = _checkpoint_to_resume(cfg.resume, folder, config)
    start = before.get("global_step", 0)
    in_its_folder = resumed is not None and resumed.absolute().parent == (folder / "checkpoints").absolute()

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
    if before and (lacking := misfit(module.state_dict(), before["state_dict"])):
        raise InputError(f"the weights in {resumed} do not fit: {lacking}")
    if cfg.start_from is not None:
        _start_from(cfg.start_from, module.network, config)
    prepare(module.network, **{key: cfg[key] for key in EXECUTION})
    if cfg.compile and module.loss.extractor is not None:
        compile_method(module.loss.extractor)  # but no critic: a gradient penalty is differentiated twice
    callbacks = [instantiate(callback) for callback in cfg.callbacks.values() if callback is not None]
    chosen = cfg.get("logger", {})  # logger=[] leaves none
    loggers = [
        instantiate(
            logger, **(TAKEN_UP[logger._target_](before) if in_its_folder and logger._target_ in TAKEN_UP else {})
        )
        for logger in chosen.values()
        if logger is not None
    ]
    trainer = make_trainer(
        _in_batches(cfg.trainer, module.batches_per_step),
        callbacks=callbacks,
        logger=loggers,
        plugins=[WholeCheckpointIO()],
    )
    for logger in loggers:
        logger.log_hyperparams(config)
    log.info("training %s on %s, output in %s", cfg.model.name, cfg.data.name, folder)
    if trainer.is_global_zero:
        (folder / FINISHED).unlink(missing_ok=True)
    trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
    if trainer.global_step == start and cfg.resume != "auto" and trainer.is_global_zero:
        raise NothingToTrainError(
            f"nothing was trained, step {start} is the end: raise trainer.max_steps or trainer.max_epochs"
        )
    if trainer.is_global_zero:
        best = getattr(trainer.checkpoint_callback, "best_model_score", None)
        finish(folder, None if best is None else float(best))
    return trainer


def data_with_effect(data: Any) -> dict[str, Any]:
    """Entries of a configuration's data that decide what its samples are."""
    return {
        key: value
        for key, value in data.items()
        if key not in DATA_WITHOUT_EFFECT
        and (key, value) not in (("reduced_decode", False), ("manifest", "auto"))  # as in runs from before these keys
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


def _checkpoint_to_resume(
    resume: str | None, folder: Path, config: dict[str, Any]
) -> tuple[Path | None, dict[str, Any]]:
    """What `resume` asks to go on from, and the content of that file; None and nothing where a run begins."""
    if resume is None:
        return None, {}
    if resume != "auto":
        return Path(resume), _resumable(Path(resume), config)
    if finished(folder) is not None:
        raise NothingToTrainError(
            f"{folder} holds a finished run: give output_dir=<another folder>, or resume=null to train it anew"
        )
    path = latest_checkpoint(folder)
    return path, {} if path is None else _resumable(path, config)


def _resumable(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint that can be gone on from; with resume=auto, of the same run alone."""
    checkpoint, own = read_checkpoint(path), config["resume"] == "auto"
    if RUN - checkpoint.keys():
        raise InputError(f"resume={path} holds a network alone, no run to go on with: use start_from={path}")
    step, limit = checkpoint["global_step"], config["trainer"]["max_steps"]
    if 0 < limit <= step and not own:
        raise NothingToTrainError(
            f"resume={path} is at step {step} of {limit} already: raise trainer.max_steps to go on"
        )
    try:
        before, now = (_procedure(given) for given in (checkpoint["config"], config))
        changed = differing(_with_effect(checkpoint["config"]), _with_effect(config))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"resume={path} does not say how it was trained ({type(error).__name__}: {error}); "
            f"start_from={path} begins a new run with its weights"
        ) from error
    if own and changed:
        raise InputError(
            f"{config['output_dir']} holds a run that differs in {', '.join(changed)}: give output_dir=<another "
            f"folder>, or resume={path} to go on with the change, or resume=null to begin anew there"
        )
    _refuse_another_network(f"resume={path}", checkpoint["config"], config)
    if others := [part for part in now if before[part] != now[part]]:
        raise InputError(
            f"resume={path} was trained with another {', '.join(others)}: its optimisers could not be restored; "
            f"start_from={path} begins a new run with its weights"
        )
    log.info("going on from %s, generator step %d", path, step)
    if changed:
        log.warning("the configuration has changed since that checkpoint in: %s", ", ".join(changed))
    if rounded := differing(checkpoint.get(ROUNDING, rounding()), rounding()):
        log.warning("%s changed since: the run goes on, but not with the same last digits", " and ".join(rounded))
    return checkpoint


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
@reports_input_errors
def main(cfg: DictConfig) -> float | None:
    """Train; the best validation PSNR is returned for Hydra's sweepers to maximise."""
    folder = Path(cfg.output_dir)
    # Lightning starts further processes with this same command, and the first one has the folder for all.
    is_first = rank_zero_only.rank == 0  # type: ignore[attr-defined]  # Lightning sets it
    with alone_in(folder) if is_first else nullcontext():
        if cfg.resume == "auto" and (before := finished(folder)) is not None:
            log.info("%s is finished; resume=null trains it anew", folder)
            return before["best_val_psnr"]
        train(cfg)
    if is_first:
        print(f"checkpoints: {folder}/checkpoints")
    return (finished(folder) or {}).get("best_val_psnr")


if __name__ == "__main__":
    main()
