"""The base of every training procedure: validation, test, prediction, and descending by hand in generator steps."""

import math
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from src.common.distributed import share_buffers
from src.common.errors import InputError
from src.losses.inputs import LossInput
from src.losses.weighted_sum import WeightedSum
from src.masks.hole_ratios import bin_holding
from src.metrics.binned import ALL, BinnedMean, hole_ratio
from src.metrics.scores import PSNR, SCORES, VALIDATION_SCORES, Score
from src.networks.interface import InpaintingNetwork, InpaintingOutput, composite
from src.training.optimizers import fuse, lay_out_moments

# Lightning 2.6 looks into batches with an idiom that torch 2.13 has deprecated; a user can do nothing about it.
warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)", module=r"lightning\.")
# Nor about this: generator steps may take several batches each, and are counted across epochs.
warnings.filterwarnings("ignore", message=r"The number of training batches .* is smaller than the logging interval")

Batch = dict[str, Any]
"""image (B, 3, H, W) in [0, 1]; mask (B, 1, H, W), 1 = known; index (B,); path, a list of B names.

For models that learn edges also edges and known_edges (B, 1, H, W), the image's and those that its known pixels show.
"""


class InpaintingModule(LightningModule):
    """A network on the suite's one protocol. Methods without weights are evaluated with this class itself.

    Validation logs `val/<score>` of the composite over all holes and `val/<score>/<bin>` by hole ratio; of networks
    with two stages also `val/coarse_psnr`, of the first stage's composite. The test leaves one row a sample in `rows`,
    every score on the raw prediction and on the composite.

    Args:
        extra_scores: scores that hold weights, such as LPIPS; computed in the test beside `SCORES`.
    Attributes:
        sample_scores: of the latest validation batch by name, each (B,), for callbacks that compare them.
    """

    automatic_optimization = False

    def __init__(self, network: InpaintingNetwork, extra_scores: Sequence[Score] = ()) -> None:
        super().__init__()
        self.network = network
        self.test_scores = (*SCORES, *extra_scores)
        self.means = nn.ModuleDict({score.name: BinnedMean() for score in VALIDATION_SCORES})
        self.coarse_psnr = BinnedMean()
        self.sample_scores: dict[str, Tensor] = {}
        self.rows: list[dict[str, Any]] = []
        self.run_config: dict[str, Any] = {}

    @property
    def monitor(self) -> str:
        """Name of the validation score, higher is better, that the best checkpoint is chosen by."""
        return "val/psnr"

    @property
    def stage_of_last_step(self) -> str:
        """Name of the stage that the last generator step belonged to; empty for a run without stages."""
        return ""

    def forward(self, image: Tensor, mask: Tensor, edges: Tensor | None = None) -> InpaintingOutput:
        """Call the network: see `InpaintingNetwork.forward`."""
        output: InpaintingOutput = self.network(image, mask, edges)
        return output

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the resolved configuration beside the weights, so that a checkpoint says how to rebuild its network."""
        checkpoint["config"] = self.run_config

    def on_validation_epoch_start(self) -> None:
        """Have all processes score with the first one's running statistics, which are those that a checkpoint keeps."""
        share_buffers(self.network)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score the composite."""
        self.score(batch, self(batch["image"], batch["mask"]))

    def score(self, batch: Batch, output: InpaintingOutput) -> None:
        """Take a validation batch into the means."""
        image, mask = batch["image"], batch["mask"]
        filled = composite(image, mask, output)
        shares = hole_ratio(mask)
        for score, mean in self._validation_means():
            self.sample_scores[score.name] = score(filled, image, mask)
            mean.update(self.sample_scores[score.name], shares)
        if output.coarse is not None:
            coarse = composite(image, mask, replace(output, prediction=output.coarse))
            self.coarse_psnr.update(PSNR(coarse, image, mask), shares)

    def on_validation_epoch_end(self) -> None:
        """Log each score's mean over all holes and by hole ratio."""
        for score, mean in self._validation_means():
            self.log_means(score.name, mean)
        self.log_means("coarse_psnr", self.coarse_psnr)

    def log_means(self, name: str, mean: BinnedMean) -> None:
        """Log a mean as `val/<name>` and, by hole ratio, as `val/<name>/<bin>`, and reset it; none if never updated."""
        if not mean.update_called:
            return
        for bin_label, value in mean.compute().items():
            self.log_by_step({f"val/{name}" if bin_label == ALL else f"val/{name}/{bin_label}": value})
        mean.reset()

    def _validation_means(self) -> Iterator[tuple[Score, BinnedMean]]:
        for score in VALIDATION_SCORES:
            mean = self.means[score.name]
            assert isinstance(mean, BinnedMean)
            yield score, mean

    def on_test_epoch_start(self) -> None:
        """Forget the rows of a test before this one."""
        self.rows = []

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep a row a sample: path, hole ratio, bin, and every score on the raw prediction and the composite."""
        image, mask = batch["image"], batch["mask"]
        output = self(image, mask)
        views = {"composite": composite(image, mask, output), "raw": output.prediction}
        columns = {
            f"{view}_{score.name}": score(prediction, image, mask).tolist()
            for view, prediction in views.items()
            for score in self.test_scores
        }
        for i, share in enumerate(hole_ratio(mask).tolist()):
            row = {
                "path": batch["path"][i],
                "index": int(batch["index"][i]),
                "hole_ratio": share,
                "bin": bin_holding(share),
            }
            self.rows.append(row | {name: values[i] for name, values in columns.items()})

    def on_test_epoch_end(self) -> None:
        """Bring the rows of all processes together, in the order of their index."""
        if self.trainer.world_size > 1:
            gathered: list[list[dict[str, Any]]] = [[] for _ in range(self.trainer.world_size)]
            torch.distributed.all_gather_object(gathered, self.rows)
            self.rows = [row for rows in gathered for row in rows]
        self.rows = sorted(self.rows, key=lambda row: row["index"])

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The composite, (B, 3, H, W) in [0, 1]."""
        return composite(batch["image"], batch["mask"], self(batch["image"], batch["mask"]))

    def log_by_step(self, values: dict[str, Tensor | float]) -> None:
        """Log against generator steps, also where several batches make one step."""
        self.log_dict(values | {"step": float(self.global_step)}, sync_dist=True)


class ManualTraining(InpaintingModule):
    """A training procedure that steps its optimisers by hand, and counts the generator's steps alone.

    Lightning's `global_step`, `max_steps`, checkpoint names and EMA count every optimiser that is stepped through its
    wrapper. Here only the generator's is, so that all of them speak of generator steps; a critic's optimiser goes past
    the counter, through the strategy, where mixed precision is handled as for the other.

    Args:
        schedule: factor of all optimisers' learning rates, given the share of generator steps that are done.
        accumulate: batches whose gradients are averaged before a step; an epoch's last few, fewer, count as many.
        clip_norm: largest norm of the gradient of an optimiser's parameters; infinite for no clipping.
        noise_seed: of what a step draws, such as the gradient penalty's mixtures.
    Attributes:
        unread: what this batch's losses came to, detached, by the name they are logged under, a critic's own loss as
            `<term>/critic` and each total after its parts; the callback that reads them clears them.
    """

    def __init__(
        self,
        network: InpaintingNetwork,
        loss: WeightedSum,
        schedule: Callable[[float], float],
        accumulate: int = 1,
        clip_norm: float = float("inf"),
        noise_seed: int = 0,
    ) -> None:
        super().__init__(network)
        if accumulate < 1:
            raise InputError(f"accumulate must be 1 batch or more, got {accumulate}")
        if clip_norm <= 0:
            raise InputError(f"clip_norm must be above 0 (.inf for no clipping), got {clip_norm}")
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise InputError(f"{type(network).__name__} has no weights to train: evaluate it instead")
        self.loss, self.schedule = loss, schedule
        self._restored_gradients: dict[str, Tensor] = {}
        self._critic_values: dict[str, Tensor | float] = {}  # by name, until the generator's step logs them
        self.accumulate, self.clip_norm, self.noise_seed = accumulate, clip_norm, noise_seed
        self.unread: dict[str, Tensor] = {}

    @property
    def batches_per_step(self) -> int:
        """Batches that one generator step takes."""
        return self.accumulate

    @property
    def generator_steps(self) -> int:
        """Generator steps of the whole run, from the Trainer's limits.

        Raises:
            InputError: the run has no end.
        """
        trainer, limits = self.trainer, []
        if trainer.max_steps > 0:
            limits.append(trainer.max_steps)
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            limits.append(self.steps_in(trainer.max_epochs, int(trainer.num_training_batches)))
        if not limits:
            raise InputError("the run has no end: set trainer.max_steps or trainer.max_epochs")
        return min(limits)

    def steps_in(self, epochs: int, batches: int) -> int:
        """Generator steps of so many epochs of so many batches."""
        return epochs * -(-batches // self.accumulate)

    def rate_factor(self, step: int) -> float:
        """Factor of the learning rates when so many generator steps are done."""
        return self.schedule(step / self.generator_steps)

    def on_train_start(self) -> None:
        """Refuse what would go wrong later, or without a word.

        Raises:
            InputError: the run has no end; a step of the critic would change float16's loss scale inside a window; FSDP
                is to differentiate a gradient penalty.
        """
        _ = self.generator_steps
        penalised = [name for name, term in self.loss.adversarial.items() if getattr(term, "penalty", None) is not None]
        if penalised and isinstance(self.trainer.strategy, FSDPStrategy):
            raise InputError(
                f"trainer=fsdp can't differentiate twice, as the gradient penalty of {', '.join(penalised)} asks: "
                "use trainer=ddp"
            )
        if self.accumulate > 1 and self.trainer.precision == "16-mixed":
            raise InputError(f"accumulate={self.accumulate} goes with trainer.precision=bf16-mixed, not with 16-mixed")
        for optimizer in self.trainer.optimizers:
            lay_out_moments(optimizer)
        for name, gradient in self._restored_gradients.items():
            parameter = self.get_parameter(name)
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        self._restored_gradients = {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the gradients, too, of a window of batches that has not come to its step, and what critics came to."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["critic_values"] = {name: float(value) for name, value in self._critic_values.items()}
        checkpoint["gradients"] = {name: p.grad for name, p in self.named_parameters() if p.grad is not None}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them up when training starts, and the weights are where they are trained."""
        self._restored_gradients = checkpoint.get("gradients", {})  # none before there was such a key
        self._critic_values = dict(checkpoint.get("critic_values", {}))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make the learning rates functions of the step, and what it draws one of (seed, batch).

        So there is nothing to restore, and a resumed run goes on as if it had not been interrupted. All processes draw
        from the same state, each for its own samples: see src/common/distributed.py.

        What batches before have logged is left out of rows to come, as no checkpoint holds it: Lightning would go on
        with the terms of a stage that has ended.
        """
        assert self.trainer._results is not None
        for logged in self.trainer._results.values():
            logged.has_reset = True
        key = (self.noise_seed, 0, self.trainer.fit_loop.total_batch_idx)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))
        factor = self.rate_factor(self.global_step)
        self.unread.clear()
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = factor * group.setdefault("initial_lr", group["lr"])

    def on_validation_model_zero_grad(self) -> None:
        """Clear nothing, as Lightning would: a validation may fall into a window whose gradients are still wanted."""

    def window_ends(self, batch_idx: int) -> bool:
        """Whether this batch is the last whose gradients are averaged into the next step."""
        return (batch_idx + 1) % self.accumulate == 0 or self.trainer.is_last_batch

    def critic_descends(self, name: str, inputs: LossInput, optimizer: LightningOptimizer, batch_idx: int) -> None:
        """Add this batch's gradient to the critic of the term `name`; at the end of a window step it, uncounted.

        What it came to is logged with the generator's step, which may be several batches away.
        """
        self.toggle_optimizer(optimizer)
        loss, parts = self.loss.adversarial[name].critic_loss(inputs)
        self.manual_backward(loss / self.accumulate)
        self.unread |= {f"{name}/{part}": value for part, value in parts.items()} | {f"{name}/critic": loss.detach()}
        if self.window_ends(batch_idx):
            self.trainer.strategy.optimizer_step(optimizer.optimizer, closure=lambda: None)
            optimizer.zero_grad()
        self.untoggle_optimizer(optimizer)
        for part, value in parts.items():  # of all processes: only the first one's checkpoint is kept
            mean = self.trainer.strategy.reduce(value.clone(), reduce_op="mean")
            self._critic_values[f"train/{name}/{part}"] = mean

    def generator_descends(
        self,
        inputs: LossInput,
        optimizer: LightningOptimizer,
        batch_idx: int,
        terms: Collection[str] | None = None,
    ) -> None:
        """Add this batch's gradient to the generator; at the end of a window step it.

        Logs the weighted total as `train/loss`, each term, unweighted, under its name in the configuration, and the
        critics' latest values. Where a row is logged, `WeightedSum.gradient_ratios` are computed, too.

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
        self.unread |= values | {"loss": total.detach()}
        logged = self._critic_values | {f"train/{name}": value for name, value in values.items()}
        if self.window_ends(batch_idx):
            optimizer.step()
            optimizer.zero_grad()
            self._critic_values = {}
        self.untoggle_optimizer(optimizer)
        self.log("train/loss", total.detach(), prog_bar=True, sync_dist=True)
        self.log_by_step(logged | {"train/learning_rate": optimizer.param_groups[0]["lr"]})

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip, here where mixed precision has unscaled the gradients; the Trainer refuses to."""
        if math.isinf(self.clip_norm):
            return  # the norm of all gradients and their product with 1 take as long as a part of the step
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.clip_norm)

    def optimizers_of(
        self,
        parameters: Iterable[nn.Parameter],
        terms: Iterable[str],
        optimizer: Callable[..., Optimizer],
        critic_optimizer: Callable[..., Optimizer],
    ) -> list[Optimizer]:
        """For `configure_optimizers`: a generator's optimiser, then one for the critic of each of the `terms`."""
        critics = [self.loss.adversarial[name].critic for name in terms]
        made = [optimizer(parameters), *(critic_optimizer(critic.parameters()) for critic in critics)]
        for one in made:
            fuse(one)
        return made

    def listed_optimizers(self) -> list[LightningOptimizer]:
        """What `configure_optimizers` made, wrapped, in its order, be it one or several."""
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]
