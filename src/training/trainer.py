"""Build Lightning's Trainer from a config; its errors become InputErrors."""

from typing import Any

from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf

from src.common.errors import InputError

_UNSUPPORTED = {
    "gradient_clip_val": (None, "is not supported under manual optimisation: set clip_norm= instead"),
    "accumulate_grad_batches": (1, "is not supported under manual optimisation: set accumulate= instead"),
    "overfit_batches": (
        0.0,
        "is not supported, as Lightning would replace the sampler of a resumable run: set data.root= to a directory "
        "with a few images instead",
    ),
}
"""Arguments of Lightning's Trainer that do not work here: the value for off, and what to do instead."""


def make_trainer(cfg: DictConfig, **objects: Any) -> Trainer:
    """Return the Trainer of a config of conf/trainer; `objects` are callbacks, loggers and plugins.

    Raises:
        InputError: Lightning rejects an argument, the accelerator is unavailable, or several processes are configured
            without a strategy that starts them.
    """
    for key, (off, reason) in _UNSUPPORTED.items():
        if cfg.get(key, off) != off:
            raise InputError(f"trainer.{key}={cfg[key]} {reason}")
    try:
        trainer: Trainer = instantiate(cfg, _partial_=True)(**objects)
    except (MisconfigurationException, ImportError, TypeError, ValueError) as error:
        raise InputError(f"trainer: {error}") from error
    if trainer.world_size > 1 and isinstance(cfg.get("strategy"), str):
        # Lightning's own launcher would run the whole command again for each process, a multirun included.
        raise InputError(
            f"trainer.strategy={cfg['strategy']} starts one process, but {trainer.world_size} are configured: use "
            "trainer=ddp, or trainer=ddp_multinode for several machines, with trainer.devices and trainer.accelerator"
        )
    return trainer


def in_batches(cfg: DictConfig, batches_per_step: int) -> DictConfig:
    """Convert the Trainer's intervals from generator steps, as our options count them, to Lightning's batches."""
    intervals = {
        key: cfg[key] * batches_per_step
        for key in ("log_every_n_steps", "val_check_interval")
        if isinstance(cfg[key], int)  # a fraction of an epoch stays as it is
    }
    return OmegaConf.merge(cfg, intervals)  # type: ignore[return-value]
