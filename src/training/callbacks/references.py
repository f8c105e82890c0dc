"""Compare each validation with methods that do not learn, on the same samples and masks."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from src.common.errors import InputError
from src.data.dataset import InpaintingDataset
from src.data.loaders import FixedSampler, SampleLoader
from src.metrics.binned import BinnedMean, hole_ratio
from src.metrics.scores import PSNR
from src.networks.interface import InpaintingNetwork, composite
from src.training.module import Batch, InpaintingModule


class ValidationReferences(Callback):
    """Log `val/psnr_over_<method>`: the network's PSNR less a reference's, in dB, over all holes and by hole ratio.

    mean over the compared samples of PSNR(network's composite) - PSNR(method's composite)

    The references' scores are computed in the first validation and kept for the later ones. Biharmonic interpolation
    is slow, so only about `samples` samples are compared: all masks of images spread evenly over the validation set.
    `val/psnr` includes all samples, so do not compare it with scores of this subset. No random numbers are drawn. Each
    process compares its own samples.

    Args:
        methods: reference methods by name; None turns one off.
        samples: number of samples compared; None for all.
    Raises:
        InputError: `samples` is not an integer >= 1.
    """

    def __init__(self, methods: Mapping[str, InpaintingNetwork | None], samples: int | None) -> None:
        if samples is not None and (type(samples) is not int or samples < 1):
            raise InputError(f"callbacks.references.samples must be an integer >= 1, or null for all, got {samples!r}")
        self.methods = {name: method for name, method in methods.items() if method is not None}
        self.samples = samples
        self._differences = {name: BinnedMean() for name in self.methods}
        self._psnr: dict[str, dict[int, float]] = {name: {} for name in self.methods}

    def on_validation_start(self, trainer: Trainer, pl_module: InpaintingModule) -> None:  # type: ignore[override]
        """Choose the samples."""
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

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Compare the batch's chosen samples."""
        rows = [row for row, index in enumerate(batch["index"].tolist()) if index in self._chosen]
        image, mask, indices = batch["image"][rows], batch["mask"][rows], batch["index"][rows].tolist()
        ours, ratios = pl_module.sample_scores["psnr"][rows], hole_ratio(batch["mask"])[rows]
        for name, method in self.methods.items():
            known = self._psnr[name]
            if unknown := [i for i, index in enumerate(indices) if index not in known]:
                scores = reference_psnr(method, image[unknown], mask[unknown])
                known |= dict(zip([indices[i] for i in unknown], scores.tolist(), strict=True))
            theirs = ours.new_tensor([known[index] for index in indices])
            self._differences[name].update(ours - theirs, ratios)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: InpaintingModule) -> None:  # type: ignore[override]
        """Log the means."""
        for name, difference in self._differences.items():
            pl_module.log_means(f"psnr_over_{name}", difference)


def choose_samples(total: int, per_image: int, count: int | None) -> frozenset[int]:
    """Return indices of about `count` (None: all) of the first `total` samples: all those of evenly spread images.

    The `per_image` samples of an image are consecutive.
    """
    images = -(-total // per_image)
    chosen = images if count is None else min(images, -(-count // per_image))
    first = [i * images // chosen * per_image for i in range(chosen)]
    return frozenset(index for start in first for index in range(start, min(start + per_image, total)))


@torch.no_grad()
def reference_psnr(method: InpaintingNetwork, image: Tensor, mask: Tensor) -> Tensor:
    """Return the PSNR of a method's composites in dB, (B,)."""
    return PSNR(composite(image, mask, method(image, mask)), image, mask)
