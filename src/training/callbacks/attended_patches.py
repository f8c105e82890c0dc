"""Log the sharpness of a network's attention at validation."""

from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from src.data.loaders import SampleLoader
from src.networks.interface import InpaintingNetwork
from src.networks.layers.effective_patches import effective_patches_in_hole
from src.training.module import Batch, InpaintingModule


class AttendedPatches(Callback):
    """Log `val/<map>/attended_patches`, the mean effective number of patches that a cell in the hole attends to.

    Near 1 the attention copies a patch; near the number of all patches it averages the whole image. It is measured on
    the samples of the first validation batch, with one more forward pass, for networks with `attention_weights`. Each
    of several processes measures a part of those samples.
    """

    def __init__(self) -> None:
        self._means: dict[str, torch.Tensor] = {}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Measure the first batch."""
        network = pl_module.network
        if batch_idx > 0 or type(network).attention_weights is InpaintingNetwork.attention_weights:
            return
        loader = trainer.val_dataloaders
        assert isinstance(loader, SampleLoader)
        with torch.no_grad():
            maps = network(batch["image"], batch["mask"], maps=True).maps
        for name, shares in network.attention_weights(maps).items():
            counts = effective_patches_in_hole(shares, batch["mask"])[batch["index"] < loader.batch_size]
            counts = counts[counts.isfinite()]  # a sample without a hole has none
            total = trainer.strategy.reduce(
                torch.stack([counts.sum(), counts.new_tensor(len(counts))]), reduce_op="sum"
            )
            self._means[name] = total[0] / total[1]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: InpaintingModule) -> None:  # type: ignore[override]
        """Log the means."""
        for name, mean in self._means.items():
            pl_module.log_by_step({f"val/{name}/attended_patches": mean})
        self._means = {}
