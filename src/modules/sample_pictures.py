"""Pictures of the same validation samples after every validation: input, prediction, composite, truth."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image

from src.files import written_whole
from src.modules.base import Batch, InpaintingModule
from src.networks.interface import composite
from src.reporting.pictures import hatch_hole, picture_grid


class SamplePictures(Callback):
    """Write `folder`/step_<generator step>.png and hand the same grid to TensorBoard and W&B.

    Args:
        count: samples shown, the first of the first validation batch.
    """

    def __init__(self, folder: str, count: int) -> None:
        self.folder, self.count = Path(folder), count

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: InpaintingModule,  # type: ignore[override]  # only modules of this suite hold an inpainting network
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw once a validation; the moving average is in place here, where there is one."""
        if batch_idx > 0 or trainer.sanity_checking or not trainer.is_global_zero:
            return
        image, mask = batch["image"][: self.count], batch["mask"][: self.count]
        with torch.no_grad():
            output = pl_module(image, mask)
        columns = {
            "input": hatch_hole(image, mask),
            "prediction": output.prediction,
            "composite": composite(image, mask, output),
            "truth": image,
        }
        grid = picture_grid({name: pictures.float().cpu() for name, pictures in columns.items()})
        step = trainer.global_step
        with written_whole(self.folder / f"step_{step:07d}.png") as unfinished:
            Image.fromarray(grid).save(unfinished, format="PNG")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("samples", grid, step, dataformats="HWC")
            elif isinstance(logger, WandbLogger):
                logger.log_image("samples", [grid], step=step)
