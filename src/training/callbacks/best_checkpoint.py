"""The checkpoint of the best validation; each stage of a run starts over."""

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from src.common.errors import InputError
from src.training.module import InpaintingModule

log = logging.getLogger(__name__)


class BestCheckpoint(ModelCheckpoint):
    """Keep the weights of a run's best validation, as Lightning's `ModelCheckpoint`, but start over in every stage.

    Scores of two stages are not comparable: a U-Net on true edges is not the one that is evaluated. So the first
    validation of a stage replaces the checkpoint of the previous stage, and a finished run's best checkpoint belongs to
    its last stage. A validation without the monitored score, such as edge F1 where no hole has an edge, is skipped.

    Args:
        monitor: a validation score; None for the module's own, `InpaintingModule.monitor`.
        arguments: Lightning's.
    """

    def __init__(self, *, monitor: str | None = None, **arguments: Any) -> None:
        super().__init__(monitor=monitor, **arguments)
        self._given_monitor, self._stage = monitor, ""

    @property
    def state_key(self) -> str:
        """Name of this callback's state in a checkpoint: Lightning's contains the monitor, which changes here."""
        return type(self).__qualname__

    def state_dict(self) -> dict[str, Any]:
        """Return Lightning's state and its stage."""
        return super().state_dict() | {"stage": self._stage}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both.

        Raises:
            InputError: a path is not in the state's directory (the file of a worse validation is deleted), or a score
                is not a number.
        """
        paths = [state_dict[name] for name in ("kth_best_model_path", "last_model_path")]
        scores = [state_dict[name] for name in ("best_model_score", "current_score") if state_dict[name] is not None]
        paths, scores = [*paths, *state_dict["best_k_models"]], [*scores, *state_dict["best_k_models"].values()]
        folder, monitor = state_dict["dirpath"], state_dict["monitor"]
        if not all(isinstance(path, str) and (not path or Path(path).parent == Path(folder)) for path in paths):
            raise InputError(f"it names files outside its directory {folder}")
        if not all(isinstance(one, Tensor) and one.numel() == 1 for one in (*scores, state_dict["kth_value"])):
            raise InputError("a score is not a number")
        if not isinstance(monitor, str | None):
            raise InputError("monitor must be the name of a score")
        super().load_state_dict(state_dict)
        self._stage, self.monitor = state_dict["stage"], state_dict["monitor"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start over if the stage has changed since the last validation, then save if this one is the best."""
        assert isinstance(pl_module, InpaintingModule)
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self.monitor = self._given_monitor or pl_module.monitor
            if pl_module.stage_of_last_step != self._stage:
                self._stage = pl_module.stage_of_last_step
                self.best_k_models, self.kth_best_model_path, self.best_model_path = {}, "", ""
                self.best_model_score = self.current_score = None
        super().on_validation_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn if the last stage had no validation, so that the best checkpoint belongs to an earlier stage."""
        assert isinstance(pl_module, InpaintingModule)
        super().on_train_end(trainer, pl_module)
        if self.best_model_path and pl_module.stage_of_last_step != self._stage and trainer.is_global_zero:
            log.warning(
                "%s belongs to the stage %s, as the stage %s had no validation: lower scale.validate_every",
                self.best_model_path, self._stage, pl_module.stage_of_last_step,
            )  # fmt: skip

    def _save_topk_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        if self.monitor in monitor_candidates:
            super()._save_topk_checkpoint(trainer, monitor_candidates)
