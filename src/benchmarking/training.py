"""Benchmark a training step as conf/train.yaml composes it, with loss, discriminators and optimisers."""

import itertools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf

from src.benchmarking.clock import MinDuration, Record, Stopwatch, summarize
from src.benchmarking.failures import NotMeasuredError
from src.benchmarking.forward import make_inputs
from src.benchmarking.memory import PeakMemory
from src.benchmarking.setting import Setting
from src.networks.interface import InpaintingNetwork
from src.training.execution import compile_method
from src.training.manual_training import ManualTraining
from src.training.module import Batch
from src.training.trainer import make_trainer


@dataclass(frozen=True)
class Step:
    """A model's training step at one image and batch size.

    Args:
        run: composed from conf/train.yaml for the model.
        stage: the stage of a model that trains in stages, otherwise None.
    """

    run: DictConfig
    stage: str | None
    side_px: int
    batch_size: int


class StepTimes(Callback):
    """Seconds of each generator step, from the start of its first batch to the end of its last."""

    def __init__(self, device: torch.device) -> None:
        self.watch, self._running, self._steps = Stopwatch(device), False, 0
        self.seconds: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock at the first batch of a step."""
        if not self._running:
            self.watch.start()
            self._running = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock at the last batch of a step."""
        if trainer.global_step > self._steps:
            self.seconds.append(self.watch.stop())
            self._steps, self._running = trainer.global_step, False


def stage_names(run: DictConfig) -> list[str | None]:
    """Return the names of a model's training stages, or [None] if it has none."""
    return list(run.model.training.get("stages", {})) or [None]


def measure_training(step: Step, device: torch.device, min_duration: MinDuration, setting: Setting) -> Record:
    """Measure time and peak memory of a generator step with its discriminator steps, on a batch in memory.

    Peak memory is beyond the weights of network, discriminators and features: activations, gradients and optimisers'
    states.

    Raises:
        NotMeasuredError: the model can't be trained at this size or with this setting.
    """
    module = make_module(step, instantiate(step.run.model.network), setting)
    batch = make_batch(step.batch_size, step.side_px)
    fit(module, step.run, batch, device, setting, steps=0)  # warms up, and compiles the code
    seconds: list[float] = []
    peaks: list[int] = []
    while not min_duration.is_reached(seconds):
        with PeakMemory(device) as peak:
            seconds += fit(module, step.run, batch, device, setting, min_duration.min_runs)
        peaks += [] if peak.bytes is None else [peak.bytes]
    images = step.batch_size * module.batches_per_step
    record = summarize(seconds) | {"peak_bytes": max(peaks, default=None), "images_per_step": images}
    return record | {"per_second": images / record["median_s"]}


def make_module(step: Step, network: InpaintingNetwork, setting: Setting) -> ManualTraining:
    """Build the model's LightningModule with a copy of `network` and the config's loss and discriminators.

    Raises:
        NotMeasuredError: they do not support this image size, or the network can't be run with `setting`.
    """
    only = {} if step.stage is None else {"only": [step.stage]}
    try:
        loss = instantiate(step.run.loss)
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError):
            raise NotMeasuredError(f"loss: {error.__cause__}") from error
        raise
    module: ManualTraining = instantiate(step.run.model.training)(network=setting.prepare(network), loss=loss, **only)
    if setting.compile and module.loss.extractor is not None:  # as src.train does
        compile_method(module.loss.extractor)
    return module


def make_batch(batch_size: int, side_px: int) -> Batch:
    """Return a batch of noise with irregular holes and random edges; see `src.training.module.Batch`."""
    image, mask = make_inputs(batch_size, side_px, torch.device("cpu"))
    edges = (torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) < 0.05).float()
    return {
        "image": image,
        "mask": mask,
        "edges": edges,
        "known_edges": edges * mask,
        "index": torch.arange(batch_size),
        "path": [f"{k}.png" for k in range(batch_size)],
    }


def fit(
    module: ManualTraining, run: DictConfig, batch: Batch, device: torch.device, setting: Setting, steps: int
) -> list[float]:
    """Train for one uncounted generator step and then `steps` counted ones; return the seconds of the latter."""
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
        made.fit(module, train_dataloaders=itertools.repeat(batch))  # loading takes no time
    return times.seconds[1:]  # without the first step, which allocates the optimisers' states


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Lightning's messages at the beginning and end of each fit."""
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You defined a `validation_step` but have no")
            yield
    finally:
        logger.setLevel(before)


def set_scale(run: DictConfig, scale: DictConfig, side_px: int) -> DictConfig:
    """Set scale and image size of a run, and random VGG-16 features, which take the same time as pretrained ones."""
    run.scale = scale
    run.scale.image_size = side_px
    # Some procedures train only a part of the networks at first: the benchmark times a step of all of them.
    for key in ("coarse_share", "critics_start_share"):
        if key in run.model.get("training", {}):
            run.model.training[key] = 0.0
    if run.scale.features_weights == "pretrained":
        run.scale.features_weights = "random"
    return run
