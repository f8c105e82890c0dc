"""The moving average of all weights: Lightning's, ending after the last checkpoint."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging


class MovingAverage(EMAWeightAveraging):
    """At the end the average takes the weights' place, but only once all is saved.

    Lightning's own does so before the last checkpoint is written, which would then hold the average alone: a run that
    goes on from there, with more steps, would not be the run of that length.
    """

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait: a checkpoint of this moment holds the weights and their average."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the weights' place."""
        super().on_train_end(trainer, pl_module)
