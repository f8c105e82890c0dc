"""Train and test the runs of a reproduction with Hydra's launchers; a rerun command resumes unfinished runs."""

import logging
from collections.abc import Sequence
from pathlib import Path

from hydra import compose

# Launchers require this object, and Hydra has no public name for an empty one.
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.evaluation.scoring import SCALE_KEYS, evaluate
from src.reproduction.planning import table_loggers
from src.reproduction.row_tests import data_for_testing, draw_test_bank, mask_for_testing
from src.reproduction.runs import Run, is_trained, tested_checkpoint
from src.training.resume.checkpoints import latest_checkpoint
from src.training.resume.run_dirs import RunDirInUseError, read_finished, run_dir_lock
from src.training.run import train

log = logging.getLogger(__name__)


def run_all(cfg: DictConfig, runs: Sequence[Run]) -> dict[Run, str]:
    """Train and test all unfinished runs with the chosen launcher.

    Returns:
        The error message of each run that failed.
    Raises:
        InputError: the study's directory holds a run or a mask bank with other settings.
    """
    if others := {run: changed for run in runs if run.is_started and (changed := run.changed_keys)}:
        raise InputError(
            "; ".join(f"{run.directory} holds a run that differs in {', '.join(keys)}" for run, keys in others.items())
            + ": pass study=<another directory>, or remove the old run"
        )
    unfinished = [run for run in runs if not run.records.is_file()]
    log.info("%d runs: %d finished, %d to go", len(runs), len(runs) - len(unfinished), len(unfinished))
    if not unfinished:
        return {}
    for run in {run.bank: run for run in unfinished}.values():
        draw_test_bank(run.config, run.bank)
    for run in unfinished:
        with atomic_write(run.directory / "config.yaml") as temporary:
            OmegaConf.save(OmegaConf.create(run.identity), temporary)
    overrides = [[*run.overrides, "hydra/job_logging=row"] for run in unfinished]
    try:
        errors = [job.return_value for job in _launch(cfg, overrides)]
    except Exception as error:  # of the launcher itself: one of its processes or the cluster's queue was killed
        log.exception("the launcher failed")
        message = " ".join(f"the launcher failed: {type(error).__name__}: {error}".split())
        return {run: message for run in unfinished if not run.records.is_file()}
    return {run: error for run, error in zip(unfinished, errors, strict=True) if error is not None}


def run_row(cfg: DictConfig) -> str | None:
    """Train and test one row with one seed, as a job of Hydra's launchers.

    Returns:
        The error as a single line, or None on success. The traceback is in the run's log.txt.
    """
    directory = Path(cfg.output_dir)
    try:
        # A launcher's processes may outlive the command that started them, and the command may be rerun meanwhile.
        with run_dir_lock(directory):
            if is_trained(cfg):
                _train(cfg, directory)
            _test(cfg, directory)
    except RunDirInUseError as error:
        return str(error)
    except Exception as error:  # any error: the other rows continue, and the report shows it
        log.exception("%s, seed %d failed", cfg.row, cfg.seed)
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def _train(cfg: DictConfig, directory: Path) -> None:
    """Train to the last step, from the latest checkpoint if there is one."""
    if read_finished(directory) is not None:
        return
    action = "training" if latest_checkpoint(directory) is None else "resuming training"
    log.info("%s, seed %d: %s", cfg.row, cfg.seed, action)
    with open_dict(cfg):
        cfg.resume = "auto"
    train(cfg)


def _test(cfg: DictConfig, directory: Path) -> None:
    log.info("%s, seed %d: testing", cfg.row, cfg.seed)
    scoring, checkpoint = compose("evaluate"), tested_checkpoint(cfg, directory)
    scoring.ckpt, scoring.output_dir = None if checkpoint is None else str(checkpoint), str(directory)
    scoring.bank, scoring.test_size = str(directory.parents[1] / "bank.npz"), cfg.test_size
    scoring.data = OmegaConf.to_container(data_for_testing(cfg), resolve=True)
    scoring.trainer.accelerator = cfg.trainer.accelerator
    with open_dict(scoring):
        if checkpoint is None:  # a method without weights
            scoring.model = OmegaConf.to_container(cfg.model, resolve=True)
        scoring.mask = OmegaConf.to_container(mask_for_testing(cfg), resolve=True)  # as the bank was drawn
        scoring.logger = table_loggers(cfg)
        # The scale of the test, whatever a given checkpoint was trained at.
        scoring.scale = {**{key: cfg.scale[key] for key in SCALE_KEYS}, "test_batches": 1.0}
    evaluate(scoring)


def _launch(cfg: DictConfig, overrides: Sequence[Sequence[str]]) -> Sequence[JobReturn]:
    """Call `run_row` for each list of overrides with the launcher of ``hydra/launcher``."""
    launched = cfg.copy()
    with open_dict(launched):
        launched.hydra = HydraConfig.get()
    launcher = Plugins.instance().instantiate_launcher(
        HydraContext(GlobalHydra.instance().config_loader(), Callbacks()), task_function=run_row, config=launched
    )
    return launcher.launch(overrides, initial_job_idx=0)
