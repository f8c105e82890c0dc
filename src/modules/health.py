"""Stopping a run whose losses are no numbers any more, and warning of a critic that has won."""

import logging
import math
from collections import deque
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from src.errors import InputError
from src.modules.base import ManualTraining
from src.modules.last_checkpoint import LAST, LastCheckpoint

WON = "/critic_won"
"""How the share that a critic has won is called, behind its term: see `Objective.won`."""

FEWEST = 10
"""Values of a term that are known before another can be called too large."""

SMALLEST_SCALE = 2.0**-24
"""Of float16's loss: 40 halvings below its first, each for gradients that overflowed."""

log = logging.getLogger(__name__)


class DivergedError(InputError):
    """A loss, a gradient or a weight is not finite, or a loss is far beyond what it was."""


class TrainingHealth(Callback):
    """Look at every loss and gradient before it moves a weight; stop the run if one of them has gone wrong.

    A loss has gone wrong if it is not finite, or if its size is more than `explosion_factor` times the larger of 1 and
    the median size of its last `window` values, of which there must be ten. Sizes, as a Wasserstein critic's losses
    have either sign; and 1, as a hinge may rest at 0 and come back. So scores may drift. A gradient has gone wrong if
    its norm is not finite. Under float16 that is nothing unusual, and the step is left out; the run stops where the
    loss scale has fallen so far that no step is taken any more.

    Weights that are not finite are not saved, whatever made them so: the checkpoint that would be replaced stays.

    A critic has won where the share that `Objective.won` measures averages `winning_share` or more over `window` of its
    batches; a warning says so, once until the average falls below one half.

    All of it is read at once, a tensor of some ten numbers for each optimiser's step, averaged over processes, so that
    all of them stop at the same step. What is remembered goes into checkpoints.

    Raises:
        InputError: an argument is out of its range. In training, `DivergedError`.
    """

    def __init__(self, explosion_factor: float, winning_share: float, window: int) -> None:
        if not explosion_factor > 1:
            raise InputError(f"callbacks.health.explosion_factor must be above 1, got {explosion_factor}")
        if not 0.5 <= winning_share <= 1:
            raise InputError(f"callbacks.health.winning_share must lie in [0.5, 1], got {winning_share}")
        if window < FEWEST:
            raise InputError(f"callbacks.health.window must be {FEWEST} or more, got {window}")
        self.explosion_factor, self.winning_share, self.window = explosion_factor, winning_share, window
        self._recent: dict[str, deque[float]] = {}
        self._winners: set[str] = set()

    def state_dict(self) -> dict[str, Any]:
        """The last values of every term, and whose critics have been warned of."""
        recent = {name: list(values) for name, values in self._recent.items()}
        return {"recent": recent, "winners": sorted(self._winners)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember as the run did that wrote it."""
        self._recent = {name: deque(values, self.window) for name, values in state_dict["recent"].items()}
        self._winners = set(state_dict["winners"])

    def on_before_optimizer_step(
        self,
        trainer: Trainer,
        pl_module: ManualTraining,  # type: ignore[override]  # conf/train.yaml trains no others
        optimizer: Optimizer,
    ) -> None:
        """Judge what this step is about to follow: its losses and its gradient."""
        norm, scaler = None, getattr(trainer.precision_plugin, "scaler", None)
        if scaler is None:
            norm = get_total_norm(
                p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
            )
        elif (scale := scaler.get_scale()) < SMALLEST_SCALE:
            raise _diverged(trainer, f"float16's loss scale is down to {scale:.3g}, as every gradient overflows")
        self._judge(trainer, pl_module, norm)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: ManualTraining,  # type: ignore[override]
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Judge a batch that stepped nothing, too, before anything is saved: its gradients wait for others."""
        self._judge(trainer, pl_module, None)

    def on_save_checkpoint(
        self,
        trainer: Trainer,
        pl_module: ManualTraining,  # type: ignore[override]
        checkpoint: dict[str, Any],
    ) -> None:
        """Refuse weights that are not finite.

        Raises:
            DivergedError: it names the first of them.
        """
        for name, tensor in checkpoint["state_dict"].items():
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and not tensor.isfinite().all():
                raise _diverged(trainer, f"{name} holds values that are not finite, and is not saved")

    def _judge(self, trainer: Trainer, module: ManualTraining, gradient_norm: Tensor | None) -> None:
        if not module.unread:
            return
        names, tensors = list(module.unread), [value.float() for value in module.unread.values()]
        module.unread.clear()
        if gradient_norm is not None:
            tensors.append(gradient_norm.float())
        read = trainer.strategy.reduce(torch.stack(tensors), reduce_op="mean").tolist()
        losses = dict(zip(names, read, strict=False))
        if broken := [f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)]:
            raise _diverged(trainer, ", ".join(broken))
        if not math.isfinite(read[-1]):
            loss = f"{names[-1]} is {losses[names[-1]]:.4g}"
            raise _diverged(trainer, f"{loss}, but the norm of its gradient {read[-1]}")
        for name, value in losses.items():
            recent = self._recent.setdefault(name, deque(maxlen=self.window))
            if abs(value) > self.explosion_factor and len(recent) >= FEWEST:  # times 1; few medians are asked for
                usual = median(map(abs, recent))
                if abs(value) > self.explosion_factor * usual:
                    raise _diverged(
                        trainer,
                        f"{name} is {value:.4g}, and the median size of its last {len(recent)} values {usual:.4g}: "
                        f"more than callbacks.health.explosion_factor={self.explosion_factor:g} allows",
                    )
            recent.append(value)
            if name.endswith(WON) and len(recent) == self.window:
                self._look_at_winner(trainer, name.removesuffix(WON), fmean(recent))

    def _look_at_winner(self, trainer: Trainer, term: str, share: float) -> None:
        if share < 0.5:
            self._winners.discard(term)
        elif share >= self.winning_share and term not in self._winners:
            self._winners.add(term)
            if trainer.is_global_zero:
                log.warning(
                    "generator step %d: the critic of %s has won %.1f %% of what it judged in its last %d batches "
                    "(train/%s%s), and the generator learns little from it: try a lower learning rate for it "
                    "(critic_optimizer in model.training), or another loss.weights.%s",
                    trainer.global_step + 1, term, 100 * share, self.window, term, WON, term,
                )  # fmt: skip


def _diverged(trainer: Trainer, found: str) -> DivergedError:
    """The one sentence: the step, what was found, what there is to go back to, and what may help."""
    good = _last_checkpoint(trainer)
    there_is = "there is no checkpoint yet" if good is None else f"the last good checkpoint is {good}"
    again = "" if good is None else ", in a new run that begins with it (start_from=)"
    exact = "" if trainer.precision == "32-true" else " or trainer.precision=32-true"
    return DivergedError(
        f"generator step {trainer.global_step + 1}: {found}; {there_is}; try a lower learning rate (of optimizer and "
        f"critic_optimizer in model.training) or clip_norm=1{exact}{again}; trainer.detect_anomaly=true finds the "
        "operation"
    )


def _last_checkpoint(trainer: Trainer) -> Path | str | None:
    """What this run wrote last; else the best, else what it was resumed from."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, LastCheckpoint) and (path := callback.folder / LAST).is_file():
            return path
    return getattr(trainer.checkpoint_callback, "best_model_path", None) or trainer.ckpt_path
