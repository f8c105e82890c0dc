"""The measurements that conf/benchmark.yaml asks for, one job per record."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import hydra
import torch
from hydra.errors import MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig

import src.common.resolvers  # noqa: F401  # conf/train.yaml uses its resolvers
from src.benchmarking.clock import MinDuration, Record
from src.benchmarking.failures import attempt
from src.benchmarking.forward import measure_forward
from src.benchmarking.loading import measure_loading
from src.benchmarking.setting import make_setting
from src.benchmarking.training import Step, measure_training, set_scale, stage_names
from src.common.errors import InputError
from src.common.provenance import device_name


@dataclass(frozen=True)
class Job:
    """One record: its known columns, and a function that measures the others."""

    known: Record
    measure: Callable[[], Record]

    def record(self) -> Record:
        """Return the record with the measurement or the reason of its failure; initial weights have a fixed seed."""
        torch.manual_seed(0)
        return self.known | attempt(self.measure)


def make_jobs(cfg: DictConfig, device: torch.device) -> list[Job]:
    """Return the jobs of all kinds in `what`.

    Raises:
        InputError: a key has an invalid value.
    """
    kinds = {"forward": _forward_jobs, "training": _training_jobs, "loading": _loading_jobs}
    if unknown := set(as_list(cfg.what)) - set(kinds):
        raise InputError(
            f"what={', '.join(sorted(map(str, unknown)))}: unknown benchmark; choose from {', '.join(kinds)}"
        )
    return [job for kind in as_list(cfg.what) for job in kinds[kind](cfg, device)]


def _forward_jobs(cfg: DictConfig, device: torch.device) -> Iterator[Job]:
    setting, min_duration = make_setting(cfg, device), MinDuration(cfg.min_runs, cfg.min_seconds)

    def measure(model: DictConfig, side_px: int, batch_size: int) -> Record:
        return measure_forward(instantiate(model.network), side_px, batch_size, device, min_duration, setting)

    for name in as_list(cfg.models):
        model = _compose_model(name, cfg)
        for side_px, batch_size in _sizes_and(cfg.batch_sizes, cfg):
            known = _known("forward", name, side_px, batch_size, device) | asdict(setting)
            yield Job(known, partial(measure, model, side_px, batch_size))


def _training_jobs(cfg: DictConfig, device: torch.device) -> Iterator[Job]:
    """Yield a job for each training stage of each model with weights, size and batch size."""
    setting, min_duration = make_setting(cfg, device), MinDuration(cfg.min_steps, cfg.min_seconds)
    for name in as_list(cfg.models):
        if "training" not in _compose_model(name, cfg):
            continue
        for side_px, batch_size in _sizes_and(cfg.train_batch_size, cfg):
            run = hydra.compose("train", overrides=[f"model={name}", "output_dir=unused"])
            run = set_scale(run, cfg.scale, side_px)
            for stage in stage_names(run):
                full_name = name if stage is None else f"{name}/{stage}"
                known = _known("training", full_name, side_px, batch_size, device) | asdict(setting)
                step = Step(run, stage, side_px, batch_size)
                yield Job(known, partial(measure_training, step, device, min_duration, setting))


def _loading_jobs(cfg: DictConfig, device: torch.device) -> Iterator[Job]:
    """Yield a job for each model whose batches are loaded, and number of workers."""
    cpu = torch.device("cpu")
    data = ["data=photos"] if cfg.data_root is None else [f"data={cfg.data}", f"data.root={cfg.data_root}"]
    # A model's own masks may be files that are missing here.
    overrides = [*data, "mask=irregular", f"batch_size={cfg.loading_batch_size}", *as_list(cfg.data_overrides)]
    for model in as_list(cfg.loading_models):
        _compose_model(model, cfg)  # raises if there is no such model
        run = hydra.compose("train", overrides=[f"model={model}", *overrides])
        run.scale = cfg.scale
        for workers in as_list(cfg.workers):
            name = f"{run.data.name}, {model}"
            known = _known("loading", name, cfg.scale.image_size, cfg.loading_batch_size, cpu)
            measure = partial(measure_loading, run, workers, MinDuration(cfg.min_runs, cfg.min_seconds))
            yield Job(known | {"workers": workers, "read": ", ".join(overrides)}, measure)


def _sizes_and(batch_sizes: Any, cfg: DictConfig) -> Iterator[tuple[int, int]]:
    sides_px = as_list(cfg.sizes or cfg.scale.image_size)
    for value in (*sides_px, *as_list(batch_sizes)):
        if type(value) is not int or value < 1:
            raise InputError(f"sizes and batch sizes must be integers >= 1, got {value!r}")
    for side_px in sides_px:
        for batch_size in as_list(batch_sizes):
            yield side_px, batch_size


def _known(what: str, name: str, side_px: int, batch_size: int, device: torch.device) -> Record:
    known = {"what": what, "name": name, "side_px": side_px, "batch_size": batch_size}
    return known | {"device": device_name(device)}


def _compose_model(name: str, cfg: DictConfig) -> DictConfig:
    try:
        composed = hydra.compose("benchmark", overrides=[f"+model={name}"])
    except MissingConfigException as error:
        raise InputError(f"models={name}: {error}") from error
    composed.scale = cfg.scale
    model: DictConfig = composed.model
    return model


def as_list(value: Any) -> list[Any]:
    """Return the items of a list, or a single value as a list: `models=lbam` is `models=[lbam]`."""
    return list(value) if isinstance(value, ListConfig) else [value]
