"""Images of the same validation samples after every validation: results and the network's maps."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image
from torch import Tensor

from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.data.datamodule import InpaintingData
from src.loggers.setup import log_images
from src.networks.interface import composite
from src.rendering.grids import batch_grid, draw_grid, hatch_hole
from src.rendering.network_figures import draw_internals
from src.training.module import Batch


class SampleImages(Callback):
    """Write `folder`/step_<generator step>.png and `folder`/<maps>/step_..., and log both to TensorBoard and W&B.

    Maps are drawn by `draw_internals`: updated masks, attention maps, edges, stages. Loggers get them as `maps/<name>`
    and the results as `samples`.

    Args:
        count: number of samples: images evenly spread over the validation set, each with a mask of the next bin.
        maps: number of these samples whose maps are drawn too; 0 for none.
    Raises:
        InputError: `count` is not an integer >= 1 or `maps` not an integer >= 0.
    """

    def __init__(self, folder: str, count: int, maps: int) -> None:
        for name, number, least in (("count", count, 1), ("maps", maps, 0)):
            if type(number) is not int or number < least:
                raise InputError(f"callbacks.sample_images.{name} must be an integer >= {least}, got {number!r}")
        self.folder, self.count, self.maps = Path(folder), count, maps
        self._shown: tuple[Tensor, Tensor] | None = None

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Draw once per validation; a moving average of the weights is active here."""
        if batch_idx > 0 or trainer.sanity_checking or not trainer.is_global_zero:
            return
        if self._shown is None:
            self._shown = self._samples(trainer.datamodule)  # type: ignore[attr-defined]  # Lightning sets it
        image, mask = (shown.to(pl_module.device) for shown in self._shown)
        with torch.no_grad():
            output = pl_module(image, mask)
        columns = {
            "input": hatch_hole(image, mask),
            "prediction": output.prediction,
            "composite": composite(image, mask, output),
            "truth": image,
        }
        figures = {"samples": batch_grid({name: shown.float().cpu() for name, shown in columns.items()})}
        if self.maps:
            internals = draw_internals(pl_module.network, image[: self.maps], mask[: self.maps])
            figures |= {f"maps/{name}": np.asarray(draw_grid(grid)) for name, grid in internals.items()}
        file = f"step_{trainer.global_step:07d}.png"
        for name, pixels in figures.items():
            with atomic_write(self.folder / name.partition("/")[2] / file) as unfinished:
                Image.fromarray(pixels).save(unfinished, format="PNG")
        log_images(trainer.loggers, figures, trainer.global_step)

    def _samples(self, data: InpaintingData) -> tuple[Tensor, Tensor]:
        """Return images and masks; with fewer images than samples, images repeat with masks of other bins."""
        images = [(image, mask) for _, image, mask, _ in data.images("validation", self.count)]
        chosen = [(*images[i % len(images)], i % len(images[0][1])) for i in range(self.count)]
        shown, masks = zip(*((image[i], mask[i]) for image, mask, i in chosen), strict=True)
        return torch.stack(shown), torch.stack(masks)
