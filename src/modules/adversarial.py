"""Adversarial training: critics and generator in turn, as LBAM and Edge-LBAM train."""

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

from src.modules.base import Batch, ManualTraining


class AdversarialTraining(ManualTraining):
    """Step each adversarial term's critic on every batch, then the generator on the whole loss.

    Source: Xie et al., ICCV 2019, Sec. 3.5 (Eqs. 17, 18) and Sec. 4; one critic step a generator step, as the paper
    names no other number. A loss without adversarial terms leaves plain descent on the generator.
    With `accumulate` above 1 critic and generator average over the same batches, and the critic steps first, just
    before the last of them reaches the generator.

    Args:
        critic_optimizer: makes a critic's optimiser from its parameters.
    """

    def __init__(self, *args: Any, critic_optimizer: Callable[..., Optimizer], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.critic_optimizer = critic_optimizer

    def configure_optimizers(self) -> Any:
        """The generator's optimiser, then one for each critic."""
        generator = self.optimizer(self.network.parameters())
        critics = [self.critic_optimizer(term.critic.parameters()) for term in self.loss.adversarial.values()]
        return [generator, *critics]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One forward of the generator serves the critics' steps and its own."""
        optimizers = self.optimizers()
        generator, *critics = optimizers if isinstance(optimizers, list) else [optimizers]
        inputs = self.loss.prepare(batch["image"], batch["mask"], self.network(batch["image"], batch["mask"]))
        for (name, term), critic in zip(self.loss.adversarial.items(), critics, strict=True):
            self.toggle_optimizer(critic)
            critic_loss, parts = term.critic_loss(inputs)
            self.critic_descends(critic_loss, critic, batch_idx)
            self.untoggle_optimizer(critic)
            self.log_by_step({f"train/{name}/{part}": value for part, value in parts.items()})

        self.toggle_optimizer(generator)
        total, terms = self.loss(inputs)
        self.generator_descends(total, generator, batch_idx)
        self.untoggle_optimizer(generator)
        self.log_losses(total, terms)
