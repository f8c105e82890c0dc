"""Training in two stages, as partial convolutions train: all of the network, then with frozen encoder statistics."""

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

from src.common.distributed import broadcast_buffers
from src.common.errors import InputError
from src.networks.pconv import PConv
from src.training.manual_training import ManualTraining
from src.training.module import Batch


class FineTuning(ManualTraining):
    """Descend at `optimizer`'s rate, then at a part of it with the encoder's batch normalisation frozen.

    Holes make the statistics of a batch wrong, since hole pixels enter its mean and variance; frozen, the features no
    longer drift. Source: Liu et al., ECCV 2018, Sec. 4.2. The stage follows from the step alone, so
    a resumed run is in the right one.

    Args:
        optimizer: makes the network's optimiser from its parameters.
        fine_tuning_factor: what the learning rate is multiplied with when the second stage begins.
        fine_tuning_share: the second stage's share of all generator steps, in [0, 1].
    """

    network: PConv

    def __init__(
        self,
        *args: Any,
        optimizer: Callable[..., Optimizer],
        fine_tuning_factor: float,
        fine_tuning_share: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if not 0 <= fine_tuning_share <= 1:
            raise InputError(f"model.training.fine_tuning_share must lie in [0, 1], got {fine_tuning_share}")
        if self.loss.adversarial:
            raise InputError(
                f"{type(self).__name__} trains no critic: use model.training._target_="
                f"src.training.procedures.adversarial.AdversarialTraining for the terms {sorted(self.loss.adversarial)}"
            )
        self.optimizer = optimizer
        self.fine_tuning_factor, self.fine_tuning_share = fine_tuning_factor, fine_tuning_share

    def configure_optimizers(self) -> Any:
        """The generator's optimiser."""
        return self.make_optimizers(self.network.parameters(), (), self.optimizer, self.optimizer)

    def fine_tunes(self, step: int) -> bool:
        """Whether the step to come, after so many, belongs to the second stage."""
        return step / self.generator_steps >= 1 - self.fine_tuning_share

    def rate_factor(self, step: int) -> float:
        """The schedule's, times `fine_tuning_factor` in the second stage."""
        return super().rate_factor(step) * (self.fine_tuning_factor if self.fine_tunes(step) else 1.0)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Freeze in the second stage, in all processes alike: on every batch, as validation resets the modes."""
        super().on_train_batch_start(batch, batch_idx)
        if self.fine_tunes(self.global_step):
            for norm in self.network.encoder_batch_norms():
                if norm.weight.requires_grad:  # the stage begins
                    broadcast_buffers(norm)
                norm.eval().requires_grad_(False)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Descend on the weighted sum."""
        (optimizer,) = self.optimizer_list()
        inputs = self.loss.prepare(batch["image"], batch["mask"], self(batch["image"], batch["mask"]))
        self.step_generator(inputs, optimizer, batch_idx)
