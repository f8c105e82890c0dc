"""Compare each validation with methods that do not learn, on the same samples and masks."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.data.datamodule import InpaintingData
from src.data.dataset import InpaintingDataset
from src.data.loaders import FixedSampler, SampleLoader
from src.metrics.binned import BinnedMean, hole_ratio
from src.metrics.scores import PSNR
from src.networks.interface import InpaintingNetwork, composite
from src.training.module import Batch, InpaintingModule


class ValidationReferences(Callback):
    """Log `val/psnr_over_<method>`: the network's PSNR less a reference's, in dB, over all holes and by hole ratio.

    mean over the compared samples of PSNR(network's composite) - PSNR(method's composite)

    References do not change during a run, so their scores are computed in the first validation only and stored in
    `path`, where a resumed run finds them. Biharmonic interpolation is slow, so only about `samples` samples are
    compared: all masks of images spread evenly over the validation set. `val/psnr` includes all samples, so do not
    compare it with scores of this subset. No random numbers are drawn. Each process compares its own samples.

    Args:
        methods: reference methods by name; None turns one off.
        samples: number of samples compared; None for all.
        path: file with the references' PSNR per sample.
    Raises:
        InputError: `samples` is not an integer >= 1.
    """

    def __init__(self, methods: Mapping[str, InpaintingNetwork | None], samples: int | None, path: str) -> None:
        if samples is not None and (type(samples) is not int or samples < 1):
            raise InputError(f"callbacks.references.samples must be an integer >= 1, or null for all, got {samples!r}")
        self.methods = {name: method for name, method in methods.items() if method is not None}
        self.samples, self.path = samples, Path(path)
        self._differences = {name: BinnedMean() for name in self.methods}
        self._psnr: dict[str, dict[int, float]] = {name: {} for name in self.methods}
        self._key = ""
        self._is_stored = False

    def on_validation_start(self, trainer: Trainer, pl_module: InpaintingModule) -> None:  # type: ignore[override]
        """Choose the samples, and read the scores that an interrupted run has stored."""
        loader, batches = trainer.val_dataloaders, int(min(trainer.num_val_batches))
        assert isinstance(loader, SampleLoader)
        assert isinstance(loader.sampler, FixedSampler)
        assert isinstance(loader.dataset, InpaintingDataset)
        assert loader.batch_size is not None
        limit = batches * loader.batch_size * trainer.world_size
        self._chosen = choose_samples(
            min(loader.sampler.sample_count, limit), loader.dataset.masks.per_crop, self.samples
        )
        for difference in self._differences.values():
            difference.to(pl_module.device)
        if not self._key:
            self._key = self._hash_inputs(trainer.datamodule, pl_module)  # type: ignore[attr-defined]  # Lightning's
            self._read()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: InpaintingModule,  # type: ignore[override]
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Compare the batch's chosen samples."""
        rows = [row for row, index in enumerate(batch["index"].tolist()) if index in self._chosen]
        image, mask, indices = batch["image"][rows], batch["mask"][rows], batch["index"][rows].tolist()
        ours, shares = pl_module.sample_scores["psnr"][rows], hole_ratio(batch["mask"])[rows]
        for name, method in self.methods.items():
            known = self._psnr[name]
            if unknown := [i for i, index in enumerate(indices) if index not in known]:
                scores = reference_psnr(method, image[unknown], mask[unknown])
                known |= dict(zip([indices[i] for i in unknown], scores.tolist(), strict=True))
                self._is_stored = False
            theirs = ours.new_tensor([known[index] for index in indices])
            self._differences[name].update(ours - theirs, shares)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: InpaintingModule) -> None:  # type: ignore[override]
        """Log the means; after the first validation also store the references' scores."""
        for name, difference in self._differences.items():
            pl_module.log_means(f"psnr_over_{name}", difference)
        self._write(trainer)

    def _hash_inputs(self, data: InpaintingData, module: InpaintingModule) -> str:
        """Return a hash of everything that a reference's score depends on: images, crops, masks and methods."""
        assert data.masks.validation_bank is not None
        config = module.run_config
        facts = {
            "data": data.provenance("validation"),
            "transform": ((config.get("data") or {}).get("transforms") or {}).get("evaluation"),
            "masks": data.masks.validation_bank.hash,
            "methods": ((config.get("callbacks") or {}).get("references") or {}).get("methods"),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _read(self) -> None:
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            if stored["key"] == self._key:
                by_method = stored["psnr"]
                self._psnr = {name: {int(i): v for i, v in by_method[name].items()} for name in self.methods}
                self._is_stored = True
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._is_stored = False  # the file is missing or corrupt: compute the scores again

    def _write(self, trainer: Trainer) -> None:
        if trainer.strategy.reduce_boolean_decision(self._is_stored, all=True):
            return
        gathered = [self._psnr] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(gathered, self._psnr)
        self._is_stored = True
        if trainer.is_global_zero:
            psnr = {
                name: dict(sorted((index, value) for one in gathered for index, value in one[name].items()))
                for name in self.methods
            }
            with atomic_write(self.path) as temporary:
                temporary.write_text(json.dumps({"key": self._key, "psnr": psnr}), encoding="utf-8")


def choose_samples(total: int, per_image: int, count: int | None) -> frozenset[int]:
    """Return indices of about `count` of the first `total` samples: all samples of evenly spread images.

    Args:
        per_image: number of samples per image; they are consecutive.
        count: None for all samples.
    """
    images = -(-total // per_image)
    chosen = images if count is None else min(images, -(-count // per_image))
    first = [i * images // chosen * per_image for i in range(chosen)]
    return frozenset(index for start in first for index in range(start, min(start + per_image, total)))


@torch.no_grad()
def reference_psnr(method: InpaintingNetwork, image: Tensor, mask: Tensor) -> Tensor:
    """Return the PSNR of a method's composites in dB, (B,)."""
    return PSNR(composite(image, mask, method(image, mask)), image, mask)
