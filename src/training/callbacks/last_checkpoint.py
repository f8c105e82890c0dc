"""The latest checkpoint of a run, from which it resumes as if it had never stopped."""

import logging
import signal
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loops.progress import _ProcessedTracker
from lightning.pytorch.trainer.states import TrainerFn

from src.common.errors import InputError
from src.data.datamodule import InpaintingData
from src.loggers.setup import save_logs
from src.training.callbacks.stop_signals import StopSignals

LAST, BEFORE_LAST = "last.ckpt", "before_last.ckpt"
"""File names of the latest checkpoint and of its predecessor, which is used if the latest is corrupt."""

FILES = "training_files"
"""Key of a checkpoint: hashes of the training files, see `hash_training_files`."""

_DUE = 1  # the number of SIGHUP, which is not handled here

log = logging.getLogger(__name__)


def numeric_environment() -> dict[str, Any]:
    """Return PyTorch's version and number of threads; other values change the last digits of a run."""
    return {"torch": str(torch.__version__), "threads": torch.get_num_threads()}


def hash_training_files(data: InpaintingData) -> dict[str, str]:
    """Return hashes of the training images' names and, with a manifest, of their contents."""
    return {key: value for key, value in data.provenance("train").items() if key.startswith("sha256")}


class LastCheckpoint(Checkpoint):
    """Keep `last.ckpt`, and the one before it as `before_last.ckpt`.

    It is written after every validation (as by Lightning's own callback), after the last step, on a signal (see
    `StopSignals`), and between two batches once `minutes` have passed; when does not affect the run's result.

    Args:
        dirpath: directory of the checkpoints.
        minutes: interval between checkpoints; the most training that a killed run loses, apart from a validation.
    Raises:
        InputError: `minutes` is below 0.
    """

    def __init__(self, dirpath: str, minutes: float) -> None:
        if not isinstance(minutes, int | float) or minutes < 0:
            raise InputError(f"callbacks.last.minutes must be a number >= 0, got {minutes!r}")
        self.folder, self.minutes = Path(dirpath), minutes
        self._signals = StopSignals()
        self._batches_saved = -1
        self._time_saved = time.monotonic()
        self._loops_are_ahead = ""
        self._files: dict[str, str] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remember the signal handlers before Lightning replaces them, and hash the files before they are read."""
        self._signals.remember_handlers()
        data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
        assert isinstance(data, InpaintingData)
        self._files = hash_training_files(data)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers; a restored state is not saved again."""
        self._signals.install()
        self._batches_saved, self._time_saved = self._batches_done(trainer), time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state with the validation's scores."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save the state after the previous batch on a signal or after `minutes`, then handle the signal."""
        overdue = time.monotonic() - self._time_saved >= 60 * self.minutes
        # All processes take part in saving, but only one may have received the signal.
        reason = _largest(trainer, self._signals.received or (_DUE if overdue else 0))
        if not reason:
            return
        if self._batches_done(trainer) != self._batches_saved:
            self._save(trainer, "batch")
        if reason != _DUE:
            name = signal.Signals(reason).name
            log.warning("%s: saved the run at step %d to %s", name, trainer.global_step, self.folder / LAST)
            self._signals.handle(reason, trainer.is_global_zero)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step, whatever ended the run."""
        if self._batches_done(trainer) != self._batches_saved:
            self._save(trainer, "epoch")
        self._signals.received = _largest(trainer, self._signals.received)

    def handle_pending_signal(self, trainer: Trainer) -> None:
        """Handle a signal that arrived after the last batch, once the run is finished: a multirun must not continue."""
        if self._signals.received:
            self._signals.handle(self._signals.received, trainer.is_global_zero)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the loggers' positions, and set Lightning's counters to the end of the last batch."""
        if trainer.is_global_zero:
            checkpoint.update(save_logs(trainer.loggers))
        checkpoint["rounding"], checkpoint[FILES] = numeric_environment(), self._files
        if self._loops_are_ahead:
            _set_back(checkpoint["loops"]["fit_loop"], self._loops_are_ahead)

    def _save(self, trainer: Trainer, loops_are_ahead: str = "") -> None:
        self._loops_are_ahead = loops_are_ahead
        following = self.folder / "next.ckpt"
        trainer.save_checkpoint(following, weights_only=False)
        if trainer.is_global_zero:
            if (self.folder / LAST).exists():
                (self.folder / LAST).replace(self.folder / BEFORE_LAST)
            following.replace(self.folder / LAST)
        self._loops_are_ahead = ""
        self._batches_saved, self._time_saved = self._batches_done(trainer), time.monotonic()

    @staticmethod
    def _batches_done(trainer: Trainer) -> int:
        total = trainer.fit_loop.epoch_loop.batch_progress.total
        assert isinstance(total, _ProcessedTracker)
        return total.processed


def _largest(trainer: Trainer, number: int) -> int:
    """Return the maximum of a number over all processes."""
    if trainer.world_size == 1:
        return number
    local = torch.tensor(number, device=trainer.strategy.root_device)
    return int(trainer.strategy.reduce(local, reduce_op="max"))


def _set_back(fit_loop: dict[str, Any], ahead: str) -> None:
    """Set the loop counters to the values that Lightning has at the end of a batch, before it is logged and validated.

    Lightning 2.6 resumes with the following batch only from those values.

    Args:
        ahead: "batch" at the start of the next batch; "epoch" after the last batch, which may lie within an epoch.
    """
    progress = fit_loop["epoch_loop.batch_progress"]
    for counter in (progress["total"], progress["current"]):
        counter["completed"] -= 1
    fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1
    if ahead == "batch":
        for counter in (progress["total"], progress["current"]):
            counter["ready"] -= 1
        progress["is_last_batch"] = False
        for loader in fit_loop["state_dict"]["combined_loader"]:
            loader["batches"] -= 1
    else:
        for counter in (fit_loop["epoch_progress"]["total"], fit_loop["epoch_progress"]["current"]):
            counter["processed"] = counter["completed"] = counter["ready"] - 1
