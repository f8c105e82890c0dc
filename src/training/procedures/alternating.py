"""Adversarial training on separate batches: several for the critics, then one for the generator."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from src.common.errors import InputError
from src.networks.contextual_attention import CoarseToFine
from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.picnet import PICNet
from src.training.manual_training import ManualTraining
from src.training.module import Batch

CRITICS, GENERATOR = "critics", "generator"


def filling(network: InpaintingNetwork, batch: Batch) -> InpaintingOutput:
    """Fill the hole."""
    output: InpaintingOutput = network(batch["image"], batch["mask"])
    return output


def completing_both_paths(network: PICNet, batch: Batch) -> InpaintingOutput:
    """Return the results of PICNet's two paths."""
    return network.complete_both(batch["image"], batch["mask"])


class AlternatingTraining(ManualTraining):
    """Step every critic on `critic_steps` batches in a row, then the generator on the next one.

    Source: Yu et al., CVPR 2018, Algorithm 1: five samples of a batch each for the critics, another for the generator.
    Its release can pretrain the coarse network on l1 alone, without critics; `coarse_share` does so within one run.

    Turns follow from the number of batches since the start of the run, so an epoch may end within a round. With
    `accumulate` above 1 a turn takes that many batches. Without an adversarial term the generator steps on every batch.

    Args:
        critic_steps: batches that the critics step on for each generator step.
        shared_batch: let the generator step on the critics' last batch, in the same forward pass, instead of another.
        coarse_share: first fraction of all generator steps, which trains only the coarse network on its own terms.
            It has no effect if the loss has no term on the coarse image.
        critics_start_share: first fraction of all generator steps, before the critics start; until then the adversarial
            terms are left out and the critics' batches are skipped.
        critics_alone_share: number of turns, as a fraction of all generator steps, in which the critics train alone
            once they start (GL, Iizuka et al. 2017, Algorithm 1); the network is in eval mode there.
        late_terms: names of further terms that are left out until the critics start, such as GMCNN's ID-MRF.
        complete: forward pass of a training step outside the coarse phase.
    Raises:
        InputError: a number is out of its range, or the network has no coarse stage to train alone.
    """

    def __init__(
        self,
        *args: Any,
        critic_steps: int,
        shared_batch: bool = False,
        coarse_share: float = 0.0,
        critics_start_share: float = 0.0,
        critics_alone_share: float = 0.0,
        late_terms: Sequence[str] = (),
        complete: Callable[[Any, Batch], InpaintingOutput] = filling,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.complete = complete
        if critic_steps < 1:
            raise InputError(f"model.training.critic_steps must be an integer >= 1, got {critic_steps}")
        for key, share in (
            ("coarse_share", coarse_share),
            ("critics_start_share", critics_start_share),
            ("critics_alone_share", critics_alone_share),
        ):
            if not 0 <= share <= 1:
                raise InputError(f"model.training.{key} must lie in [0, 1], got {share}")
        self.critic_steps = critic_steps if self.loss.adversarial else 0
        self.turns = [{GENERATOR}]
        if self.loss.adversarial:
            last = [{CRITICS, GENERATOR}] if shared_batch else [{CRITICS}, {GENERATOR}]
            self.turns = [{CRITICS}] * (critic_steps - 1) + last
        self.coarse_terms = {n for n, term in self.loss.terms.items() if getattr(term, "view", None) == "coarse"}
        self.coarse_share = coarse_share if self.coarse_terms else 0.0
        self.critics_start_share = critics_start_share
        self.critics_alone_share = critics_alone_share if self.loss.adversarial else 0.0
        if unknown := sorted(set(late_terms) - self.loss.names):
            raise InputError(f"model.training.late_terms has unknown terms {unknown}: use {sorted(self.loss.names)}")
        self.late_terms = {*self.loss.adversarial, *late_terms}
        if self.coarse_share and not isinstance(self.network, CoarseToFine):
            raise InputError(
                f"model.training.coarse_share={coarse_share} needs a network with a coarse stage, "
                f"got {type(self.network).__name__}: set it to 0"
            )

    @property
    def batches_per_step(self) -> int:
        """Number of batches per generator step, those of the critics included."""
        return self.accumulate * len(self.turns)

    def steps_in(self, epochs: int, batches: int) -> int:
        """Return the number of whole rounds in `epochs` epochs of `batches` batches."""
        return int(epochs * batches / (self.batches_per_step + self.accumulate * self.critics_alone_share))

    def window_ends(self, batch_idx: int) -> bool:
        """Return whether this batch is the last of a turn; turns may span epochs."""
        return (self.trainer.fit_loop.total_batch_idx + 1) % self.accumulate == 0

    @property
    def is_coarse_phase(self) -> bool:
        """Whether this generator step trains the coarse network alone."""
        return self.global_step < round(self.coarse_share * self.generator_steps)

    @property
    def critics_start_step(self) -> int:
        """Number of generator steps before the critics start."""
        return round(self.critics_start_share * self.generator_steps)

    def turn(self) -> set[str]:
        """Return who steps on this batch."""
        done = self.trainer.fit_loop.total_batch_idx // self.accumulate
        first = self.critics_start_step * len(self.turns)
        alone = math.ceil(self.critics_alone_share * self.generator_steps)
        if first <= done < first + alone:
            return {CRITICS}
        return self.turns[(done if done < first else done - alone) % len(self.turns)]

    @property
    def critics_started(self) -> bool:
        """Whether this generator step uses the adversarial terms and `late_terms`."""
        return self.global_step >= self.critics_start_step and not self.is_coarse_phase

    @property
    def active_critics(self) -> set[str]:
        """Names of the adversarial terms used in this generator step: all of them, or none."""
        return set(self.loss.adversarial) if self.critics_started else set()

    @property
    def stage_of_last_step(self) -> str:
        """The coarse network's phase counts as a stage: its best checkpoint has an untrained refinement network."""
        is_coarse = self.coarse_share and self.global_step <= round(self.coarse_share * self.generator_steps)
        return "coarse" if is_coarse else ""

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score the composite, of the coarse image as long as only the coarse network is trained."""
        network: Any = self.network
        complete = network.complete_coarsely if self.stage_of_last_step else self
        self.score(batch, complete(batch["image"], batch["mask"]))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Step the critics, the generator, or both on one batch."""
        generator, *critics = self.optimizer_list()
        turn, active = self.turn(), self.active_critics
        if GENERATOR not in turn and not active:
            return
        self.network.train(GENERATOR in turn)
        with torch.set_grad_enabled(GENERATOR in turn):
            if self.is_coarse_phase:
                assert isinstance(self.network, CoarseToFine)
                output = self.network.complete_coarsely(batch["image"], batch["mask"])
            else:
                output = self.complete(self.network, batch)
        inputs = self.loss.prepare(batch["image"], batch["mask"], output)
        if CRITICS in turn:
            for name, critic in zip(self.loss.adversarial, critics, strict=True):
                if name in active:
                    self.step_critic(name, inputs, critic, batch_idx)
        if GENERATOR in turn:
            unused = set() if self.critics_started else self.late_terms
            wanted = self.coarse_terms if self.is_coarse_phase else set(self.loss.terms) - unused
            terms = [name for name in self.loss.terms if name in wanted]
            self.step_generator(inputs, generator, batch_idx, terms)
