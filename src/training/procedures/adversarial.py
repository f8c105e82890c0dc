"""Adversarial training on shared batches, as LBAM, MPGA/GLA and PICNet train."""

from collections.abc import Callable
from typing import Any

from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.picnet import PICNet
from src.training.manual_training import ManualTraining
from src.training.module import Batch


def filling(network: InpaintingNetwork, batch: Batch) -> InpaintingOutput:
    """Fill the hole."""
    output: InpaintingOutput = network(batch["image"], batch["mask"])
    return output


def completing_both_paths(network: PICNet, batch: Batch) -> InpaintingOutput:
    """Return the results of PICNet's two paths."""
    return network.complete_both(batch["image"], batch["mask"])


class AdversarialTraining(ManualTraining):
    """Step each adversarial term's discriminator on every batch, then the generator on the whole loss.

    Source: Xie et al., ICCV 2019, Sec. 3.5 (Eqs. 17, 18) and Sec. 4; one discriminator step per generator step, as
    neither this paper nor MPGA/GLA's gives a number. Without adversarial terms only the generator is trained.

    Args:
        complete: forward pass of a training step.
    """

    def __init__(self, *args: Any, complete: Callable[[Any, Batch], InpaintingOutput] = filling, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.complete = complete

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Step the discriminators and the generator on one forward pass of the generator."""
        generator, *critics = self.optimizer_list()
        inputs = self.loss.prepare(batch["image"], batch["mask"], self.complete(self.network, batch))
        for name, critic in zip(self.loss.adversarial, critics, strict=True):
            self.step_critic(name, inputs, critic, batch_idx)
        self.step_generator(inputs, generator, batch_idx)
