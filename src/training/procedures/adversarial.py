"""Adversarial training on shared batches: critics and generator in turn, as LBAM and MPGA/GLA train."""

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

from src.training.manual_training import ManualTraining
from src.training.module import Batch


class AdversarialTraining(ManualTraining):
    """Step each adversarial term's critic on every batch, then the generator on the whole loss.

    Source: Xie et al., ICCV 2019, Sec. 3.5 (Eqs. 17, 18) and Sec. 4; one critic step a generator step, as neither that
    paper nor MPGA/GLA's names another number. A loss without adversarial terms leaves plain descent on the generator.
    With `accumulate` above 1 critic and generator average over the same batches, and the critic steps first, just
    before the last of them reaches the generator.

    Args:
        optimizer: makes the generator's optimiser from its parameters.
        critic_optimizer: makes a critic's optimiser from its parameters; None for `optimizer`.
    """

    def __init__(
        self,
        *args: Any,
        optimizer: Callable[..., Optimizer],
        critic_optimizer: Callable[..., Optimizer] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.optimizer, self.critic_optimizer = optimizer, critic_optimizer or optimizer

    def configure_optimizers(self) -> Any:
        """The generator's optimiser, then one for each critic."""
        parameters, terms = self.network.parameters(), self.loss.adversarial
        return self.make_optimizers(parameters, terms, self.optimizer, self.critic_optimizer)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One forward of the generator serves the critics' steps and its own."""
        generator, *critics = self.optimizer_list()
        inputs = self.loss.prepare(batch["image"], batch["mask"], self(batch["image"], batch["mask"]))
        for name, critic in zip(self.loss.adversarial, critics, strict=True):
            self.step_critic(name, inputs, critic, batch_idx)
        self.step_generator(inputs, generator, batch_idx)
