"""The end of a run: marking it as finished."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import Logger

from src.loggers.setup import log_training_result
from src.training.resume.checkpoints import NothingToTrainError, ResumePoint
from src.training.resume.run_dirs import BEST, mark_finished

log = logging.getLogger(__name__)


def finish_run(
    trainer: Trainer, loggers: Sequence[Logger], run_dir: Path, config: dict[str, Any], start: ResumePoint
) -> None:
    """Mark the run as finished with its best validation score, unless trainer.max_time stopped it.

    Raises:
        NothingToTrainError: no step was taken.
    """
    if _time_is_used_up(trainer):
        if trainer.global_step == start.step:
            raise NothingToTrainError(f"trainer.max_time is used up at step {start.step}: increase it")
        log.info("trainer.max_time is used up at step %d: increase it to resume the run", trainer.global_step)
        return
    if trainer.global_step == start.step and not start.in_place:
        raise NothingToTrainError(
            f"nothing was trained, as step {start.step} is the last: increase trainer.max_steps or trainer.max_epochs"
        )
    checkpoint = trainer.checkpoint_callback
    score = getattr(checkpoint, "best_model_score", None)
    key = f"best_{getattr(checkpoint, 'monitor', '')}".replace("/", "_")
    best = {key: float(score)} if score is not None and key in BEST else {}
    mark_finished(run_dir, config, best)
    log_training_result(loggers, run_dir / "checkpoints", {BEST[0]: None, **best})


def _time_is_used_up(trainer: Trainer) -> bool:
    timers = (one for one in trainer.callbacks if isinstance(one, Timer))  # type: ignore[attr-defined]
    return any((left := timer.time_remaining()) is not None and left <= 0 for timer in timers)
