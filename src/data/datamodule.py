"""The data of a run: files, transforms and masks become the three loaders that Lightning asks for."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import albumentations as A
import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from src.common.distributed import get_rank_and_world_size
from src.common.errors import InputError
from src.data.dataset import BankMasks, DrawnMasks, InpaintingImages
from src.data.files import DatasetFiles
from src.data.loaders import FixedSampler, SampleLoader, TrainingLoader
from src.data.splits import Splits
from src.masks.bank import MaskBank
from src.masks.generators import MaskGenerator
from src.networks.ops.canny import Canny

_SPLITS_OF = {
    TrainerFn.FITTING: ("train", "validation"),
    TrainerFn.VALIDATING: ("validation",),
    TrainerFn.TESTING: ("test",),
}


class InpaintingData(lightning.LightningDataModule):
    """A data set with masks: drawn anew for training, from a bank for validation and test.

    Batches are as `Sample` documents. conf/data/*.yaml fill in all but the masks, which come from conf/mask.

    Args:
        name, root, split, layout, source, manifest: as in `DatasetFiles`.
        verify: how `prepare_data` compares the files with their manifest, if there is one: by "size", by "hash" or, by
            "none", not at all.
        transforms: from photo to the crop that a network sees, by "train" and "evaluation".
        masks: draws the training masks, `hole_ratio` (low, high] of the pixels.
        validation_bank, test_bank: the masks to be evaluated on; of these five, only what is used needs to be given.
        masks_per_bin: how many masks of each of the bank's bins an evaluated picture meets.
        samples_per_image: crops of a photo by split: an epoch has that many of each photo.
        seed: of training: order and crops.
        mask_seed: of training: masks; None for `seed`.
        evaluation_seed: of random crops of evaluated photos; not `seed`, as runs that differ in it share one test.
        cache_mib: keep photos in memory, up to so many MiB in each worker.
        reduced_decode: read the training JPEGs at a half, a quarter or an eighth of their size where their shorter side
            is still at least what the transform resizes it to. Evaluated photos are always read in full.
        edges: batches hold edges, too, found so, for models that learn them; None for none.
    Raises:
        InputError: by the loaders, if files are missing or too few for a batch.
    """

    def __init__(
        self,
        *,
        name: str,
        root: str | Path | None,
        split: Callable[[Path], Splits],
        layout: str,
        source: str,
        transforms: Mapping[str, A.Compose],
        masks: MaskGenerator | None = None,
        hole_ratio: tuple[float, float] = (0.0, 1.0),
        validation_bank: MaskBank | None = None,
        test_bank: MaskBank | None = None,
        masks_per_bin: int = 1,
        samples_per_image: Mapping[str, int],
        batch_size: int,
        eval_batch_size: int,
        workers: int,
        seed: int,
        mask_seed: int | None = None,
        evaluation_seed: int = 0,
        cache_mib: int = 0,
        reduced_decode: bool = False,
        manifest: str | Path | None = None,
        verify: str = "size",
        edges: Canny | None = None,
    ) -> None:
        super().__init__()
        if edges is not None and not isinstance(edges, Canny):
            raise InputError(f"data.edges must be null, or a Canny (src.networks.ops.canny), got {edges!r}")
        self.files = DatasetFiles(name, root, split, layout, source, manifest, verify)
        self.transforms, self.samples_per_image = transforms, samples_per_image
        self.masks, self.hole_ratio = masks, hole_ratio
        self.validation_bank, self.test_bank, self.masks_per_bin = validation_bank, test_bank, masks_per_bin
        self.batch_size, self.eval_batch_size, self.workers = batch_size, eval_batch_size, workers
        self.seed, self.mask_seed, self.evaluation_seed = seed, mask_seed, evaluation_seed
        self.cache_bytes = cache_mib * 2**20
        self.reduced_decode = reduced_decode
        self.edges = edges

    def prepare_data(self) -> None:
        """Compare the files with their manifest; Lightning asks one process a machine.

        Within a Trainer's run, those of the splits that it needs; else of all that have pictures.

        Raises:
            InputError: a picture is missing or not as the manifest has it.
        """
        task = None if self.trainer is None else self.trainer.state.fn
        splits = self.files.nonempty_splits() if task is None else _SPLITS_OF[task]
        self.files.verify(splits)

    def train_dataloader(self) -> TrainingLoader:
        """Shuffled, whole batches only."""
        if self.masks is None:
            raise ValueError("training needs masks=, a mask generator")
        dataset = InpaintingImages(
            self.files.paths("train"),
            self.transforms["train"],
            DrawnMasks(self.masks, self.hole_ratio),
            seed=self.seed,
            mask_seed=self.mask_seed,
            samples_per_image=self.samples_per_image["train"],
            cache_bytes=self.cache_bytes,
            edges=self.edges,
            reduced_decode=self.reduced_decode,
        )
        loader = TrainingLoader(dataset, seed=self.seed, batch_size=self.batch_size, workers=self.workers)
        if len(loader) == 0:
            raise InputError(
                f"data={self.files.name} gives {len(loader.sampler)} training samples to a process, less than"
                f" batch_size={self.batch_size}: lower it, or raise data.samples_per_image.train"
            )
        return loader

    def val_dataloader(self) -> SampleLoader:
        """Every validation picture with masks of every bin of `validation_bank`, in order."""
        return self._evaluation_loader("validation", self.validation_bank)

    def test_dataloader(self) -> SampleLoader:
        """Every test picture with masks of every bin of `test_bank`, in order."""
        return self._evaluation_loader("test", self.test_bank)

    def test_pictures(self, count: int | None = None) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Pictures to show: of each its file's name, and its first crop with the first mask of every bin as a batch.

        Args:
            count: of test pictures, evenly spread; None, or more than there are: all.
        Shapes:
            image (bins, 3, H, W) in [0, 1]; mask (bins, 1, H, W), 1 = known, 0 = hole.
        """
        return self._pictures("test", self.test_bank, count)

    def validation_pictures(self, count: int | None = None) -> Iterator[tuple[str, Tensor, Tensor]]:
        """As `test_pictures`, of those that the run is validated on."""
        return self._pictures("validation", self.validation_bank, count)

    def _pictures(self, split: str, bank: MaskBank | None, count: int | None) -> Iterator[tuple[str, Tensor, Tensor]]:
        dataset, masks = self._evaluation_set(split, bank)
        per_picture = self.samples_per_image[split] * masks.per_picture
        pictures = len(dataset) // per_picture
        shown = min(count or pictures, pictures)
        for picture in (i * pictures // shown for i in range(shown)):
            first = picture * per_picture
            batch = [dataset[0, first + i] for i in range(0, masks.per_picture, masks.per_bin)]
            image, mask = (
                torch.stack([sample["image"] for sample in batch]),
                torch.stack([sample["mask"] for sample in batch]),
            )
            yield Path(batch[0]["path"]).name, image, mask

    def provenance(self, split: str) -> dict[str, Any]:
        """What stands beside a result on "validation" or "test": all that chooses its pixels, but the masks."""
        return {
            **self.files.provenance(split),
            "samples_per_image": self.samples_per_image[split],
            "masks_per_bin": self.masks_per_bin,
            "crop_seed": self.evaluation_seed,
        }

    def _evaluation_loader(self, split: str, bank: MaskBank | None) -> SampleLoader:
        dataset, _ = self._evaluation_set(split, bank)
        sampler = FixedSampler(dataset, self._samples_at_most(split))
        _, processes = get_rank_and_world_size()
        if sampler.sample_count < processes:  # who has none would miss the meeting at the end, and the others wait
            raise InputError(
                f"data={self.files.name} has {sampler.sample_count} {split} samples for {processes} processes: "
                "lower trainer.devices"
            )
        return SampleLoader(dataset, workers=self.workers, batch_size=self.eval_batch_size, sampler=sampler)

    def _samples_at_most(self, split: str) -> int | None:
        """The Trainer's limit if it is a number of batches, which it counts in each process: here it is of all."""
        if self.trainer is None:
            return None
        limit = self.trainer.limit_test_batches if split == "test" else self.trainer.limit_val_batches
        return limit * self.eval_batch_size if isinstance(limit, int) else None

    def _evaluation_set(self, split: str, bank: MaskBank | None) -> tuple[InpaintingImages, BankMasks]:
        if bank is None:
            raise ValueError(f"{split} needs {split}_bank=, a mask bank")
        masks = BankMasks(bank, self.masks_per_bin)
        dataset = InpaintingImages(
            self.files.paths(split),
            self.transforms["evaluation"],
            masks,
            seed=self.evaluation_seed,
            samples_per_image=self.samples_per_image[split],
            cache_bytes=self.cache_bytes,
            edges=self.edges,
        )
        return dataset, masks
