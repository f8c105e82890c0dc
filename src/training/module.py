"""The base LightningModule: validation and test, the same for every network."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from src.common.distributed import broadcast_buffers
from src.masks.hole_ratios import bin_holding
from src.metrics.binned import ALL, BinnedMean, hole_ratio
from src.metrics.scores import PSNR, SCORES, VALIDATION_SCORES, Score
from src.networks.interface import InpaintingNetwork, InpaintingOutput, composite

# Lightning 2.6 inspects batches with a function that torch 2.13 deprecates.
warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)", module=r"lightning\.")
# A generator step may take several batches, and steps are counted across epochs.
warnings.filterwarnings("ignore", message=r"The number of training batches .* is smaller than the logging interval")

Batch = dict[str, Any]
"""image (B, 3, H, W) in [0, 1]; mask (B, 1, H, W), 1 = known; index (B,); path, a list of B names.

For models that learn edges also edges and known_edges (B, 1, H, W): of the whole image, and of its known pixels alone.
"""


class InpaintingModule(LightningModule):
    """LightningModule that validates and tests a network; used directly for methods without weights.

    Validation logs `val/<score>` of the composite over all holes and `val/<score>/<bin>` by hole ratio; for networks
    with two stages also `val/coarse_psnr`, of the first stage's composite. The test leaves one row per sample in
    `rows`, with every score of the raw prediction and of the composite.

    Args:
        extra_scores: further scores, such as LPIPS; computed in the test in addition to `SCORES`.
        extract: computes the features of images for set scores; the test then adds them to `rows`, as `features`.
        sample_seeds: for the test of a stochastic network: returns the seeds of the results that are scored for an
            image, from its index. None for the network's deterministic result.
    Attributes:
        sample_scores: scores of the latest validation batch by name, each (B,), for callbacks that compare them.
    """

    automatic_optimization = False

    def __init__(
        self,
        network: InpaintingNetwork,
        extra_scores: Sequence[Score] = (),
        extract: Callable[[Tensor], Tensor] | None = None,
        sample_seeds: Callable[[int], Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.extract, self.sample_seeds = network, extract, sample_seeds
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
        """Save the resolved configuration with the weights, so that the network can be rebuilt from the checkpoint."""
        checkpoint["config"] = self.run_config

    def on_validation_epoch_start(self) -> None:
        """Copy the first process's running statistics, which a checkpoint stores, to all processes."""
        broadcast_buffers(self.network)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score the composite."""
        self.score(batch, self(batch["image"], batch["mask"]))

    def score(self, batch: Batch, output: InpaintingOutput) -> None:
        """Add the scores of a validation batch to the means."""
        image, mask = batch["image"], batch["mask"]
        filled = composite(image, mask, output)
        ratios = hole_ratio(mask)
        for score, mean in self._validation_means():
            self.sample_scores[score.name] = score(filled, image, mask)
            mean.update(self.sample_scores[score.name], ratios)
        if output.coarse is not None:
            coarse = composite(image, mask, replace(output, prediction=output.coarse))
            self.coarse_psnr.update(PSNR(coarse, image, mask), ratios)

    def on_validation_epoch_end(self) -> None:
        """Log the mean of each score over all holes and by hole ratio."""
        for score, mean in self._validation_means():
            self.log_means(score.name, mean)
        self.log_means("coarse_psnr", self.coarse_psnr)

    def log_means(self, name: str, mean: BinnedMean) -> None:
        """Log a mean as `val/<name>` and, by hole ratio, as `val/<name>/<bin>`, and reset it, unless it is empty."""
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
        """Discard the rows of an earlier test."""
        self.rows = []

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one row per sample: path, hole ratio, bin, and every score of the raw prediction and the composite.

        With `sample_seeds`, scores are means over the results, and `<score>_best` is the best of them.
        """
        image, mask = batch["image"], batch["mask"]
        columns: dict[str, list[float]] = {}
        outputs = self.test_outputs(batch)
        views = {"composite": [composite(image, mask, output) for output in outputs]}
        views["raw"] = [output.prediction for output in outputs]
        for view, predictions in views.items():
            for score in self.test_scores:
                values = torch.stack([score(prediction, image, mask) for prediction in predictions])
                columns[f"{view}_{score.name}"] = values.mean(0).tolist()
                if self.sample_seeds is not None:
                    best = values.amax(0) if score.higher_is_better else values.amin(0)
                    columns[f"{view}_{score.name}_best"] = best.tolist()
        for i, ratio in enumerate(hole_ratio(mask).tolist()):
            row = {"path": batch["path"][i], "index": int(batch["index"][i]), "hole_ratio": ratio}
            self.rows.append(row | {"bin": bin_holding(ratio)} | {name: values[i] for name, values in columns.items()})
        if self.extract is not None:
            features = torch.stack([self.extract(image), self.extract(views["composite"][0])], dim=1).float().cpu()
            for row, of_sample in zip(self.rows[-len(image) :], features.numpy(), strict=True):
                row["features"] = of_sample  # (2, D): of the truth and of the composite

    def test_outputs(self, batch: Batch) -> list[InpaintingOutput]:
        """Return what the test scores: the network's result, or one result for each seed of the samples."""
        image, mask = batch["image"], batch["mask"]
        if self.sample_seeds is None:
            return [self(image, mask)]
        by_sample = [self.sample_seeds(int(index)) for index in batch["index"]]
        return [self.network(image, mask, seeds=seeds) for seeds in zip(*by_sample, strict=True)]

    def on_test_epoch_end(self) -> None:
        """Gather the rows of all processes, ordered by sample index."""
        if self.trainer.world_size > 1:
            gathered: list[list[dict[str, Any]]] = [[] for _ in range(self.trainer.world_size)]
            torch.distributed.all_gather_object(gathered, self.rows)
            self.rows = [row for rows in gathered for row in rows]
        self.rows = sorted(self.rows, key=lambda row: row["index"])

    def log_by_step(self, values: dict[str, Tensor | float]) -> None:
        """Log against generator steps, also where several batches make one step."""
        self.log_dict(values | {"step": float(self.global_step)}, sync_dist=True)
