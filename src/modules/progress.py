"""The progress bar: Lightning's rich one, in generator steps."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from src.modules.base import ManualTraining


class StepProgressBar(RichProgressBar):
    """Lightning's bar of an epoch's batches, with the generator steps of the whole run beside it."""

    @property
    def total_train_batches(self) -> int | float:
        """Batches of this epoch. Lightning's own takes each of the steps that are left for one batch."""
        trainer = self.trainer
        if trainer.max_steps <= 0:
            return trainer.num_training_batches
        module = trainer.lightning_module
        assert isinstance(module, ManualTraining)
        # Read before an epoch begins, when the index within it is still the last one's, or where a run is resumed.
        within_epoch = (trainer.fit_loop.batch_idx + 1) % trainer.num_training_batches
        done = trainer.fit_loop.total_batch_idx + 1 - within_epoch
        return min(trainer.num_training_batches, trainer.max_steps * module.batches_per_step - done)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What stands at the end of the line; Lightning's bar calls this."""
        limit = f"/{trainer.max_steps}" if trainer.max_steps > 0 else ""
        values = super().get_metrics(trainer, pl_module)
        values.pop("v_num", None)  # a part of the id of W&B's run
        return {"step": f"{trainer.global_step}{limit}", **values}

    def _get_train_description(self, current_epoch: int) -> str:
        # Lightning's own says "Epoch 3/-2" where steps are the limit.
        epochs = self.trainer.max_epochs or -1
        return f"Epoch {current_epoch + 1}{f'/{epochs}' if epochs > 0 else ''}".ljust(len(self.validation_description))
