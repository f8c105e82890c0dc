"""The loggers of a command: made from its configuration, told whose they are, and closed as it ends."""

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
"""Keys of a checkpoint: rows that metrics.csv had by then, and W&B."""


def make_loggers(
    cfg: DictConfig,
    job_type: str,
    named: Sequence[str],
    *,
    goes_on: bool = False,
    checkpoint: Mapping[str, Any] | None = None,
) -> list[Logger]:
    """Those of `cfg.logger`; an entry may be null.

    Args:
        job_type: train, evaluate or reproduce.
        named: what it works on, such as model, data and scale.
        goes_on: whether a run of the same command was interrupted in the folder, be there a checkpoint of it or not.
        checkpoint: of that run; each logger leaves out what was logged behind it.
    """
    told: dict[str, dict[str, Any]] = {
        "src.loggers.wandb.WandbLog": {"job_type": job_type, "goes_on": goes_on, **_of_the_job(cfg, named)}
    }
    if checkpoint is not None:
        told["src.loggers.csv.CSVLog"] = {"rows_kept": checkpoint.get(LOGGED_ROWS, 0)}
        told["lightning.pytorch.loggers.TensorBoardLogger"] = {"purge_step": checkpoint["global_step"] + 1}
        told["src.loggers.wandb.WandbLog"]["rows_logged"] = checkpoint.get(WANDB_ROWS)
    chosen = (cfg.get("logger") or {}).values()  # logger=[] leaves none
    return [instantiate(one, **told.get(one._target_, {})) for one in chosen if one is not None]


def _of_the_job(cfg: DictConfig, named: Sequence[str]) -> dict[str, Any]:
    """How W&B's run is called, with what it is grouped, and its tags: of a row of experiments/ its table and name."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    row = None if hydra is None else hydra.runtime.choices.get("experiments")
    table, _, name = (row or "").rpartition("/")
    seed = f", seed {cfg.seed}" if "seed" in cfg else ""
    swept = hydra is not None and hydra.mode == RunMode.MULTIRUN
    return {
        "job_name": f"{row or '-'.join(named)}{seed}{f', {hydra.sweep.subdir}' if hydra is not None and swept else ''}",
        "job_group": str(hydra.sweep.dir) if hydra is not None and swept else None,
        "job_tags": [tag[:LONGEST_TAG] for tag in (*named, table, name) if tag],
    }


@contextmanager
def closing(loggers: Sequence[Logger]) -> Iterator[None]:
    """End the W&B runs among them with the block, and as it ends: well, by an error, or asked to by a signal."""
    code = 1
    try:
        yield
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        raise
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLog):
                logger.close(code)


def keep_trained(loggers: Sequence[Logger], checkpoints: Path, best: Mapping[str, float | None]) -> None:
    """Give W&B a finished training's best validation, as `finish` noted it, and the checkpoints in a folder."""
    for logger in loggers:
        if isinstance(logger, WandbLog):
            logger.summarise(best)
            logger.keep_checkpoints(checkpoints)


def keep_files(loggers: Sequence[Logger], kind: str, files: Mapping[str, Path]) -> None:
    """Give W&B files that hold more than a table shows, as an artifact `<kind>-<run id>`."""
    for logger in loggers:
        if isinstance(logger, WandbLog):
            logger.keep_files(kind, files)


def saved(loggers: Sequence[Logger]) -> dict[str, int]:
    """Have all files written that hold what was logged, and say for a checkpoint how far the logs are that count."""
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


def log_pictures(loggers: Sequence[Logger], pictures: Mapping[str, RGB], step: int) -> None:
    """Show pictures, by name, to the loggers that can show them."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            for name, pixels in pictures.items():
                logger.experiment.add_image(name, pixels, step, dataformats="HWC")
        elif isinstance(logger, WandbLog):
            logger.log_pictures(pictures, step)


def log_results(
    loggers: Sequence[Logger], means: Mapping[str, float], table: TextTable, frame: pd.DataFrame, step: int
) -> None:
    """Log a test: its means as `test/<name>`, and its table.

    Args:
        table: what TensorBoard shows, as text.
        frame: what W&B shows, as a table.
    """
    for logger in loggers:
        logger.log_metrics({f"test/{name}": mean for name, mean in means.items()}, step)
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text("results", table.to_markdown(), step)
            logger.experiment.flush()
        log_frame(logger, "results", frame, step)
        logger.save()


def log_frame(logger: Logger, name: str, frame: pd.DataFrame, step: int | None = None) -> None:
    """Log a table to W&B; other loggers have none."""
    if isinstance(logger, WandbLog):
        logger.log_frame(name, frame, step)
