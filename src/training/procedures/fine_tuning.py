"""Training with a fine-tuning stage, as for partial convolutions."""

from typing import Any

from src.common.distributed import broadcast_buffers
from src.common.errors import InputError
from src.networks.pconv import PConv
from src.training.manual_training import ManualTraining
from src.training.module import Batch


class FineTuning(ManualTraining):
    """Train at the optimiser's learning rate, then at a fraction of it with the encoder's batch norm frozen.

    Holes distort the batch statistics, since hole pixels enter mean and variance; freezing them stops the drift.

    Source: Liu et al., ECCV 2018, Sec. 4.2.

    Args:
        fine_tuning_factor: factor of the learning rate in the second stage.
        fine_tuning_share: fraction of all generator steps that belong to the second stage, in [0, 1].
    """

    network: PConv

    def __init__(self, *args: Any, fine_tuning_factor: float, fine_tuning_share: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not 0 <= fine_tuning_share <= 1:
            raise InputError(f"model.training.fine_tuning_share must lie in [0, 1], got {fine_tuning_share}")
        if self.loss.adversarial:
            raise InputError(
                f"{type(self).__name__} trains no discriminator: use model.training._target_="
                f"src.training.procedures.adversarial.AdversarialTraining for the terms {sorted(self.loss.adversarial)}"
            )
        self.fine_tuning_factor, self.fine_tuning_share = fine_tuning_factor, fine_tuning_share

    def fine_tunes(self, step: int) -> bool:
        """Return whether the step after `step` steps belongs to the second stage."""
        return step / self.generator_steps >= 1 - self.fine_tuning_share

    def rate_factor(self, step: int) -> float:
        """Return the schedule's factor, times `fine_tuning_factor` in the second stage."""
        return super().rate_factor(step) * (self.fine_tuning_factor if self.fine_tunes(step) else 1.0)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Freeze batch norm in the second stage: on every batch, as validation resets the modules' modes."""
        super().on_train_batch_start(batch, batch_idx)
        if self.fine_tunes(self.global_step):
            for norm in self.network.encoder_batch_norms():
                if norm.weight.requires_grad:  # the stage begins
                    broadcast_buffers(norm)
                norm.eval().requires_grad_(False)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Step the network on the weighted sum of the loss terms."""
        (optimizer,) = self.optimizer_list()
        inputs = self.loss.prepare(batch["image"], batch["mask"], self(batch["image"], batch["mask"]))
        self.step_generator(inputs, optimizer, batch_idx)
