"""The base of every training procedure: manual optimisation of generator and critics, counted in generator steps."""

import math
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from src.common.errors import InputError
from src.losses.inputs import LossInput
from src.losses.weighted_sum import WeightedSum
from src.networks.interface import InpaintingNetwork
from src.training.module import Batch, InpaintingModule
from src.training.optimizers import fuse, match_state_memory_format
from src.training.resume.run_state import keep_implementation, require_optimizer_state


class ManualTraining(InpaintingModule):
    """Base of the training procedures, with manual optimisation; only generator steps are counted.

    Lightning counts the steps of every optimiser that goes through its wrapper. Here only the generator's does; a
    critic's is stepped through the strategy, with the same mixed precision.

    Args:
        schedule: returns the factor of all learning rates from the fraction of generator steps done.
        accumulate: batches whose gradients are averaged before a step; the last window of an epoch may have fewer.
        clip_norm: largest gradient norm of each optimiser's parameters; infinite for no clipping.
        noise_seed: seed of random numbers drawn within a step, such as the gradient penalty's interpolations.
        optimizer: makes the generator's optimiser from its parameters; None if the subclass makes its own.
        critic_optimizer: makes a critic's optimiser from its parameters; None for `optimizer`.
    Attributes:
        pending_losses: detached losses of this batch by logged name, with `<term>/critic` for a critic's own loss and
            each total after its parts; the callback that reads them clears them.
    """

    def __init__(
        self,
        network: InpaintingNetwork,
        loss: WeightedSum,
        schedule: Callable[[float], float],
        accumulate: int = 1,
        clip_norm: float = float("inf"),
        noise_seed: int = 0,
        optimizer: Callable[..., Optimizer] | None = None,
        critic_optimizer: Callable[..., Optimizer] | None = None,
    ) -> None:
        super().__init__(network)
        if accumulate < 1:
            raise InputError(f"accumulate must be an integer >= 1, got {accumulate}")
        if clip_norm <= 0:
            raise InputError(f"clip_norm must be a number > 0, or .inf for no clipping, got {clip_norm}")
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise InputError(f"{type(network).__name__} has no weights to train: evaluate it instead")
        self.loss, self.schedule = loss, schedule
        self.accumulate, self.clip_norm, self.noise_seed = accumulate, clip_norm, noise_seed
        self.optimizer, self.critic_optimizer = optimizer, critic_optimizer or optimizer
        self.pending_losses: dict[str, Tensor] = {}
        self._restored_gradients: dict[str, Tensor] = {}
        self._critic_values: dict[str, Tensor | float] = {}  # by logged name, until the generator's step logs them

    @property
    def batches_per_step(self) -> int:
        """Batches per generator step."""
        return self.accumulate

    @property
    def generator_steps(self) -> int:
        """Generator steps of the whole run, from the Trainer's limits; InputError if there is none."""
        trainer, limits = self.trainer, []
        if trainer.max_steps > 0:
            limits.append(trainer.max_steps)
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            limits.append(self.steps_in(trainer.max_epochs, int(trainer.num_training_batches)))
        if not limits:
            raise InputError("the run has no end: set trainer.max_steps or trainer.max_epochs")
        return min(limits)

    def steps_in(self, epochs: int, batches: int) -> int:
        """Return the generator steps in `epochs` epochs of `batches` batches each."""
        return epochs * -(-batches // self.accumulate)

    def rate_factor(self, step: int) -> float:
        """Return the factor of the learning rates after `step` generator steps."""
        return self.schedule(step / self.generator_steps)

    def window_ends(self, batch_idx: int) -> bool:
        """Return whether this batch is the last of its window, after which the optimisers step."""
        return (batch_idx + 1) % self.accumulate == 0 or self.trainer.is_last_batch

    def step_critic(self, name: str, inputs: LossInput, optimizer: LightningOptimizer, batch_idx: int) -> None:
        """Backpropagate the critic's loss of the term `name`, and step the critic, uncounted, at the end of a window.

        Its values are logged with the generator's step, which may be several batches later.
        """
        self.toggle_optimizer(optimizer)
        loss, parts = self.loss.adversarial[name].critic_loss(inputs)
        self.manual_backward(loss / self.accumulate)
        self.pending_losses |= {f"{name}/{part}": value for part, value in parts.items()}
        self.pending_losses |= {f"{name}/critic": loss.detach()}
        if self.window_ends(batch_idx):
            self.trainer.strategy.optimizer_step(optimizer.optimizer, closure=lambda: None)
            optimizer.zero_grad()
        self.untoggle_optimizer(optimizer)
        for part, value in parts.items():  # averaged over all processes, as only the first one's checkpoint is kept
            mean = self.trainer.strategy.reduce(value.clone(), reduce_op="mean")
            self._critic_values[f"train/{name}/{part}"] = mean

    def step_generator(
        self,
        inputs: LossInput,
        optimizer: LightningOptimizer,
        batch_idx: int,
        terms: Collection[str] | None = None,
    ) -> None:
        """Backpropagate the weighted sum of the loss terms, and step the generator at the end of a window.

        Logs the weighted total as `train/loss`, each unweighted term under its config key, and the critics' latest
        values. Gradient ratios are computed only in steps that are logged.

        Args:
            terms: names of the loss terms that count; None for all.
        """
        self.toggle_optimizer(optimizer)
        with_graphs = self.loss.values(inputs, terms)
        total = self.loss.total(with_graphs)
        ratios: dict[str, Tensor] = {}
        if self.trainer._logger_connector.should_update_logs:
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            ratios = self.loss.gradient_ratios(inputs, with_graphs, 1.0 if scaler is None else scaler.get_scale())
        self.manual_backward(total / self.accumulate)
        values = {name: value.detach() for name, value in with_graphs.items()}
        values |= {f"{name}/gradient_ratio": ratio for name, ratio in ratios.items()}
        self.pending_losses |= values | {"loss": total.detach()}
        logged = self._critic_values | {f"train/{name}": value for name, value in values.items()}
        if self.window_ends(batch_idx):
            optimizer.step()
            optimizer.zero_grad()
            self._critic_values = {}
        self.untoggle_optimizer(optimizer)
        self.log("train/loss", total.detach(), prog_bar=True, sync_dist=True)
        self.log_by_step(logged | {"train/learning_rate": optimizer.param_groups[0]["lr"]})

    def configure_optimizers(self) -> Any:
        """Return the generator's optimiser, then one for each critic."""
        assert self.optimizer is not None
        assert self.critic_optimizer is not None
        parameters, terms = self.network.parameters(), self.loss.adversarial
        return self.make_optimizers(parameters, terms, self.optimizer, self.critic_optimizer)

    def make_optimizers(
        self,
        parameters: Iterable[nn.Parameter],
        terms: Iterable[str],
        optimizer: Callable[..., Optimizer],
        critic_optimizer: Callable[..., Optimizer],
    ) -> list[Optimizer]:
        """Return the generator's optimiser, then one for the critic of each of the `terms`."""
        critics = [self.loss.adversarial[name].critic for name in terms]
        try:
            made = [optimizer(parameters), *(critic_optimizer(critic.parameters()) for critic in critics)]
        except (TypeError, ValueError) as error:
            raise InputError(f"an optimizer of conf/model rejects its arguments: {error}") from error
        for one in made:
            fuse(one)
            one.register_load_state_dict_pre_hook(self._check_optimizer_state)
        return made

    def _check_optimizer_state(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        require_optimizer_state(optimizer, state, self.trainer.ckpt_path)
        keep_implementation(optimizer, state)

    def optimizer_list(self) -> list[LightningOptimizer]:
        """Return the wrapped optimisers in the order of `configure_optimizers`, as a list even if there is only one."""
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradient norm, which the Trainer does not under manual optimisation; gradients are unscaled here."""
        if math.isinf(self.clip_norm):
            return  # computing the norm would cost a noticeable part of the step
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.clip_norm)

    def on_train_start(self) -> None:
        """Check the run's limits and precision; match restored gradients and optimiser states to the weights."""
        _ = self.generator_steps
        if self.accumulate > 1 and self.trainer.precision == "16-mixed":  # the scale could change inside a window
            raise InputError(
                f"accumulate={self.accumulate} is not supported with trainer.precision=16-mixed: use bf16-mixed"
            )
        for optimizer in self.trainer.optimizers:
            match_state_memory_format(optimizer)
        for name, gradient in self._restored_gradients.items():
            parameter = self.get_parameter(name)
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        self._restored_gradients = {}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rates from the step, and seed the batch's random numbers from (noise_seed, batch).

        Both are functions of the position in the run, so a resumed run has nothing to restore. All processes draw from
        the same state, each for its own samples: see src/common/distributed.py.
        """
        assert self.trainer._results is not None
        for logged in self.trainer._results.values():
            logged.has_reset = True  # or Lightning would keep logging the terms of a stage that has ended
        key = (self.noise_seed, 0, self.trainer.fit_loop.total_batch_idx)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))
        factor = self.rate_factor(self.global_step)
        self.pending_losses.clear()
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = factor * group.setdefault("initial_lr", group["lr"])

    def on_validation_model_zero_grad(self) -> None:
        """Keep the gradients, which Lightning would clear: a validation may fall inside a window."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save also the gradients of an unfinished window, and the critics' values that are not logged yet."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["critic_values"] = {name: float(value) for name, value in self._critic_values.items()}
        checkpoint["gradients"] = {name: p.grad for name, p in self.named_parameters() if p.grad is not None}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore both; `on_train_start` copies the gradients once the weights are on their device."""
        self._restored_gradients = checkpoint.get("gradients", {})  # absent in checkpoints of earlier versions
        self._critic_values = dict(checkpoint.get("critic_values", {}))
