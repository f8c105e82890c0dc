"""The loggers of a command: created from its config, used together, and closed when it ends."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from omegaconf import DictConfig

from src.loggers.csv import CSVLog
from src.loggers.wandb import LONGEST_TAG, WandbLog
from src.rendering.grids import RGB
from src.rendering.text_table import TextTable

LOGGED_ROWS, WANDB_ROWS = "logged_rows", "wandb_rows"
"""Checkpoint keys: numbers of rows logged so far to metrics.csv and to W&B."""


def make_loggers(
    cfg: DictConfig,
    job_type: str,
    labels: Sequence[str],
    *,
    resumed: bool = False,
    checkpoint: Mapping[str, Any] | None = None,
) -> list[Logger]:
    """Return the loggers of `cfg.logger`, whose entries may be null.

    Args:
        job_type: train, evaluate or reproduce.
        labels: what the job works on, such as model, data and scale; they name and tag its W&B run.
        resumed: whether the same command was interrupted in this output directory, with or without a checkpoint.
        checkpoint: the one that is resumed; each logger drops what was logged after it.
    """
    arguments: dict[str, dict[str, Any]] = {
        "src.loggers.wandb.WandbLog": {"job_type": job_type, "resumed": resumed, **_wandb_labels(cfg, labels)}
    }
    if checkpoint is not None:
        arguments["src.loggers.csv.CSVLog"] = {"keep_rows": checkpoint.get(LOGGED_ROWS, 0)}
        arguments["lightning.pytorch.loggers.TensorBoardLogger"] = {"purge_step": checkpoint["global_step"] + 1}
        arguments["src.loggers.wandb.WandbLog"]["rows_logged"] = checkpoint.get(WANDB_ROWS)
    entries = (cfg.get("logger") or {}).values()  # empty with logger=[]
    return [instantiate(entry, **arguments.get(entry._target_, {})) for entry in entries if entry is not None]


def _wandb_labels(cfg: DictConfig, labels: Sequence[str]) -> dict[str, Any]:
    """Return name, group and tags of the W&B run; for a row of experiments/ with its table and name."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    row = None if hydra is None else hydra.runtime.choices.get("experiments")
    table, _, name = (row or "").rpartition("/")
    seed = f", seed {cfg.seed}" if "seed" in cfg else ""
    sweep = hydra.sweep if hydra is not None and hydra.mode == RunMode.MULTIRUN else None
    return {
        "job_name": f"{row or '-'.join(labels)}{seed}{f', {sweep.subdir}' if sweep is not None else ''}",
        "job_group": str(sweep.dir) if sweep is not None else None,
        "job_tags": [tag[:LONGEST_TAG] for tag in (*labels, table, name) if tag],
    }


@contextmanager
def closing(loggers: Sequence[Logger]) -> Iterator[None]:
    """Close the W&B runs when the block ends, with its exit code: 0, 1 after an exception, or that of SystemExit."""
    exit_code = 1
    try:
        yield
        exit_code = 0
    except SystemExit as error:
        exit_code = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    finally:
        for logger in _wandb_logs(loggers):
            logger.close(exit_code)


def log_training_result(loggers: Sequence[Logger], checkpoints: Path, best: Mapping[str, float | None]) -> None:
    """Log the best validation scores of a finished run and the checkpoints in a directory to W&B."""
    for logger in _wandb_logs(loggers):
        logger.update_summary(best)
        logger.log_checkpoints(checkpoints)


def log_artifact(loggers: Sequence[Logger], kind: str, files: Mapping[str, Path]) -> None:
    """Log files to W&B as an artifact named `<kind>-<run id>`; other loggers ignore them."""
    for logger in _wandb_logs(loggers):
        logger.log_artifact(kind, files)


def save_logs(loggers: Sequence[Logger]) -> dict[str, int]:
    """Flush the logs to disk, and return the row counts that a checkpoint stores."""
    rows = {}
    for logger in loggers:
        if isinstance(logger, CSVLog):
            logger.save()
            rows[LOGGED_ROWS] = logger.rows
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.flush()
        elif isinstance(logger, WandbLog):
            rows[WANDB_ROWS] = logger.rows
    return rows


def log_images(loggers: Sequence[Logger], images: Mapping[str, RGB], step: int) -> None:
    """Log images by name to TensorBoard and W&B."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            for name, pixels in images.items():
                logger.experiment.add_image(name, pixels, step, dataformats="HWC")
        elif isinstance(logger, WandbLog):
            logger.log_images(images, step)


def log_results(
    loggers: Sequence[Logger], means: Mapping[str, float], table: TextTable, frame: pd.DataFrame, step: int
) -> None:
    """Log an evaluation: the means as `test/<name>`, the table as Markdown to TensorBoard, and as a frame to W&B."""
    for logger in loggers:
        logger.log_metrics({f"test/{name}": mean for name, mean in means.items()}, step)
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text("results", table.to_markdown(), step)
            logger.experiment.flush()
        log_frame(logger, "results", frame, step)
        logger.save()


def _wandb_logs(loggers: Sequence[Logger]) -> list[WandbLog]:
    return [logger for logger in loggers if isinstance(logger, WandbLog)]


def log_frame(logger: Logger, name: str, frame: pd.DataFrame, step: int | None = None) -> None:
    """Log a data frame to W&B as a table; other loggers ignore it."""
    if isinstance(logger, WandbLog):
        logger.log_frame(name, frame, step)
