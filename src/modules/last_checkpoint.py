"""A checkpoint of where the run stands, the last step included."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """`last.ckpt`, written after every validation and after the last step of the run.

    Lightning's own writes after validations only: where they come every hundred batches, a run of 650 steps would end
    with the weights of step 600 on disk, and a run of 50 with none.
    """

    def __init__(self, dirpath: str) -> None:
        super().__init__(dirpath, filename="last", enable_version_counter=False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if no step is to come."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        last_epoch = trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.global_step == trainer.max_steps or (last_epoch and trainer.is_last_batch):
            trainer.save_checkpoint(f"{self.dirpath}/last.ckpt")
