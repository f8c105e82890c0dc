"""Hydra callback that lets an interrupted command resume in the directory that it started."""

import os
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from src.common.atomic_files import atomic_write
from src.common.run_dir import create_unused_dir, is_overridden, set_dir
from src.training.resume.run_dirs import COMMAND, find_unfinished_multirun, find_unfinished_run, mark_multirun_finished


class ResumeInterruptedRun(Callback):
    """Choose the directory of an unfinished run with the same identity, or else leave Hydra's new one.

    A directory is unfinished if it has no `FINISHED` and no process holds its lock. Hydra calls this before it creates
    a directory; see conf/train.yaml.
    """

    def __init__(self) -> None:
        self._lock: FileLock | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_lock": None}  # joblib and submitit pickle callbacks; the lock stays in this process

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Set hydra.run.dir to output_dir, if that is overridden, or to the directory of the unfinished run."""
        # The further processes of a DDP run get their directory, and save no copy of the configuration.
        if config.hydra.output_subdir is None or is_overridden(config, "hydra.run.dir"):
            return
        new = Path(config.hydra.run.dir)
        if not OmegaConf.is_interpolation(config, "output_dir"):
            if config.output_dir is None or OmegaConf.is_config(config.output_dir):
                # before Hydra creates a directory of that name
                sys.exit(f"error: output_dir must be a directory, got {config.output_dir!r}")
            set_dir(config, "run", Path(str(config.output_dir)))
        elif "SLURM_STEP_ID" in os.environ:  # every srun task calls this, and a requeued job keeps its number
            set_dir(config, "run", new.parent / f"slurm_{os.environ['SLURM_JOB_ID']}_{os.environ['SLURM_STEP_ID']}")
        elif config.resume is not None:
            set_dir(config, "run", find_unfinished_run(new.parent, config) or create_unused_dir(new))
        else:
            set_dir(config, "run", create_unused_dir(new))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Set hydra.sweep.dir to the directory of the unfinished multirun with the same command, and lock it."""
        sweeper = config.hydra.sweeper
        task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        command = "".join(OmegaConf.to_yaml(part) for part in (config.hydra.overrides.task, sweeper, task))
        sweep_dir = Path(config.hydra.sweep.dir)
        if not is_overridden(config, "hydra.sweep.dir"):
            unfinished = None
            if config.resume is not None and is_deterministic_sweep(sweeper):
                unfinished = find_unfinished_multirun(sweep_dir.parent, command)
            sweep_dir = unfinished or create_unused_dir(sweep_dir)
            set_dir(config, "sweep", sweep_dir)
        self._lock = FileLock(sweep_dir / "lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:  # sys.exit, as Hydra turns an exception into a warning
            sys.exit(
                f"error: another process is running in {sweep_dir}: wait until it ends, or use another directory "
                "(hydra.sweep.dir=)"
            )
        with atomic_write(sweep_dir / COMMAND) as temporary:
            temporary.write_text(command, encoding="utf-8")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Mark the multirun as finished, so that the same command starts a new one."""
        mark_multirun_finished(Path(config.hydra.sweep.dir))


def is_deterministic_sweep(sweeper: DictConfig) -> bool:
    """Return whether the sweep proposes the same runs again: Optuna's if it is seeded and stores no trials."""
    sampler = sweeper.get("sampler")
    return sampler is None or (sampler.get("seed") is not None and sweeper.get("storage") is None)
