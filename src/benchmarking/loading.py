"""The data side: samples a second that a loader's workers make of JPEG files, masks and all."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.benchmarking.clock import Pace, Record, Stopwatch, spread
from src.common.errors import InputError
from src.data.splits import built_in_photos, built_in_photos_folder

PHOTOS = 64
SHORTER_SIDE_PX = 512
"""Of the pictures of Places365-Standard, which are at least so large (http://places2.csail.mit.edu/download.html)."""

JPEG_QUALITY = 90
_ENDLESS = 1000  # crops of a photo in an epoch: more than are measured
_WARM_UP = 4 * PHOTOS  # samples of each worker before the timed ones: all but 2 % of the photos are then in its cache


def stand_in() -> str:
    """What `write_photos` writes, in words."""
    return f"{PHOTOS} JPEG files of quality {JPEG_QUALITY}, scikit-image's photos, shorter side {SHORTER_SIDE_PX} px"


def write_photos(folder: Path, shorter_side_px: int = SHORTER_SIDE_PX) -> None:
    """Fill `folder` with JPEG files that stand in for a data set: scikit-image's colour photos again and again."""
    photos = [path for paths in built_in_photos(built_in_photos_folder()).values() for path in paths]
    folder.mkdir(parents=True, exist_ok=True)
    for i, path in zip(range(PHOTOS), itertools.cycle(photos), strict=False):
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert picture is not None, path
        factor = shorter_side_px / min(picture.shape[:2])
        resized = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / f"{i:03d}_{path.stem}.jpg"), resized, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def measure_loading(run: DictConfig, workers: int, pace: Pace) -> Record:
    """Samples a second of the training loader, by batches as they come from `workers` processes; 0: from this one.

    Samples that workers prefetch while none are requested are not counted. Nor are the first samples of each worker,
    which fill its cache (data.cache_mib); with data.cache_mib=0 every photo is decoded for every sample, as in a
    dataset that is much larger than the cache.

    Args:
        run: conf/train.yaml, composed; its data and masks are loaded.
    Raises:
        InputError: the data are not there.
    """
    changes = {"workers": workers, "samples_per_image": {"train": _ENDLESS}}
    data = instantiate(OmegaConf.merge(run, {"data": changes}).data.datamodule).with_masks(
        generator=instantiate(run.mask.generator), hole_ratio=tuple(run.mask.hole_ratio)
    )
    data.prepare_data()
    batches = iter(data.train_dataloader())
    ahead = 1 + workers * 2  # batches; two a worker is torch's default
    ahead += math.ceil(_WARM_UP / data.loader.batch_size) * max(1, workers)
    try:
        for _ in range(ahead):
            _samples(batches)
        watch, samples = Stopwatch(torch.device("cpu")), 0
        seconds: list[float] = []
        while len(seconds) < pace.min_runs or sum(seconds) < pace.min_seconds:
            watch.start()
            # A batch of each worker: they end at about the same time, and single ones would seem to take none.
            samples += sum(_samples(batches) for _ in range(max(1, workers)))
            seconds.append(watch.stop())
    finally:
        batches.close()  # a generator: its workers end here
    return {**spread(seconds), "samples": samples, "per_second": samples / sum(seconds)}


def _samples(batches: Iterator[dict[str, torch.Tensor]]) -> int:
    batch = next(batches, None)
    if batch is None:
        raise InputError("the dataset is too small to be timed: raise data.samples_per_image.train")
    return len(batch["image"])
