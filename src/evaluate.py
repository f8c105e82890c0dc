"""Score a method on one frozen bank of test masks: `python -m src.evaluate ckpt=outputs/.../best.ckpt data=places`."""

import logging
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
from hydra.utils import instantiate
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from src.data.mask_bank import MaskBank
from src.errors import InputError, reports_input_errors
from src.metrics.lpips import lpips_score
from src.metrics.scores import Score
from src.modules.base import InpaintingModule
from src.modules.checkpoint import load_checkpoint
from src.pretrained import MissingWeightsError
from src.reporting.provenance import Provenance
from src.reporting.records import write_records

log = logging.getLogger(__name__)


def evaluate(cfg: DictConfig) -> Path:
    """Score as conf/evaluate.yaml composes; write `records.parquet` and the bank beside it.

    Returns:
        The path of the records.

    Raises:
        InputError: neither or both of ckpt and model are given, or a file of them, the data or the bank is wrong.
    """
    started = datetime.now(timezone.utc)
    if (cfg.ckpt is None) == ("model" not in cfg):
        raise InputError("give ckpt=<a checkpoint of src.train>, or model=<a method without weights>, and not both")
    if cfg.ckpt is None:
        name, network = cfg.model.name, instantiate(cfg.model.network)
    else:
        checkpoint = load_checkpoint(cfg.ckpt)
        name, network = checkpoint.config["model"]["name"], checkpoint.network
