"""Making Lightning's Trainer from a configuration, with its complaints as sentences."""

from typing import Any

from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from omegaconf import DictConfig

from src.errors import InputError


def make_trainer(cfg: DictConfig, **objects: Any) -> Trainer:
    """The Trainer of `cfg`, a node of conf/trainer, and what a configuration can't hold: callbacks, loggers.

    Raises:
        InputError: Lightning refuses an argument, or has no such accelerator here.
    """
    try:
        trainer: Trainer = instantiate(cfg, _partial_=True)(**objects)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise InputError(f"trainer: {error}") from error
    return trainer
