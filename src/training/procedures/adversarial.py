"""Adversarial training on shared batches, as LBAM and MPGA/GLA train."""

from src.training.manual_training import ManualTraining
from src.training.module import Batch


class AdversarialTraining(ManualTraining):
    """Step each adversarial term's discriminator on every batch, then the generator on the whole loss.

    Source: Xie et al., ICCV 2019, Sec. 3.5 (Eqs. 17, 18) and Sec. 4; one discriminator step per generator step, as
    neither this paper nor MPGA/GLA's gives a number. Without adversarial terms only the generator is trained.
    """

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Step the discriminators and the generator on one forward pass of the generator."""
        generator, *critics = self.optimizer_list()
        inputs = self.loss.prepare(batch["image"], batch["mask"], self(batch["image"], batch["mask"]))
        for name, critic in zip(self.loss.adversarial, critics, strict=True):
            self.step_critic(name, inputs, critic, batch_idx)
        self.step_generator(inputs, generator, batch_idx)
