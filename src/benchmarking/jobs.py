"""The measurements that conf/benchmark.yaml asks for, one job per record."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.errors import MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig

import src.common.resolvers  # noqa: F401  # conf/train.yaml uses its resolvers
from src.benchmarking.baselines import literal_layer, make_baseline_factory
from src.benchmarking.clock import MinDuration, Record
from src.benchmarking.failures import attempt
from src.benchmarking.forward import measure_forward
from src.benchmarking.layers import make_layer, measure_layer
from src.benchmarking.loading import describe_photos, measure_loading, write_photos
from src.benchmarking.masks import measure_masks
from src.benchmarking.setting import make_setting
from src.benchmarking.threads import threads
from src.benchmarking.training import Step, measure_training, set_scale, stage_names
from src.common.errors import InputError
from src.common.provenance import device_name

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Job:
    """One record: its known columns, and a function that measures the others."""

    known: Record
    measure: Callable[[], Record]

    def record(self) -> Record:
        """Return the record with the measurement or the reason of its failure; initial weights have a fixed seed."""
        torch.manual_seed(0)
        return self.known | attempt(self.measure)


class Jobs:
    """The jobs of a config.

    Args:
        photos_dir: directory for the synthetic dataset, which is created when it is needed.
    Raises:
        InputError: a key has an invalid value.
    """

    def __init__(self, cfg: DictConfig, device: torch.device, photos_dir: Path) -> None:
        self.cfg, self.device, self.photos_dir = cfg, device, photos_dir
        self.setting = make_setting(cfg, device)
        self.baseline = make_baseline_factory(cfg.baseline, self.setting)
        self.min_duration = MinDuration(cfg.min_runs, cfg.min_seconds)
        self.step_min_duration = MinDuration(cfg.min_steps, cfg.min_seconds)
        self.kinds: dict[str, Callable[[], Iterator[Job]]] = {
            "masks": self.masks,
            "loading": self.loading,
            "layers": self.layers,
            "forward": self.forward,
            "training": self.training,
        }
        if unknown := set(as_list(cfg.what)) - set(self.kinds):
            raise InputError(
                f"what={', '.join(sorted(map(str, unknown)))}: unknown benchmark; choose from {', '.join(self.kinds)}"
            )

    def all(self) -> list[Job]:
        """Return the jobs of all kinds in `what`."""
        asked = as_list(self.cfg.what)
        return [job for kind, jobs in self.kinds.items() if kind in asked for job in jobs()]

    def masks(self) -> Iterator[Job]:
        """Yield a job for each mask generator and size."""
        count = self.cfg.masks_per_run
        for name in as_list(self.cfg.masks):
            mask = compose_choice("mask", name, self.cfg)
            for side_px in as_list(self.cfg.mask_sizes):
                with threads(1):
                    known = self._known("masks", name, side_px, count, CPU)
                share = tuple(mask.hole_ratio)
                generator = instantiate(mask.generator)
                yield Job(known, partial(measure_masks, generator, share, side_px, count, self.min_duration))

    def loading(self) -> Iterator[Job]:
        """Yield a job for each model whose batches are loaded, and number of workers."""
        cfg = self.cfg
        read = describe_photos() if cfg.data_root is None else str(cfg.data_root)
        for model in as_list(cfg.loading_models):
            run, name = self._loaded_run(model), f"{cfg.data}, {model}"
            for workers in as_list(cfg.workers):
                known = self._known("loading", name, cfg.scale.image_size, cfg.loading_batch_size, CPU)
                known |= {"workers": workers, "read": ", ".join([read, *as_list(cfg.data_overrides)])}
                yield Job(known, partial(self._measure_loading, run, workers))

    def _loaded_run(self, model: str) -> DictConfig:
        root = self.cfg.data_root or self.photos_dir
        compose_choice("model", model, self.cfg)  # raises if there is no such model
        overrides = [
            f"model={model}",
            f"data={self.cfg.data}",
            f"data.root={root}",
            "mask=irregular",  # a model's own masks may be files that are missing here
            f"batch_size={self.cfg.loading_batch_size}",
        ]
        run = hydra.compose("train", overrides=[*overrides, *as_list(self.cfg.data_overrides)])
        run.scale = self.cfg.scale
        return run

    def _measure_loading(self, run: DictConfig, workers: int) -> Record:
        if self.cfg.data_root is None and not self.photos_dir.exists():
            write_photos(self.photos_dir)
        return measure_loading(run, workers, self.min_duration)

    def layers(self) -> Iterator[Job]:
        """Yield a job for each attention layer, size and batch size."""
        literal = literal_layer if self.cfg.baseline == "literal" else None
        width = self.cfg.scale.width
        for name in as_list(self.cfg.layers):
            for side_px, batch_size in self._grid(self.cfg.batch_sizes):
                known = self._known("layer", name, side_px, batch_size, self.device) | self._setting()
                measure = partial(
                    measure_layer, make_layer(name, width), width, side_px, batch_size, self.device, self.min_duration
                )
                yield Job(known, partial(measure, self.setting, literal))

    def forward(self) -> Iterator[Job]:
        """Yield a job for each model, size and batch size."""
        for name in as_list(self.cfg.models):
            model = compose_choice("model", name, self.cfg)
            for side_px, batch_size in self._grid(self.cfg.batch_sizes):
                known = self._known("forward", name, side_px, batch_size, self.device) | self._setting()
                yield Job(known, partial(self._measure_forward, model, side_px, batch_size))

    def _measure_forward(self, model: DictConfig, side_px: int, batch_size: int) -> Record:
        network = instantiate(model.network)
        return measure_forward(
            network, side_px, batch_size, self.device, self.min_duration, self.setting, self.baseline
        )

    def training(self) -> Iterator[Job]:
        """Yield a job for each training stage of each model with weights, size and batch size."""
        for name, side_px, batch_size in self._trainable():
            for stage in stage_names(self._run(name, side_px)):
                step = Step(self._run(name, side_px), stage, side_px, batch_size)
                known = self._known("training", _stage_name(name, stage), side_px, batch_size, self.device)
                measure = partial(
                    measure_training, step, self.device, self.step_min_duration, self.setting, self.baseline
                )
                yield Job(known | self._setting(), measure)

    def _trainable(self) -> Iterator[tuple[str, int, int]]:
        for name in as_list(self.cfg.models):
            if "training" in compose_choice("model", name, self.cfg):
                for side_px, batch_size in self._grid(self.cfg.train_batch_size):
                    yield name, side_px, batch_size

    def _run(self, name: str, side_px: int) -> DictConfig:
        run = hydra.compose("train", overrides=[f"model={name}", f"output_dir={self.photos_dir}"])
        return set_scale(run, self.cfg.scale, side_px)

    def _grid(self, batch_sizes: Any) -> Iterator[tuple[int, int]]:
        for side_px in as_list(self.cfg.sizes or self.cfg.scale.image_size):
            for batch_size in as_list(batch_sizes):
                yield side_px, batch_size

    def _known(self, what: str, name: str, side_px: int, batch_size: int, device: torch.device) -> Record:
        known = {"what": what, "name": name, "side_px": side_px, "batch_size": batch_size}
        return known | {"device": device_name(device)}

    def _setting(self) -> Record:
        return {**self.setting.columns(), "baseline": self.cfg.baseline}


def _stage_name(name: str, stage: str | None) -> str:
    return name if stage is None else f"{name}/{stage}"


def as_list(value: Any) -> list[Any]:
    """Return the items of a list, or a single value as a list: `models=lbam` is `models=[lbam]`."""
    return list(value) if isinstance(value, ListConfig) else [value]


def compose_choice(group: str, name: str, cfg: DictConfig) -> DictConfig:
    """Compose a choice of a config group at the scale of `cfg`."""
    try:
        composed = hydra.compose("benchmark", overrides=[f"+{group}={name}"])
    except MissingConfigException as error:
        raise InputError(f"{group}s={name}: {error}") from error
    composed.scale = cfg.scale
    node: DictConfig = composed[group]
    return node
