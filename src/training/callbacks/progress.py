"""Progress of a training run: one bar for the whole run, and one line per validation."""

import logging
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from tqdm import tqdm  # type: ignore[import-untyped]

from src.common.errors import InputError
from src.training.manual_training import ManualTraining

log = logging.getLogger(__name__)

OVER = "val/psnr_over_"
"""Prefix of the series that `ValidationReferences` logs."""


class StepProgressBar(ProgressBar):
    """Show the generator steps of the whole run as one bar, with the time left and what is logged with `prog_bar`.

    Where the output is not a terminal, as in a log file, there is no bar: `ValidationReport` writes its lines there.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_enabled = True
        self._bar: Any = None

    def enable(self) -> None:
        """Show the bar, as Lightning may ask."""
        self._is_enabled = True

    def disable(self) -> None:
        """Show no bar, as Lightning asks on all processes but the first."""
        self._is_enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: ManualTraining) -> None:  # type: ignore[override]
        """Start the bar at the current step."""
        self._bar = tqdm(
            desc="training", unit="step", dynamic_ncols=True, disable=None if self._is_enabled else True,
            total=pl_module.generator_steps, initial=trainer.global_step,
        )  # fmt: skip

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Advance the bar; the values are read only when it is redrawn, as reading them waits for a GPU."""
        if self._bar.update(trainer.global_step - self._bar.n):
            values = {name: value for name, value in self.get_metrics(trainer, pl_module).items() if name != "v_num"}
            self._bar.set_postfix(values)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the bar at the last step."""
        if self._bar is not None:
            self._bar.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the error message has the terminal."""
        self.teardown(trainer, pl_module, "fit")


class ValidationReport(Callback):
    """Log one line for each validation: step, score, the best so far, the gain over biharmonic, and the time left.

    step 1200/6000  val/psnr 24.31 dB (best 24.55 at 1000)  +0.42 dB over biharmonic  12 min left

    The score is `InpaintingModule.monitor`. As with the best checkpoint, the best is of the whole run, validations
    before an interruption included, and starts over in each stage of a run in stages.
    """

    def __init__(self) -> None:
        self._best: tuple[float, int] | None = None
        self._stage = ""
        self._start = (0.0, 0)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score, its step and its stage."""
        return {"best": self._best, "stage": self._stage}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them; raise InputError if the best is neither None nor a score and its step."""
        match state_dict["best"]:
            case None:
                self._best = None
            case [float(score), int(step)]:
                self._best = score, step
            case _:
                raise InputError("best must be null or a score and its step")
        self._stage = state_dict["stage"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the time and the step, from which the time left is estimated."""
        self._start = (time.monotonic(), trainer.global_step)

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
        began, first = self._start
        left = ""
        if first < step < steps:
            left = format_time_left((time.monotonic() - began) / (step - first) * (steps - step))
        if trainer.is_global_zero:
            parts = (f"step {step}/{steps}", f"{monitor} {shown.format(float(score))}{unit} ({best})", *over, left)
            log.info("%s", "  ".join(part for part in parts if part))


def format_time_left(seconds: float) -> str:
    """Format a time left in its largest fitting unit, such as "12 min left"."""
    length, unit = next((one for one in ((3600, "h"), (60, "min")) if seconds >= 2 * one[0]), (1, "s"))
    return f"{seconds / length:.0f} {unit} left"
