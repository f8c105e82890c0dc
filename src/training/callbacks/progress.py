"""Progress of a training run: one bar for the whole run, and one line per validation."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from src.training.manual_training import ManualTraining

SHOWN_EVERY_S = 0.2
"""Seconds between two updates of the bar."""

log = logging.getLogger(__name__)


class StepProgressBar(ProgressBar):
    """Show the generator steps of the whole run as one bar, with the time left and what is logged with `prog_bar`.

    A second bar is shown while a validation runs. Where the output is not a terminal, as in a log file, there is no
    bar: `ValidationReport` writes its lines there.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_enabled = True
        self._progress: Progress | None = None
        self._training = self._validation = TaskID(0)
        self._shown_at = 0.0
        self._clock = RunClock()

    def enable(self) -> None:
        """Show the bars, as Lightning may ask."""
        self._is_enabled = True

    def disable(self) -> None:
        """Show no bars, as Lightning asks on all processes but the first."""
        self._is_enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: ManualTraining) -> None:  # type: ignore[override]
        """Start the bar at the current step."""
        console = get_console()
        if not (self._is_enabled and console.is_terminal):
            return
        columns = ("{task.description}", BarColumn(None), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
        self._progress = Progress(*columns, console=console, expand=True)
        self._training = self._progress.add_task(
            "training", total=pl_module.generator_steps, completed=trainer.global_step, text=""
        )
        self._validation = self._progress.add_task("validation", visible=False, text="")
        self._clock.start(trainer.global_step)
        self._progress.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar, at most a few times per second, as reading the values waits for a GPU."""
        if self._progress is not None and self._is_due():
            left = self._clock.time_left(trainer.global_step, int(self._progress.tasks[self._training].total or 0))
            values = self.get_metrics(trainer, pl_module)
            values.pop("v_num", None)  # a part of the id of W&B's run
            shown = (left, *(f"{name} {float(value):.4g}" for name, value in values.items()))  # type: ignore[arg-type]
            text = "  ".join(part for part in shown if part)
            self._progress.update(self._training, completed=trainer.global_step, text=text, refresh=True)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Advance the validation's bar."""
        if self._progress is not None and self._is_due():
            total = min(trainer.num_val_batches)
            self._progress.update(self._validation, total=total, completed=batch_idx + 1, visible=True, refresh=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hide the validation's bar."""
        if self._progress is not None:
            self._progress.update(self._training, completed=trainer.global_step)
            self._progress.update(self._validation, visible=False)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop the bar at the last step."""
        if self._progress is not None:
            self._progress.update(self._training, completed=trainer.global_step)
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop the bar, so that the error message has the terminal."""
        self._stop()

    def _is_due(self) -> bool:
        due = time.monotonic() - self._shown_at >= SHOWN_EVERY_S
        if due:
            self._shown_at = time.monotonic()
        return due

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class ValidationReport(Callback):
    """Log one line for each validation: step, score, the best so far, the gain over biharmonic, and the time left.

    step 1200/6000  val/psnr 24.31 dB (best 24.55 at 1000)  +0.42 dB over biharmonic  12 min left

    The score is `InpaintingModule.monitor`. As with the best checkpoint, the best is of the whole run, validations
    before an interruption included, and starts over in each stage of a run in stages.
    """

    def __init__(self) -> None:
        self._best: tuple[float, int] | None = None
        self._stage = ""
        self._clock = RunClock()

    def state_dict(self) -> dict[str, Any]:
        """Return the best score, its step and its stage."""
        return {"best": self._best, "stage": self._stage}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them; earlier checkpoints have no stage."""
        best = state_dict["best"]
        self._best = None if best is None else (best[0], best[1])
        self._stage = state_dict.get("stage", "")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._clock.start(trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: ManualTraining) -> None:  # type: ignore[override]
        """Log the line, on the first process."""
        monitor = pl_module.monitor
        score = trainer.callback_metrics.get(monitor)
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or score is None:
            return
        shown, unit = ("{:.2f}", " dB") if monitor == "val/psnr" else ("{:.3f}", "")
        step, steps = trainer.global_step, pl_module.generator_steps
        if pl_module.stage_of_last_step != self._stage:
            self._best, self._stage = None, pl_module.stage_of_last_step
        best = "best so far"
        if self._best is not None and self._best[0] >= float(score):
            best = f"best {shown.format(self._best[0])} at {self._best[1]}"
        else:
            self._best = (float(score), step)
        over = [
            f"{float(value):+.2f} dB over {name.removeprefix(OVER).replace('_', ' ')}"
            for name, value in trainer.callback_metrics.items()
            if unit and name.startswith(OVER) and "/" not in name.removeprefix(OVER)
        ]
        left = self._clock.time_left(step, steps)
        if trainer.is_global_zero:
            parts = (f"step {step}/{steps}", f"{monitor} {shown.format(float(score))}{unit} ({best})", *over, left)
            log.info("%s", "  ".join(part for part in parts if part))


OVER = "val/psnr_over_"
"""Prefix of the series that `ValidationReferences` logs."""


class RunClock:
    """Estimate the time left from the pace since `start`, validations included."""

    def __init__(self) -> None:
        self._start = (0.0, 0)

    def start(self, step: int) -> None:
        """Start the clock at a step."""
        self._start = (time.monotonic(), step)

    def time_left(self, step: int, steps: int) -> str:
        """Return the time left in words; "" before the first step after `start` and after the last."""
        began, first = self._start
        if not first < step < steps:
            return ""
        return format_time_left((time.monotonic() - began) / (step - first) * (steps - step))


def format_time_left(seconds: float) -> str:
    """Format a time left in its largest fitting unit, such as "12 min left"."""
    unit, length = next(((unit, length) for unit, length in UNITS if seconds >= 2 * length), UNITS[-1])
    return f"{seconds / length:.0f} {unit} left"


UNITS: Sequence[tuple[str, int]] = (("h", 3600), ("min", 60), ("s", 1))
