"""Benchmark data loading: samples per second from image files, including masks."""

import math
from collections.abc import Iterator

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.benchmarking.clock import MinDuration, Record, Stopwatch, summarize
from src.common.errors import InputError

_SAMPLES_PER_IMAGE = 10_000  # in an epoch: more than are measured
_WARM_UP = 256  # samples per worker before the timed ones: its cache then holds nearly all of a small dataset


def measure_loading(run: DictConfig, workers: int, min_duration: MinDuration) -> Record:
    """Measure the samples per second of the training loader with `workers` processes; 0 loads in this process.

    Prefetched samples are not counted, and neither are the first samples of each worker, which fill its cache
    (data.cache_mib). With data.cache_mib=0 every sample decodes its image, as with a dataset much larger than the
    cache.

    Args:
        run: composed from conf/train.yaml, with the data and masks to load.
    Raises:
        InputError: the data are missing.
    """
    changes = {"workers": workers, "samples_per_image": {"train": _SAMPLES_PER_IMAGE}}
    data = instantiate(OmegaConf.merge(run, {"data": changes}).data.datamodule).with_masks(
        generator=instantiate(run.mask.generator), hole_ratio=tuple(run.mask.hole_ratio)
    )
    data.prepare_data()
    batches = iter(data.train_dataloader())
    ahead = 1 + workers * 2  # batches; torch prefetches two per worker
    ahead += math.ceil(_WARM_UP / data.loader.batch_size) * max(1, workers)
    try:
        for _ in range(ahead):
            _samples(batches)
        watch, samples = Stopwatch(torch.device("cpu")), 0
        seconds: list[float] = []
        while not min_duration.is_reached(seconds):
            watch.start()
            # One batch per worker: workers finish at about the same time, so single batches would seem to take no time.
            samples += sum(_samples(batches) for _ in range(max(1, workers)))
            seconds.append(watch.stop())
    finally:
        batches.close()  # a generator, which stops its workers here
    return {**summarize(seconds), "samples": samples, "per_second": samples / sum(seconds)}


def _samples(batches: Iterator[dict[str, torch.Tensor]]) -> int:
    batch = next(batches, None)
    if batch is None:
        raise InputError("the dataset is too small for the benchmark: raise data.samples_per_image.train")
    return len(batch["image"])
