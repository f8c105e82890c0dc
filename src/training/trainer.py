"""Making Lightning's Trainer from a configuration, with its complaints as sentences."""

from typing import Any

from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from omegaconf import DictConfig

from src.common.errors import InputError


def make_trainer(cfg: DictConfig, **objects: Any) -> Trainer:
    """The Trainer of `cfg`, a node of conf/trainer, and what a configuration can't hold: callbacks, loggers.

    Raises:
        InputError: Lightning refuses an argument, has no such accelerator here, or would start further processes by
            itself.
    """
    try:
        trainer: Trainer = instantiate(cfg, _partial_=True)(**objects)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise InputError(f"trainer: {error}") from error
    if trainer.world_size > 1 and isinstance(cfg.get("strategy"), str):
        # By name, Lightning's own launcher would type the command again for each: of a multirun, all of it.
        raise InputError(
            f"trainer.strategy={cfg['strategy']} is for one process, and {trainer.world_size} are asked for: give "
            "trainer=ddp, or trainer=ddp_multinode for several machines, beside trainer.devices and trainer.accelerator"
        )
    return trainer
