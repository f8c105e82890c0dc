"""The moving average of all weights: Lightning's, with a warm-up, ending after the last checkpoint."""

from collections.abc import Sequence

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from src.common.errors import InputError


class MovingAverage(WeightAveraging):
    """Keep an exponential moving average of all weights and buffers, updated after each generator step.

    average <- d average + (1 - d) weights,   d = min(decay, (1 + k) / (warm_up + k)) after k updates

    The average starts as the weights of the first step. With a constant decay of 0.999, 600 steps leave 55 % of them;
    with a warm-up of 10, as in TensorFlow's `tf.train.ExponentialMovingAverage(num_updates=)`, less than 1e-18.

    At the end of training the average replaces the weights, but unlike with Lightning's callback only after the last
    checkpoint is written, so that a run can be resumed from it with more steps.

    Args:
        decay: largest fraction of the average that a step keeps, in [0, 1).
        warm_up: constant of the warm-up, at least 1; 1 keeps `decay` constant.
    """

    def __init__(self, decay: float, warm_up: float) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"callbacks.ema.decay must lie in [0, 1), got {decay}")
        if not warm_up >= 1:
            raise InputError(f"callbacks.ema.warm_up must be at least 1 (1: a constant decay), got {warm_up}")
        super().__init__(multi_avg_fn=self._update)
        self.decay, self.warm_up = decay, warm_up

    def decay_after(self, updates: int) -> float:
        """Return the fraction of the average that the next update keeps."""
        return min(self.decay, (1 + updates) / (self.warm_up + updates))

    def _update(self, average: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor | int) -> None:
        decay = self.decay_after(int(updates))
        for one, weight in zip(average, weights, strict=True):
            one.copy_(decay * one + (1 - decay) * weight)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing yet: the last checkpoint needs both the weights and their average."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the weights by their average."""
        super().on_train_end(trainer, pl_module)
