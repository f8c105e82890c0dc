"""Benchmark data loading: samples per second from JPEG files, including masks."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.benchmarking.clock import MinDuration, Record, Stopwatch, summarize
from src.common.errors import InputError
from src.data.splits import built_in_photos, built_in_photos_folder

PHOTOS = 64
SHORTER_SIDE_PX = 512
"""Minimum side of the images in Places365-Standard (http://places2.csail.mit.edu/download.html)."""

JPEG_QUALITY = 90
_SAMPLES_PER_IMAGE = 1000  # in an epoch: more than are measured
_WARM_UP = 4 * PHOTOS  # samples per worker before the timed ones: its cache then holds all but 2% of the photos


def describe_photos() -> str:
    """Describe the files that `write_photos` writes."""
    return f"{PHOTOS} JPEG files of quality {JPEG_QUALITY}, scikit-image's photos, shorter side {SHORTER_SIDE_PX} px"


def write_photos(directory: Path, shorter_side_px: int = SHORTER_SIDE_PX) -> None:
    """Write a synthetic dataset of JPEG files into `directory`: scikit-image's colour photos, repeated."""
    photos = [path for paths in built_in_photos(built_in_photos_folder()).values() for path in paths]
    directory.mkdir(parents=True, exist_ok=True)
    for i, path in zip(range(PHOTOS), itertools.cycle(photos), strict=False):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert image is not None, path
        factor = shorter_side_px / min(image.shape[:2])
        resized = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(directory / f"{i:03d}_{path.stem}.jpg"), resized, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def measure_loading(run: DictConfig, workers: int, min_duration: MinDuration) -> Record:
    """Measure the samples per second of the training loader with `workers` processes; 0 loads in this process.

    Prefetched samples are not counted, and neither are the first samples of each worker, which fill its cache
    (data.cache_mib). With data.cache_mib=0 every sample decodes its photo, as with a dataset much larger than the
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
        while len(seconds) < min_duration.min_runs or sum(seconds) < min_duration.min_seconds:
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
