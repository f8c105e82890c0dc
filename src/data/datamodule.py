"""The LightningDataModule: loaders for training, validation and testing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from src.common.distributed import get_rank_and_world_size
from src.common.errors import InputError
from src.data.dataset import BankMasks, ImageMasks, InpaintingDataset, MaskSource, RandomMasks
from src.data.files import DatasetFiles
from src.data.loaders import FixedSampler, SampleLoader, TrainingLoader
from src.data.options import CropOptions, LoaderOptions, MaskOptions
from src.masks.bank import MaskBank
from src.masks.paired import MatchedMasks

_SPLITS_OF = {
    TrainerFn.FITTING: ("train", "validation"),
    TrainerFn.VALIDATING: ("validation",),
    TrainerFn.TESTING: ("test",),
}


class InpaintingData(lightning.LightningDataModule):
    """A dataset with masks: random ones for training, and those of a bank for validation and testing.

    Batches have the keys of `Sample`. conf/data/common/base.yaml configures this class; `with_masks` adds the masks.
    """

    def __init__(self, files: DatasetFiles, crops: CropOptions, masks: MaskOptions, loader: LoaderOptions) -> None:
        super().__init__()
        self.files, self.crops, self.masks, self.loader = files, crops, masks, loader

    def with_masks(self, **masks: Any) -> "InpaintingData":
        """Return this data with some fields of `MaskOptions` replaced."""
        return InpaintingData(self.files, self.crops, replace(self.masks, **masks), self.loader)

    def prepare_data(self) -> None:
        """Compare the files of the splits that the Trainer needs, or of all, with their manifest; see `verify`."""
        task = None if self.trainer is None else self.trainer.state.fn
        self.files.verify(self.files.nonempty_splits() if task is None else _SPLITS_OF[task])

    def train_dataloader(self) -> TrainingLoader:
        """Return shuffled samples in full batches; raises InputError if there are too few for one."""
        masks: MaskSource
        if self.masks.paired is not None:
            masks = ImageMasks(self.matched_masks("train"), draw=True)
        elif self.masks.generator is not None:
            masks = RandomMasks(self.masks.generator, self.masks.hole_ratio)
        else:
            raise ValueError("training needs a mask generator: with_masks(generator=...)")
        dataset = self._dataset(
            "train", masks, seed=self.crops.seed, mask_seed=self.masks.seed, reduced_decode=self.crops.reduced_decode
        )
        batch_size = self.loader.batch_size
        loader = TrainingLoader(dataset, seed=self.crops.seed, batch_size=batch_size, workers=self.loader.workers)
        if len(loader) == 0:
            raise InputError(
                f"data={self.files.name} has {len(loader.sampler)} training samples per process, fewer than "
                f"batch_size={batch_size}: lower batch_size or raise data.samples_per_image.train"
            )
        return loader

    def val_dataloader(self) -> SampleLoader:
        """Return every validation crop with masks of every bin of the validation bank, in order."""
        return self._evaluation_loader("validation")

    def test_dataloader(self) -> SampleLoader:
        """Return every test crop with masks of every bin of the test bank, in order."""
        return self._evaluation_loader("test")

    def provenance(self, split: str) -> dict[str, Any]:
        """Return what identifies the crops of "validation" or "test" in results."""
        return {
            **self.files.provenance(split),
            "samples_per_image": self.crops.samples_per_image[split],
            "masks_per_bin": self.masks.per_bin,
            "crop_seed": self.crops.evaluation_seed,
        }

    def images(self, split: str, count: int | None = None) -> Iterator[tuple[str, Tensor, Tensor, list[int]]]:
        """Yield `count` images, or all: file name, a batch of the first crop with one mask of every bin, their indices.

        Shapes:
            image (bins, 3, H, W) in [0, 1]; mask (bins, 1, H, W), 1 = known, 0 = hole.
        """
        dataset, masks = self._evaluation_dataset(split)
        step = self.crops.samples_per_image[split] * masks.per_crop
        available = len(dataset) // step
        displayed = min(count or available, available)
        for number in (i * available // displayed for i in range(displayed)):
            first = number * step
            batch = [dataset[0, first + i] for i in range(0, masks.per_crop, masks.per_bin)]
            image, mask = (torch.stack([sample[key] for sample in batch]) for key in ("image", "mask"))
            yield Path(batch[0]["path"]).name, image, mask, [sample["index"] for sample in batch]

    def _evaluation_loader(self, split: str) -> SampleLoader:
        dataset, _ = self._evaluation_dataset(split)
        sampler = FixedSampler(dataset, self._max_samples(split))
        _, processes = get_rank_and_world_size()
        if sampler.sample_count < processes:  # a rank without samples would deadlock the final gather
            raise InputError(
                f"data={self.files.name} has {sampler.sample_count} {split} samples for {processes} processes: "
                "lower trainer.devices"
            )
        loader = self.loader
        return SampleLoader(dataset, workers=loader.workers, batch_size=loader.eval_batch_size, sampler=sampler)

    def _max_samples(self, split: str) -> int | None:
        """Convert the Trainer's limit, batches of each process, into samples of all processes."""
        if self.trainer is None:
            return None
        limit = self.trainer.limit_test_batches if split == "test" else self.trainer.limit_val_batches
        return limit * self.loader.eval_batch_size if isinstance(limit, int) else None

    def matched_masks(self, split: str) -> MatchedMasks:
        """Return the masks of a split's images, if they have masks of their own."""
        assert self.masks.paired is not None
        return self.masks.paired.match(self.files.directory, self.files.paths(split))

    def _evaluation_dataset(self, split: str) -> tuple[InpaintingDataset, BankMasks | ImageMasks]:
        if self.masks.paired is not None:
            own = ImageMasks(self.matched_masks(split), draw=False)
            return self._dataset(split, own, seed=self.crops.evaluation_seed), own
        bank: MaskBank | None = getattr(self.masks, f"{split}_bank")
        if bank is None:
            raise ValueError(f"{split} needs a mask bank: with_masks({split}_bank=...)")
        masks = BankMasks(bank, self.masks.per_bin)
        return self._dataset(split, masks, seed=self.crops.evaluation_seed), masks

    def _dataset(self, split: str, masks: MaskSource, **options: Any) -> InpaintingDataset:
        return InpaintingDataset(
            self.files.paths(split),
            self.crops.transforms["train" if split == "train" else "evaluation"],
            masks,
            samples_per_image=self.crops.samples_per_image[split],
            cache_bytes=self.loader.cache_mib * 2**20,
            edges=self.crops.edges,
            **options,
        )
