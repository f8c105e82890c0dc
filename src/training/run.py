"""Train a model from a composed configuration, as `python -m src.train` does."""

import logging
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from omegaconf import DictConfig, OmegaConf

import src.common.resolvers  # noqa: F401  # conf/train.yaml needs its resolvers, also when composed from Python
from src.checkpoints.writing import AtomicCheckpointIO
from src.common.options import check_options
from src.common.schemas import TrainOptions
from src.loggers.setup import closing, make_loggers
from src.training.callbacks.last_checkpoint import LastCheckpoint
from src.training.finish import finish_run
from src.training.resume.checkpoints import find_resume_point
from src.training.resume.run_dirs import is_unfinished_run, mark_started
from src.training.setup import make_callbacks, make_datamodule, make_module, require_recipe
from src.training.trainer import in_batches, make_trainer

log = logging.getLogger(__name__)

# A resumed run finds its checkpoints there.
warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
# A run that is continued in another directory starts a best checkpoint of its own there, as it should.
warnings.filterwarnings("ignore", message=r"The dirpath has changed from")


def train(cfg: DictConfig) -> Trainer:
    """Train a model from a config of conf/train.yaml; with resume=auto, resume the same run if `output_dir` has it.

    Returns:
        The Trainer: `callback_metrics` holds the last validation, `checkpoint_callback` the best checkpoint's path.

    Raises:
        NothingToTrainError: the run is at its last step already; RunFinishedError, if `output_dir` holds it finished.
        InputError: an option is invalid, data is missing, or the checkpoint to resume does not match.
    """
    require_recipe(cfg)
    check_options(cfg, TrainOptions)
    run_dir = Path(cfg.output_dir)
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    start = find_resume_point(cfg.resume, run_dir, config)

    seed_everything(cfg.init_seed, workers=True, verbose=False)
    datamodule = make_datamodule(cfg)
    start.check_training_files(datamodule)
    module = make_module(cfg, config, start)
    callbacks = make_callbacks(cfg)
    loggers = make_loggers(
        cfg,
        "train",
        (cfg.model.name, cfg.data.name, cfg.scale.name),
        resumed=start.in_place or (cfg.resume is not None and is_unfinished_run(run_dir, cfg)),
        checkpoint=start.checkpoint if start.in_place else None,
    )
    trainer = make_trainer(
        in_batches(cfg.trainer, module.batches_per_step),
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        # otherwise Lightning adds its own bar, which can't count a run that is limited by steps
        **({} if any(isinstance(callback, ProgressBar) for callback in callbacks) else {"enable_progress_bar": False}),
    )
    start.check_run_state(trainer, module)

    with closing(loggers):
        for logger in loggers:
            logger.log_hyperparams(config)
        log.info("training %s on %s, output in %s", cfg.model.name, cfg.data.name, run_dir)
        if trainer.is_global_zero:
            mark_started(run_dir, cfg)
        trainer.fit(module, datamodule=datamodule, ckpt_path=start.path, weights_only=True)
        if trainer.is_global_zero:
            finish_run(trainer, loggers, run_dir, config, start)
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, LastCheckpoint):
            callback.handle_pending_signal(trainer)
    return trainer
