"""Adversarial training on batches of their own: several for the critics, then one for the generator."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from src.errors import InputError
from src.modules.base import Batch, ManualTraining


class AlternatingTraining(ManualTraining):
    """Step every critic on `critic_steps` batches in a row, then the generator on the next one.

    Source: Yu et al., CVPR 2018, Algorithm 1: five samples of a batch each for the critics, another for the generator.
    Whose turn it is follows from the number of batches since the run began, so a resumed run goes on with the right
    one; an epoch may end within a round. With `accumulate` above 1 a turn takes that many batches.
    Without an adversarial term the critics' turns have nobody to take them, and every batch is the generator's.

    Args:
        optimizer: makes the generator's optimiser from its parameters.
        critic_optimizer: makes a critic's optimiser from its parameters.
    """

    def __init__(
        self,
        *args: Any,
        optimizer: Callable[..., Optimizer],
        critic_optimizer: Callable[..., Optimizer],
        critic_steps: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if critic_steps < 1:
            raise InputError(f"model.training.critic_steps must be 1 or more, got {critic_steps}")
        self.optimizer, self.critic_optimizer = optimizer, critic_optimizer
        self.critic_steps = critic_steps if self.loss.adversarial else 0

    @property
    def batches_per_step(self) -> int:
        """The critics' batches and the generator's."""
        return self.accumulate * (self.critic_steps + 1)

    def steps_in(self, epochs: int, batches: int) -> int:
        """Whole rounds of so many epochs of so many batches."""
        return epochs * batches // self.batches_per_step

    def window_ends(self, batch_idx: int) -> bool:
        """Whether this batch is the last of a turn, which may go on into the next epoch."""
        return (self.trainer.fit_loop.total_batch_idx + 1) % self.accumulate == 0

    def configure_optimizers(self) -> Any:
        """The generator's optimiser, then one for each critic."""
        parameters, terms = self.network.parameters(), self.loss.adversarial
        return self.optimizers_of(parameters, terms, self.optimizer, self.critic_optimizer)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """The critics' turn or the generator's."""
        generator, *critics = self.listed_optimizers()
        turn = self.trainer.fit_loop.total_batch_idx // self.accumulate % (self.critic_steps + 1)
        of_the_generator = turn == self.critic_steps
        with torch.set_grad_enabled(of_the_generator):
            output = self(batch["image"], batch["mask"])
        inputs = self.loss.prepare(batch["image"], batch["mask"], output)
        if of_the_generator:
            self.generator_descends(inputs, generator, batch_idx)
        else:
            for name, critic in zip(self.loss.adversarial, critics, strict=True):
                self.critic_descends(name, inputs, critic, batch_idx)
