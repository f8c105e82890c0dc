"""Stop a run with non-finite losses, and warn if a network does not learn to fill holes."""

import logging
import math
from collections import deque
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from src.common.errors import InputError
from src.training.callbacks.last_checkpoint import LAST, LastCheckpoint
from src.training.manual_training import ManualTraining

WON, LOST, RATIO = "/critic_won", "/critic_lost", "/gradient_ratio"
"""Suffixes of an adversarial term's series: `Objective.won`, `Objective.lost`, `WeightedSum.gradient_ratios`."""

HEALTHY_RATIO = 0.3  # that a proposed weight aims at: the middle of 0.1 to 0.5, with which LBAM trained well
FEWEST = 10  # known values of a term before another can count as exploded
SMALLEST_SCALE = 2.0**-24  # of a loss under float16: 40 halvings below the first, one per overflowing gradient

log = logging.getLogger(__name__)


class DivergedError(InputError):
    """A loss, gradient or weight is not finite, or a loss has exploded."""


class TrainingHealth(Callback):
    """Check every loss and gradient before the optimiser step; stop the run if one of them has diverged.

    A loss has diverged if it is not finite, or if its magnitude is more than `explosion_factor` times the larger of 1
    and the median magnitude of its last `window` values (at least ten): a hinge loss may rest at 0 and return. A
    gradient has diverged if its norm is not finite. Under float16 that is normal and the step is skipped; the run stops
    when the loss scale has fallen so far that no step is taken any more. Weights that are not finite are never saved.

    Five warnings name what is wrong and which key to change, each once until it has recovered:
    - A critic has won: `Objective.won` averages `winning_share` or more over `window` batches. Recovered below 0.5.
    - A critic has lost: `Objective.lost` averages `losing_share` or more over `window` batches. Recovered below the
      middle of that and 0.5, which is chance.
    - An adversarial term outweighs the others or hardly counts: the median of `WeightedSum.gradient_ratios` over
      `window` generator steps, at least ten and at most `window` logged values, lies outside `gradient_ratio`.
    - In the second half of the run, and after `window` steps, a validation's `val/psnr` is below its
      `val/coarse_psnr`.
    - In the same part of the run, `val/psnr_over_mean_colour` is below 0.

    All values are averaged over processes, so that all stop at the same step. The state is part of checkpoints.
    """

    def __init__(
        self,
        explosion_factor: float,
        winning_share: float,
        window: int,
        losing_share: float,
        gradient_ratio: Sequence[float],
    ) -> None:
        if not explosion_factor > 1:
            raise InputError(f"callbacks.health.explosion_factor must be above 1, got {explosion_factor}")
        for name, share in (("winning_share", winning_share), ("losing_share", losing_share)):
            if not 0.5 < share <= 1:
                raise InputError(f"callbacks.health.{name} must lie in (0.5, 1], got {share}")
        if window < FEWEST:
            raise InputError(f"callbacks.health.window must be {FEWEST} or more, got {window}")
        if len(gradient_ratio) != 2 or not 0 <= gradient_ratio[0] < gradient_ratio[1]:
            raise InputError(
                "callbacks.health.gradient_ratio must be two numbers, [lowest, highest], 0 <= lowest < highest, "
                f"got {list(gradient_ratio)}"
            )
        self.explosion_factor, self.winning_share, self.window = explosion_factor, winning_share, window
        self.losing_share, self.gradient_ratio = losing_share, (gradient_ratio[0], gradient_ratio[1])
        self._recent: dict[str, deque[float]] = {}
        self._warned: set[str] = set()

    def state_dict(self) -> dict[str, Any]:
        """Return the last values of every term, and the series for which a warning was logged."""
        recent = {name: list(values) for name, values in self._recent.items()}
        return {"recent": recent, "warned": sorted(self._warned)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state.

        Raises:
            InputError: it holds something else than numbers by name, and names.
        """
        recent, warned = state_dict["recent"], state_dict["warned"]
        series = [one for values in recent.values() for one in (values if isinstance(values, list) else [None])]
        if not all(type(one) is float for one in series) or not all(type(one) is str for one in (*recent, *warned)):
            raise InputError("recent must hold lists of numbers by name, and warned a list of names")
        self._recent = {name: deque(values, self.window) for name, values in recent.items()}
        self._warned = set(warned)

    def on_validation_end(self, trainer: Trainer, pl_module: ManualTraining) -> None:  # type: ignore[override]
        """Compare a validation in the second half of the run with the coarse stage and with the mean colour.

        A stage that is not judged by its PSNR, such as MECNet alone, fills no holes and is not compared.
        """
        if trainer.state.fn != TrainerFn.FITTING or pl_module.monitor != "val/psnr":
            return
        if trainer.global_step < max(self.window, pl_module.generator_steps / 2):
            return
        names = ("psnr", "coarse_psnr", "psnr_over_mean_colour")
        refined, coarse, over = (trainer.callback_metrics.get(f"val/{name}") for name in names)
        if refined is not None and coarse is not None:
            self._warn_once(
                trainer, "val/coarse_psnr", bool(refined < coarse), bool(refined >= coarse),
                f"generator step {trainer.global_step}: the refined image is worse than the coarse one it is made "
                f"from: val/psnr {refined:.2f} dB, val/coarse_psnr {coarse:.2f} dB; the second stage does not learn: "
                "look at the loss terms of the prediction, at train/<term>/gradient_ratio and at the attention maps",
            )  # fmt: skip
        if over is not None:
            self._warn_once(
                trainer, "val/psnr_over_mean_colour", bool(over < 0), bool(over >= 0),
                f"generator step {trainer.global_step} of {pl_module.generator_steps}: filling the holes with the mean "
                f"colour of the known pixels is {-over:.2f} dB better than this network: look at samples/, "
                "train/<term>/gradient_ratio and the learning rate; it may not recover in the steps that are left",
            )  # fmt: skip

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        """Check the losses and the gradient of this step."""
        norm, scaler = None, getattr(trainer.precision_plugin, "scaler", None)
        if scaler is None:
            norm = get_total_norm(
                p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
            )
        elif (scale := scaler.get_scale()) < SMALLEST_SCALE:
            raise _diverged(trainer, f"float16's loss scale has fallen to {scale:.3g} because every gradient overflows")
        self._check(trainer, pl_module, norm)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any, **__: Any) -> None:
        """Check a batch without an optimiser step too (gradient accumulation), before anything is saved."""
        self._check(trainer, pl_module, None)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Raise DivergedError if a weight is not finite."""
        for name, tensor in checkpoint["state_dict"].items():
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and not tensor.isfinite().all():
                raise _diverged(trainer, f"{name} has values that are not finite, so it is not saved")

    def _check(self, trainer: Trainer, module: ManualTraining, gradient_norm: Tensor | None) -> None:
        if not module.pending_losses:
            return
        names, tensors = list(module.pending_losses), [value.float() for value in module.pending_losses.values()]
        module.pending_losses.clear()
        if gradient_norm is not None:
            tensors.append(gradient_norm.float())
        read = trainer.strategy.reduce(torch.stack(tensors), reduce_op="mean").tolist()
        losses = dict(zip(names, read, strict=False))
        ratios = {name: losses.pop(name) for name in names if name.endswith(RATIO)}
        if broken := [f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)]:
            raise _diverged(trainer, ", ".join(broken))
        if gradient_norm is not None and not math.isfinite(read[-1]):
            loss = f"{names[-1]} is {losses[names[-1]]:.4g}"
            raise _diverged(trainer, f"{loss}, but the norm of its gradient {read[-1]}")
        for name, value in losses.items():
            recent = self._recent.setdefault(name, deque(maxlen=self.window))
            if abs(value) > self.explosion_factor and len(recent) >= FEWEST:  # times 1; few medians are asked for
                usual = median(map(abs, recent))
                if abs(value) > self.explosion_factor * usual:
                    raise _diverged(
                        trainer,
                        f"{name} is {value:.4g}, but the median magnitude of its last {len(recent)} values is "
                        f"{usual:.4g}: more than callbacks.health.explosion_factor={self.explosion_factor:g} allows",
                    )
            recent.append(value)
            if name.endswith((WON, LOST)) and len(recent) == self.window:
                self._check_critic(trainer, name, fmean(recent))
        for name, ratio in ratios.items():
            batches = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it
            few = min(self.window, max(FEWEST, self.window * module.batches_per_step // batches))
            recent = self._recent.setdefault(name, deque(maxlen=self.window))
            recent.append(ratio)
            if len(recent) >= few:
                self._check_ratio(trainer, module, name.removesuffix(RATIO), median(list(recent)[-few:]), few)

    def _check_critic(self, trainer: Trainer, name: str, share: float) -> None:
        term, _, result = name.rpartition("/critic_")
        limit, recovered, advice, weight = {
            "won": (self.winning_share, 0.5, "so the generator learns little from it: try a lower", "another"),
            "lost": (
                self.losing_share, (self.losing_share + 0.5) / 2,
                "so it scores the network's images above real ones and misleads the generator: try a higher",
                "a lower",
            ),
        }[result]  # fmt: skip
        self._warn_once(
            trainer, name, share >= limit, share < recovered,
            f"generator step {trainer.global_step + 1}: the critic of {term} has {result}: train/{name} averages "
            f"{100 * share:.1f} % over its last {self.window} batches, {advice} learning rate for it "
            f"(critic_optimizer in model.training), or {weight} loss.weights.{term}",
        )  # fmt: skip

    def _check_ratio(self, trainer: Trainer, module: ManualTraining, term: str, ratio: float, count: int) -> None:
        low, high = self.gradient_ratio
        weight = module.loss.weights[term]
        effect = "outweighs them" if ratio > high else "has hardly any effect"
        self._warn_once(
            trainer, f"{term}{RATIO}", not low <= ratio <= high, low <= ratio <= high,
            f"generator step {trainer.global_step + 1}: the gradient of {term} at the prediction is {ratio:.3g} times "
            f"that of the other terms (train/{term}{RATIO}, median of the last {count} logged), so it {effect}: "
            f"0.1 to 0.5 is healthy; loss.weights.{term} is {weight:.3g}, "
            f"try {weight * HEALTHY_RATIO / max(ratio, 1e-6):.2g}",
        )  # fmt: skip

    def _warn_once(self, trainer: Trainer, name: str, wrong: bool, recovered: bool, text: str) -> None:
        """Log a warning about the series `name` on the first process, and again only after it has recovered."""
        if recovered:
            self._warned.discard(name)
        elif wrong and name not in self._warned:
            self._warned.add(name)
            if trainer.is_global_zero:
                log.warning("%s", text)


def _diverged(trainer: Trainer, cause: str) -> DivergedError:
    """Return an error with the step, the cause, the last good checkpoint and what to try."""
    paths = [
        callback.folder / LAST for callback in trainer.checkpoint_callbacks if isinstance(callback, LastCheckpoint)
    ]
    good = next((path for path in paths if path.is_file()), trainer.ckpt_path)  # or the one that the run resumed from
    checkpoint = "there is no checkpoint yet" if good is None else f"the last good checkpoint is {good}"
    again = "" if good is None else ", in a new run from that checkpoint (start_from=)"
    exact = "" if trainer.precision == "32-true" else " or trainer.precision=32-true"
    return DivergedError(
        f"generator step {trainer.global_step + 1}: {cause}; {checkpoint}; try a lower learning rate (of optimizer and "
        f"critic_optimizer in model.training) or clip_norm=1{exact}{again}; trainer.detect_anomaly=true finds the "
        "operation"
    )
