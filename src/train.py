"""Train one model: `python -m src.train model=lbam data=places`."""

import logging
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

import src.common.resolvers  # rows of the papers' tables as experiments=
import src.common.run_dir  # noqa: F401  # ${run_folder:}
from src.checkpoints.reading import load_checkpoint, read_checkpoint
from src.checkpoints.writing import WholeCheckpointIO
from src.common.errors import InputError, reports_input_errors
from src.common.tensor_files import state_dict_mismatch
from src.loggers.setup import closing, keep_trained, make_loggers
from src.masks.bank import MaskBank, bins_within
from src.networks.execution import compile_method, prepare
from src.networks.interface import InpaintingNetwork
from src.training.callbacks.health import DivergedError
from src.training.callbacks.last_checkpoint import FILES, LAST, ROUNDING, LastCheckpoint, rounding, training_files
from src.training.resume.run_dirs import BEST, alone_in, begin, fail, finish, finished, latest_checkpoint, was_begun
from src.training.trainer import make_trainer

log = logging.getLogger(__name__)

# A run that goes on finds its checkpoints there.
warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")

EXECUTION = ("compile", "channels_last", "gradient_checkpointing")
"""Keys that change how a network is run, and not what is trained."""

WHOLE_NUMBERS = {"batch_size": 1, "workers": 0, "bank_masks_per_bin": 1, "trainer.max_steps": -1}
"""Keys that are whole numbers, and the smallest that each may be."""

RECIPE = ("batch_size", "learning_rate")
"""Keys of a scale that the paper's takes from the model's file, beside the length: its steps or its epochs."""

COMPARED = ("model.network", "model.training", "loss.terms", "data.seed", "trainer", "seed")
"""Parts of a configuration by which it is seen whether a checkpoint is of the same run."""

RUN = {"optimizer_states", "loops", "callbacks", "pytorch-lightning_version"}
"""Keys of a checkpoint that a run goes on from, beside those of any."""

DATA_WITHOUT_EFFECT = {"workers", "cache_mib", "cache_images", "verify"}
"""Keys of data that change how samples are read, and not what they are; `cache_images` is of earlier runs."""

SEEDS = ("init_seed", "mask_seed", "noise_seed")
"""Keys that are `seed` unless given: of initial weights, of masks, and of what a step draws."""


class NothingToTrainError(InputError):
    """The run that is to be gone on with has reached its end."""


class FinishedError(NothingToTrainError):
    """The same run is in the folder, and finished."""


def train(cfg: DictConfig) -> Trainer:
    """Train as conf/train.yaml composes; with resume=auto, go on with what `output_dir` holds of the same run.

    Returns:
        The Trainer: `callback_metrics` hold the last validation, `checkpoint_callback` the paths.

    Raises:
        NothingToTrainError: the run came to its end before; FinishedError, if it is this very one.
        InputError: the model has no weights, the data are not there, or the checkpoint to resume does not fit.
    """
    if "training" not in cfg.model:
        raise InputError(f"model={cfg.model.name} has no weights to train: use src.evaluate")
    unset = [f"scale.{key}=" for key in RECIPE if cfg.scale[key] is None]
    if all(cfg.scale[limit] in (None, -1) for limit in ("max_steps", "max_epochs")):
        unset.append("scale.max_steps= or scale.max_epochs=")
    if unset:
        raise InputError(
            f"conf/model/{cfg.model.name}.yaml does not say how model={cfg.model.name} trains at "
            f"scale={cfg.scale.name}: set {', '.join(unset)}, or add batch_size, learning_rate and steps (or epochs) "
            "to that file"
        )
    if "loss" not in cfg:
        raise InputError("there is no such loss: loss=<a file of conf/loss>, such as lbam or pconv")
    for refused, (off, ours) in {
        "gradient_clip_val": (None, "clip_norm"),
        "accumulate_grad_batches": (1, "accumulate"),
    }.items():
        if cfg.trainer[refused] != off:
            raise InputError(f"trainer.{refused} is refused under manual optimisation: set {ours}= instead")
    if not isinstance(cfg.resume, str | None):
        raise InputError(f"resume must be auto, null or a checkpoint's path, got {cfg.resume!r}")
    for key in ("seed", *SEEDS):
        if type(cfg[key]) is not int or not 0 <= cfg[key] < 2**32:
            raise InputError(f"{key} must be a whole number from 0 to 2^32 - 1, got {cfg[key]!r}")
    for key, least in WHOLE_NUMBERS.items():
        value = OmegaConf.select(cfg, key)
        if type(value) is not int or value < least:
            raise InputError(f"{key} must be a whole number from {least}, got {value!r}")
    for name, callback in cfg.callbacks.items():
        if callback is not None and not (isinstance(callback, DictConfig) and "_target_" in callback):
            raise InputError(f"callbacks.{name} must be null or have a _target_, got {callback!r}")
    if cfg.resume not in (None, "auto") and cfg.start_from is not None:
        raise InputError("give resume= (go on with a run) or start_from= (a new run from its weights), not both")
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    folder = Path(cfg.output_dir)
    resumed, before = _checkpoint_to_resume(cfg.resume, folder, config)
    start = before.get("global_step", 0)
    goes_on_there = resumed is not None and _lies_in(resumed, folder)

    seed_everything(cfg.init_seed, workers=True, verbose=False)
    masks = instantiate(cfg.mask.generator)
    size = (cfg.scale.image_size, cfg.scale.image_size)
    data = instantiate(cfg.data, _partial_=True)(
        masks=masks,
        hole_ratio=tuple(cfg.mask.hole_ratio),
        validation_bank=MaskBank.draw(
            masks, size, cfg.bank_masks_per_bin, cfg.mask_seed, bins_within(tuple(cfg.mask.hole_ratio))
        ),
    )
    if FILES in before and before[FILES] != training_files(data):
        said = f"the training pictures of data={cfg.data.name} are not those that {resumed} was trained on"
        if goes_on_there:
            raise InputError(f"{said}: bring them back, or begin anew with resume=null")
        log.warning("%s", said)
    module = instantiate(cfg.model.training)(
        network=instantiate(cfg.model.network),
        loss=instantiate(cfg.loss),
        accumulate=cfg.accumulate,
        clip_norm=cfg.clip_norm,
        noise_seed=cfg.noise_seed,
    )
    module.run_config = config
    if before and (lacking := state_dict_mismatch(module.state_dict(), before["state_dict"])):
        raise InputError(f"the weights in {resumed} do not fit: {lacking}")
    if cfg.start_from is not None:
        _start_from(cfg.start_from, module.network, config)
    prepare(module.network, **{key: cfg[key] for key in EXECUTION})
    if cfg.compile and module.loss.extractor is not None:
        compile_method(module.loss.extractor)  # but no critic: a gradient penalty is differentiated twice
    callbacks = [
        instantiate(callback)
        for name, callback in cfg.callbacks.items()
        if callback is not None and (name != "progress" or cfg.trainer.enable_progress_bar)
    ]
    loggers = make_loggers(
        cfg,
        "train",
        (cfg.model.name, cfg.data.name, cfg.scale.name),
        goes_on=goes_on_there or (cfg.resume is not None and was_begun(folder, cfg)),
        checkpoint=before if goes_on_there else None,
    )
    trainer = make_trainer(
        _in_batches(cfg.trainer, module.batches_per_step),
        callbacks=callbacks,
        logger=loggers,
        plugins=[WholeCheckpointIO()],
    )
    with closing(loggers):
        for logger in loggers:
            logger.log_hyperparams(config)
        log.info("training %s on %s, output in %s", cfg.model.name, cfg.data.name, folder)
        if trainer.is_global_zero:
            begin(folder, cfg)
        trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
        if trainer.is_global_zero:
            if trainer.global_step == start and not goes_on_there:
                raise NothingToTrainError(
                    f"nothing was trained, step {start} is the end: raise trainer.max_steps or trainer.max_epochs"
                )
            _finish(trainer, folder, config, start)
            if (ended := finished(folder)) is not None:
                keep_trained(loggers, folder / "checkpoints", {key: ended[key] for key in BEST if key in ended})
    for callback in callbacks:
        if isinstance(callback, LastCheckpoint):
            callback.obey(trainer)
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
    trainer = {key: value for key, value in config["trainer"].items() if key not in ("default_root_dir", "max_time")}
    average = (config.get("callbacks") or {}).get("ema")  # of the callbacks it alone is a part of what is trained
    return others | {"data": data_with_effect(config["data"]), "trainer": trainer, "callbacks.ema": average}


def _checkpoint_to_resume(
    resume: str | None, folder: Path, config: dict[str, Any]
) -> tuple[Path | None, dict[str, Any]]:
    """What the run goes on from, and the content of that file; None and nothing where it begins.

    What `folder` holds of this same run comes before the checkpoint of another that `resume` may name.
    """
    if resume is None:
        return None, {}
    of_its_own = resume != "auto" and _lies_in(Path(resume), folder)
    if not of_its_own and (noted := finished(folder)) is not None:
        _refuse_another_run(folder, noted["config"], config)
        raise FinishedError(f"{folder} is finished: resume=null trains it anew, output_dir=<another folder> beside it")
    if not of_its_own and (own := latest_checkpoint(folder)) is not None:
        _refuse_another_run(folder, read_checkpoint(own)["config"], config)
        return own, _resumable(own, config)
    if resume == "auto":
        return None, {}
    checkpoint, limit = _resumable(Path(resume), config), config["trainer"]["max_steps"]
    if 0 < limit <= checkpoint["global_step"]:
        raise NothingToTrainError(
            f"resume={resume} is at step {checkpoint['global_step']} of {limit} already: raise trainer.max_steps"
        )
    return Path(resume), checkpoint


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether a checkpoint is one of the run in a folder."""
    return path.absolute().parent == (folder / "checkpoints").absolute()


def _refuse_another_run(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    _refuse_the_unsaid(folder, before)
    if changed := differing(_with_effect(before), _with_effect(now)):
        raise InputError(
            f"{folder} holds a run that differs in {', '.join(changed)}: give output_dir=<another folder>, or "
            f"resume={folder}/checkpoints/{LAST} to go on with the change, or resume=null to begin anew there"
        )


def _refuse_the_unsaid(path: Path, config: dict[str, Any]) -> None:
    """Refuse the configuration of a file in `path` that lacks a part by which runs are compared."""
    for key in COMPARED:
        node: Any = config
        for part in key.split("."):
            if not isinstance(node, dict) or part not in node:
                raise InputError(f"{path} does not say how its run was trained: its configuration has no {key}")
            node = node[part]


def _resumable(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint that can be gone on from."""
    checkpoint = read_checkpoint(path)
    if RUN - checkpoint.keys():
        raise InputError(f"resume={path} holds a network alone, no run to go on with: use start_from={path}")
    _refuse_the_unsaid(path, checkpoint["config"])
    _refuse_another_network(f"resume={path}", checkpoint["config"], config)
    before, now = (_procedure(given) for given in (checkpoint["config"], config))
    if others := [part for part in now if before[part] != now[part]]:
        raise InputError(
            f"resume={path} was trained with another {', '.join(others)}: its optimisers could not be restored; "
            f"start_from={path} begins a new run with its weights"
        )
    log.info("going on from %s, generator step %d", path, checkpoint["global_step"])
    if changed := differing(_with_effect(checkpoint["config"]), _with_effect(config)):
        log.warning("the configuration has changed since that checkpoint in: %s", ", ".join(changed))
    if rounded := differing(checkpoint.get(ROUNDING, rounding()), rounding()):
        log.warning("%s changed since: the run goes on, but not with the same last digits", " and ".join(rounded))
    return checkpoint


def _finish(trainer: Trainer, folder: Path, config: dict[str, Any], start: int) -> None:
    """Note that the run has come to its end, unless it was time that ended it."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it
    limit = next((callback for callback in callbacks if isinstance(callback, Timer)), None)
    if limit is not None and (left := limit.time_remaining()) is not None and left <= 0:
        if trainer.global_step == start:
            raise NothingToTrainError(f"trainer.max_time is used up at step {start}: raise it")
        log.info(
            "trainer.max_time is used up at step %d; the same command with more of it goes on", trainer.global_step
        )
        return
    best = trainer.checkpoint_callback
    score, key = getattr(best, "best_model_score", None), f"best_{getattr(best, 'monitor', '')}".replace("/", "_")
    finish(folder, config, {key: float(score)} if score is not None and key in BEST else {})


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
@reports_input_errors
def main(cfg: DictConfig) -> float | None:
    """Train; return the best validation PSNR, or edge F1 where MECNet is trained alone, for sweepers to maximise."""
    folder = Path(cfg.output_dir)
    # Lightning starts further processes with this same command, and the first one has the folder for all.
    is_first = rank_zero_only.rank == 0  # type: ignore[attr-defined]  # Lightning sets it
    with alone_in(folder) if is_first else nullcontext():
        try:
            train(cfg)
        except FinishedError as said:
            log.info("%s", said)
        except DivergedError as error:
            if HydraConfig.get().mode is not RunMode.MULTIRUN:
                raise
            log.error("error: %s", error)  # an end of this run, and not of the others
            if is_first:
                fail(folder, str(error))
            return None
    if is_first:
        print(f"checkpoints: {folder}/checkpoints")
    noted = finished(folder) or {}
    return next((noted[key] for key in BEST if noted.get(key) is not None), None)


if __name__ == "__main__":
    main()
