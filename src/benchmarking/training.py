"""A training step, as conf/train.yaml makes it: the model's module with its loss, critics and optimisers."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf

from src.benchmarking.baselines import Variant
from src.benchmarking.clock import Pace, Record, Stopwatch, round_order
from src.benchmarking.compared import summarize_with_baseline
from src.benchmarking.failures import NotMeasuredError, attempt
from src.benchmarking.forward import pictures
from src.benchmarking.memory import PeakMemory
from src.benchmarking.setting import Setting, lies_channels_last
from src.networks.execution import compile_method
from src.networks.interface import InpaintingNetwork
from src.training.manual_training import ManualTraining
from src.training.module import Batch
from src.training.trainer import make_trainer

EDGE_SHARE = 0.05


@dataclass(frozen=True)
class Step:
    """What is timed: a model's step at a size.

    Args:
        run: conf/train.yaml, composed for the model.
        stage: of a model that trains in stages, the one; None otherwise.
    """

    run: DictConfig
    stage: str | None
    side_px: int
    batch_size: int


class BatchInMemory:
    """The same batch again and again: no time goes into loading."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.batch


class StepTimes(Callback):
    """Seconds of each generator step, from the start of its first batch to the end of its last."""

    def __init__(self, device: torch.device) -> None:
        self.watch, self._running, self._steps = Stopwatch(device), False, 0
        self.seconds: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin, where a step begins."""
        if not self._running:
            self.watch.start()
            self._running = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop, where a step has ended."""
        if trainer.global_step > self._steps:
            self.seconds.append(self.watch.stop())
            self._steps, self._running = trainer.global_step, False

    def counted(self) -> list[float]:
        """All but the first, which makes the optimisers' state."""
        return self.seconds[1:]


def stages_of(run: DictConfig) -> list[str | None]:
    """The names of a model's stages; [None] where it trains in one go."""
    return list(run.model.training.get("stages", {})) or [None]


def measure_training(
    step: Step,
    device: torch.device,
    pace: Pace,
    setting: Setting,
    baseline: Callable[[InpaintingNetwork], Variant] | None = None,
) -> Record:
    """Time and peak memory of a generator step with its critics', on a batch in memory.

    Peak memory is beyond the weights of network, critics and features: activations, gradients and optimisers' states.
    A baseline takes its steps in turn, one after one of ours that is not counted.
    """
    return attempt(lambda: _measure(step, device, pace, setting, baseline))


def _measure(
    step: Step,
    device: torch.device,
    pace: Pace,
    setting: Setting,
    baseline: Callable[[InpaintingNetwork], Variant] | None,
) -> Record:
    network = instantiate(step.run.model.network)
    variants: list[Variant] = [(network, setting)]
    record: Record = {}
    if baseline is not None:
        try:
            variants.append(baseline(network))
        except NotMeasuredError as error:
            record["baseline_failure"] = str(error)
    modules = [(make_module(step, of, made), made) for of, made in variants]
    batch = make_batch(step.batch_size, step.side_px)
    steps = 1 if len(modules) > 1 else pace.min_runs
    seconds: list[list[float]] = [[] for _ in modules]
    peaks: list[list[int]] = [[] for _ in modules]
    for module, made in modules:  # once: the first also makes what all later ones use, code among it
        fit(module, step.run, batch, device, made, steps=0)
    while len(seconds[0]) < pace.min_runs or min(map(sum, seconds)) < pace.min_seconds:
        for i in round_order(len(modules), len(seconds[0])):
            module, made = modules[i]
            with PeakMemory(device) as peak:
                seconds[i] += fit(module, step.run, batch, device, made, steps)
            peaks[i] += [] if peak.bytes is None else [peak.bytes]
    record["batches_per_step"] = modules[0][0].batches_per_step
    record["channels_last"] = lies_channels_last(modules[0][0].network)
    for column, measured in zip(("peak_bytes", "baseline_peak_bytes"), peaks, strict=False):
        record[column] = int(np.median(measured)) if measured else None
    record |= summarize_with_baseline(seconds)
    images = step.batch_size * record["batches_per_step"]
    return record | {"images_per_step": images, "per_second": images / record["median_s"]}


def make_module(step: Step, network: InpaintingNetwork, setting: Setting) -> ManualTraining:
    """The model's LightningModule around a copy of `network`, with the loss and critics of its configuration.

    Raises:
        NotMeasuredError: they are not for pictures of this size, or the network can't be run by `setting`.
    """
    only = {} if step.stage is None else {"only": [step.stage]}
    try:
        loss = instantiate(step.run.loss)
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError):
            raise NotMeasuredError(f"loss: {error.__cause__}") from error
        raise
    module: ManualTraining = instantiate(step.run.model.training)(network=setting.prepared(network), loss=loss, **only)
    if setting.compile and module.loss.extractor is not None:  # as src.train does
        compile_method(module.loss.extractor)
    return module


def make_batch(batch_size: int, side_px: int) -> Batch:
    """Noise with irregular holes and edges at random places, as `src.training.module.Batch` documents it."""
    image, mask = pictures(batch_size, side_px, torch.device("cpu"))
    edges = (torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) < EDGE_SHARE).float()
    names = [f"{k}.png" for k in range(batch_size)]
    return {
        "image": image,
        "mask": mask,
        "edges": edges,
        "known_edges": edges * mask,
        "index": torch.arange(batch_size),
        "path": names,
    }


def fit(
    module: ManualTraining,
    run: DictConfig,
    batch: Batch,
    device: torch.device,
    setting: Setting,
    steps: int,
) -> list[float]:
    """Train for `steps` generator steps, and one before them that is not counted; their seconds."""
    times = StepTimes(device)
    options = {
        "accelerator": "gpu" if device.type == "cuda" else device.type,
        "devices": 1,
        "precision": setting.precision,
        "max_epochs": -1,
        "max_steps": steps + 1,
        "max_time": None,
        "val_check_interval": None,
        "check_val_every_n_epoch": 1,
        "limit_val_batches": 0,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "default_root_dir": None,
    }
    cfg = OmegaConf.merge(run.trainer, options)
    with _quiet():
        made = make_trainer(cfg, callbacks=[times], logger=False, enable_checkpointing=False)  # type: ignore[arg-type]
        made.fit(module, train_dataloaders=BatchInMemory(batch))
    return times.counted()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Lightning says at the beginning and the end of every fit, of which there are many."""
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You defined a `validation_step` but have no")
            yield
    finally:
        logger.setLevel(before)


def composed_for(run: DictConfig, scale: DictConfig, side_px: int) -> DictConfig:
    """A run at another scale and picture size, with random features: those of VGG-16 cost the same time."""
    run.scale = scale
    run.scale.image_size = side_px
    for share in (
        "coarse_share",
        "critics_start_share",
    ):  # what is timed is a step of the whole network and its critics
        if share in run.model.get("training", {}):
            run.model.training[share] = 0.0
    if run.scale.features_weights == "pretrained":
        run.scale.features_weights = "random"
    return run
