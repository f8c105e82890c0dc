"""Training in stages: parts of a network in turn, then together, in one run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate as running_sums
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from src.common.distributed import draw_rank_consistent
from src.common.errors import InputError
from src.metrics.edges import EdgeAccuracy
from src.networks.interface import InpaintingOutput
from src.networks.layers.edge_completion import EdgeGuidedNetwork
from src.training.manual_training import ManualTraining
from src.training.module import Batch


@dataclass(frozen=True)
class Stage:
    """One stage of a run: the parts it trains, its loss terms and its length.

    Args:
        length: length relative to the other stages, for example the paper's epochs.
        trains: names of the network's submodules to train; the others are frozen.
        forward: runs the part of the network that the terms need on a batch.
        terms: names of the loss terms in use.
        optimizer: makes the optimiser of the trained parts, with the stage's learning rate.
        critic_optimizer: makes the optimiser of each adversarial term's discriminator.
        monitor: validation score that selects the stage's best checkpoint; higher is better.
    """

    length: float
    trains: Sequence[str]
    forward: Callable[[EdgeGuidedNetwork, Batch], InpaintingOutput]
    terms: Sequence[str]
    optimizer: Callable[..., Optimizer]
    critic_optimizer: Callable[..., Optimizer]
    monitor: str = "val/psnr"


def completing_edges(network: EdgeGuidedNetwork, batch: Batch) -> InpaintingOutput:
    """Predict edges from those of the known pixels; the output's prediction is the input image."""
    edges, pyramid = network.complete_edges(batch["image"], batch["mask"], batch["known_edges"])
    return InpaintingOutput(batch["image"], edges=edges, edge_pyramid=pyramid)


def inpainting_on_true_edges(network: EdgeGuidedNetwork, batch: Batch, dropped: float = 0.0) -> InpaintingOutput:
    """Fill the hole along the true edges; a sample has no edges in its hole with the probability `dropped`.

    Source: Edge-LBAM, Sec. 4.1, which drops none; but a U-Net that always saw true edges fails on MECNet's.
    """
    image, mask, edges = batch["image"], batch["mask"], batch["edges"]

    def draw(samples: int) -> Tensor:
        return torch.rand(samples, 1, 1, 1, device=image.device) < dropped

    output: InpaintingOutput = network(
        image, mask, torch.where(draw_rank_consistent(draw, len(image)), edges * mask, edges)
    )
    return output


def inpainting_on_predicted_edges(network: EdgeGuidedNetwork, batch: Batch) -> InpaintingOutput:
    """Fill the hole along predicted edges, which get gradients too; `output.edges` are MECNet's prediction."""
    predicted, pyramid = network.complete_edges(batch["image"], batch["mask"], batch["known_edges"])
    completed = torch.where(batch["mask"] > 0, batch["known_edges"], predicted)
    output: InpaintingOutput = network(batch["image"], batch["mask"], completed)
    return replace(output, edges=predicted, edge_pyramid=pyramid)


class StagedTraining(ManualTraining):
    """Run the stages in order, each with its own optimisers, learning rate and length.

    Source: Edge-LBAM (arXiv:2104.12087), Sec. 4.1, "Implementation Detail": MECNet, then the U-Net on true edges, then
    both. The stage depends on the generator step only. The learning-rate schedule restarts in every stage. Batches need
    `edges` and `known_edges`. Validation adds `val/edge_<score>`, with the scores of `EdgeAccuracy`.

    Args:
        stages: stages by name, in order.
        only: names of the stages to run, which then share the whole run; None for all stages.
    """

    network: EdgeGuidedNetwork

    def __init__(
        self, *args: Any, stages: Mapping[str, Stage], only: Sequence[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(only, str):
            raise InputError(f"model.training.only must be a list: use model.training.only=[{only}]")
        if unknown := sorted(set(only or ()) - set(stages)):
            raise InputError(f"model.training.only names {unknown}; the stages are {', '.join(stages)}")
        if unread := sorted(set(self.loss.terms) - {term for stage in stages.values() for term in stage.terms}):
            raise InputError(
                f"the loss terms {', '.join(unread)} are on, but no stage trains on them: add them to a "
                "model.training.stages.<stage>.terms, or turn each off with loss.terms.<term>=null"
            )
        self.stages = {name: stage for name, stage in stages.items() if only is None or name in only}
        for name, stage in self.stages.items():
            if not stage.length > 0:
                raise InputError(f"model.training.stages.{name}.length must be above 0, got {stage.length}")
            if unknown := sorted(set(stage.terms) - self.loss.names):
                raise InputError(f"model.training.stages.{name}.terms names {unknown}, which loss.terms does not")
            if not self.terms_of(stage):
                raise InputError(f"all terms of the stage {name} are off: {', '.join(stage.terms)}")
        self.edge_accuracy = EdgeAccuracy()

    def on_train_start(self) -> None:
        """Raise InputError if a stage would have no step."""
        super().on_train_start()
        if self.generator_steps < len(self.stages):
            raise InputError(
                f"a run of {self.generator_steps} steps has none for one of the stages {', '.join(self.stages)}: "
                "raise trainer.max_steps, or choose with model.training.only="
            )

    def span(self, step: int) -> tuple[str, int, int]:
        """Return the stage of a generator step, and the steps at which the stage begins and ends."""
        steps, ends = self.generator_steps, list(running_sums(stage.length for stage in self.stages.values()))
        begin, stages_left = 0, len(ends)
        for name, share in zip(self.stages, (end / ends[-1] for end in ends), strict=True):
            stages_left -= 1
            # at least one step for this stage and for each later one
            end = min(max(begin + 1, round(steps * share)), steps - stages_left)
            if step < end:
                return name, begin, end
            begin = end
        raise ValueError(f"step {step} is beyond the run's last of {steps}")

    @property
    def monitor(self) -> str:
        """Name of the validation score of the last step's stage, for its best checkpoint."""
        return self.stages[self.stage_of_last_step].monitor

    @property
    def stage_of_last_step(self) -> str:
        """Name of the stage that the last generator step belonged to; before the first, of the first stage."""
        name, _, _ = self.span(max(self.global_step - 1, 0))
        return name

    def rate_factor(self, step: int) -> float:
        """Return the schedule's factor at this point of the stage."""
        _, begin, end = self.span(step)
        return self.schedule((step - begin) / (end - begin))

    def configure_optimizers(self) -> Any:
        """Return the optimisers of all stages in order: the generator's, then one for each discriminator."""
        made = []
        for stage in self.stages.values():
            parameters = [p for part in stage.trains for p in self.network.get_submodule(part).parameters()]
            made += self.make_optimizers(parameters, self.critics_of(stage), stage.optimizer, stage.critic_optimizer)
        return made

    def terms_of(self, stage: Stage) -> list[str]:
        """Return the names of the stage's enabled terms."""
        return [name for name in stage.terms if name in self.loss.terms]

    def critics_of(self, stage: Stage) -> list[str]:
        """Return the names of the stage's enabled adversarial terms."""
        return [name for name in self.terms_of(stage) if name in self.loss.adversarial]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Step the stage's critics, then its part of the network."""
        current, _, _ = self.span(self.global_step)
        optimizers = iter(self.optimizer_list())
        for name, stage in self.stages.items():
            generator, critics = next(optimizers), {term: next(optimizers) for term in self.critics_of(stage)}
            if name == current:
                break
        inputs = self.loss.prepare(batch["image"], batch["mask"], stage.forward(self.network, batch), batch["edges"])
        for term, critic in critics.items():
            self.step_critic(term, inputs, critic, batch_idx)
        self.step_generator(inputs, generator, batch_idx, self.terms_of(stage))
        self.log_by_step({"train/stage": float(list(self.stages).index(current) + 1)})

    def score(self, batch: Batch, output: InpaintingOutput) -> None:
        """Update the scores of the image and of the predicted edges."""
        super().score(batch, output)
        assert output.edges is not None
        self.edge_accuracy.update(output.edges, batch["edges"], batch["mask"])

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the image and of the edges."""
        super().on_validation_epoch_end()
        self.log_by_step({f"val/edge_{name}": value for name, value in self.edge_accuracy.compute().items()})
        self.edge_accuracy.reset()
