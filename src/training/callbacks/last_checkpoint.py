"""Checkpoints of where the run stands, from which it goes on as if it had never stopped."""

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
from src.loggers.setup import saved
from src.training.callbacks.stop_signals import StopSignals

LAST, BEFORE_LAST = "last.ckpt", "before_last.ckpt"
"""Names of the latest checkpoint and of the one that takes its place if it is damaged."""

FILES = "training_files"
"""Key of a checkpoint: which files it was trained on, see `training_files`."""

ROUNDING = "rounding"
"""Key of a checkpoint: what decides, beside the configuration, how sums are rounded; see `rounding`."""

_DUE = 1  # SIGHUP's number, which is not among the signals that are noted

log = logging.getLogger(__name__)


def rounding() -> dict[str, Any]:
    """PyTorch's version and the number of its threads: with others a run comes to other last digits."""
    return {"torch": str(torch.__version__), "threads": torch.get_num_threads()}


def training_files(data: InpaintingData) -> dict[str, str]:
    """Hashes of the names of the training pictures and, where there is a manifest, of what is in them."""
    return {key: value for key, value in data.provenance("train").items() if key.startswith("sha256")}


class LastCheckpoint(Checkpoint):
    """Keep `last.ckpt`, and the one before it as `before_last.ckpt`.

    Written after every validation, after the last step, at a signal (see `StopSignals`), and between two batches once
    `minutes` have passed. When it is written changes nothing of what the run comes to.

    Lightning's own is written after validations only: where they come every hundred steps, a run of 650 would end with
    the weights of step 600, and a run of 50 with none.

    Args:
        dirpath: the checkpoints' folder.
        minutes: after which the next batch waits for a checkpoint; the most that a killed run loses, validation apart.
    Raises:
        InputError: `minutes` is below 0.
    """

    def __init__(self, dirpath: str, minutes: float) -> None:
        if not isinstance(minutes, int | float) or minutes < 0:
            raise InputError(f"callbacks.last.minutes must be a number from 0, got {minutes!r}")
        self.folder, self.minutes = Path(dirpath), minutes
        self._signals = StopSignals()
        self._batches_saved = -1
        self._time_saved = time.monotonic()
        self._loops_are_ahead = ""
        self._files: dict[str, str] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look at the signals' handlers while they are not yet Lightning's, and at the files before they are read."""
        self._signals.remember_handlers()
        data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
        assert isinstance(data, InpaintingData)
        self._files = training_files(data)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for signals; what was restored need not be saved again."""
        self._signals.install()
        self._batches_saved, self._time_saved = self._batches_done(trainer), time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, the validation's scores included."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save what the batches before have come to, if a signal or the clock says so, and obey the signal."""
        overdue = time.monotonic() - self._time_saved >= 60 * self.minutes
        # All processes take part in saving, and only one may have got the signal.
        reason = _largest(trainer, self._signals.received or (_DUE if overdue else 0))
        if not reason:
            return
        if self._batches_done(trainer) != self._batches_saved:
            self._save(trainer, "batch")
        if reason != _DUE:
            name = signal.Signals(reason).name
            log.warning("%s: the run is saved at step %d, in %s", name, trainer.global_step, self.folder / LAST)
            self._signals.handle(reason, trainer.is_global_zero)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step, however the run came to its end."""
        if self._batches_done(trainer) != self._batches_saved:
            self._save(trainer, "epoch")
        self._signals.received = _largest(trainer, self._signals.received)

    def handle_pending_signal(self, trainer: Trainer) -> None:
        """Obey a signal that came too late for a batch to wait for it, as in the last validation.

        For whoever trains, once all is noted: the run is finished, but what was to follow it, as in a multirun, is not.
        """
        if self._signals.received:
            self._signals.handle(self._signals.received, trainer.is_global_zero)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say how far the logs are, and set Lightning's counters back to the end of the last batch."""
        if trainer.is_global_zero:
            checkpoint.update(saved(trainer.loggers))
        checkpoint[ROUNDING], checkpoint[FILES] = rounding(), self._files
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
    """Of the numbers that the processes have."""
    if trainer.world_size == 1:
        return number
    asked = torch.tensor(number, device=trainer.strategy.root_device)
    return int(trainer.strategy.reduce(asked, reduce_op="max"))


def _set_back(fit_loop: dict[str, Any], ahead: str) -> None:
    """Write down the progress as Lightning does at the end of a batch, from where it knows how to go on.

    Only there does it restart with the batch that follows, its validation done. That moment itself is too early: the
    batch is neither logged nor validated. Lightning 2.6; the tests kill runs at every batch.

    Args:
        ahead: "batch", at the start of the next one; "epoch", after the last, which may be in an epoch's midst.
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
