"""Going on: in which folder a command runs that may be one that was interrupted, and from which checkpoint."""

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from src.checkpoints.reading import read_checkpoint
from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.training.callbacks.last_checkpoint import BEFORE_LAST, LAST

BEST = ("best_val_psnr", "best_val_edge_f1")
"""What `finish` notes of the best validation: PSNR in dB, of the composite; or, where MECNet is trained alone, F1."""

FINISHED = "finished.json"
"""In the folder of a run or a multirun that came to its end; of a run with its best validation PSNR."""

_FAILED = "failed.txt"  # of a run that ended its part of a multirun with a sentence
_COMMAND = "command.yaml"  # what the run or multirun in a folder was composed of

log = logging.getLogger(__name__)


class GoOn(Callback):
    """Run an interrupted command, typed again, in the folder that it has begun; every other one in a new folder.

    The same command is one that composes the same configuration. It was interrupted if its folder has no `FINISHED`,
    and no process is at work there. Hydra calls this before it makes a folder; see conf/train.yaml.
    """

    def __init__(self) -> None:
        self._lock: FileLock | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_lock": None}  # joblib and submitit take callbacks to their processes, and the lock stays here

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Choose hydra.run.dir: what output_dir= says, or the interrupted run's, or else leave it."""
        # Lightning's further processes are told where to run, and to keep no copy of the configuration.
        if config.hydra.output_subdir is None or _is_typed(config, "hydra.run.dir"):
            return
        new = Path(config.hydra.run.dir)
        if not OmegaConf.is_interpolation(config, "output_dir"):
            _set(config, "run", Path(config.output_dir))
        elif "SLURM_STEP_ID" in os.environ:  # each of srun's processes asks, and a queued-again job has the same number
            _set(config, "run", new.parent / f"slurm_{os.environ['SLURM_JOB_ID']}_{os.environ['SLURM_STEP_ID']}")
        elif config.resume is not None:
            _set(config, "run", _interrupted(new.parent, _command(config)) or new)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Choose hydra.sweep.dir likewise, and keep it to this process."""
        sweeper = config.hydra.sweeper
        command = "".join(OmegaConf.to_yaml(part) for part in (config.hydra.overrides.task, sweeper)) + _command(config)
        folder = Path(config.hydra.sweep.dir)
        if not _is_typed(config, "hydra.sweep.dir") and config.resume is not None:
            if _asks_for_the_same(sweeper):
                folder = _interrupted(folder.parent, command) or folder
            _set(config, "sweep", folder)
            with read_write(config.hydra.overrides):  # of which Hydra composes every run
                config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{folder}'")
        self._lock = FileLock(folder / "lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:  # not an exception, of which Hydra would make a warning
            sys.exit(f"error: another process is at work in {folder}: give hydra.sweep.dir=<another folder>, or wait")
        with atomic_write(folder / _COMMAND) as temporary:
            temporary.write_text(command, encoding="utf-8")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """None of its runs failed: the command, typed again, begins anew."""
        _write(Path(config.hydra.sweep.dir), {})


def begin(folder: Path, cfg: DictConfig) -> None:
    """Note of what the run in `folder` is composed, once it is plain that it runs there."""
    for noted in (FINISHED, _FAILED):
        (folder / noted).unlink(missing_ok=True)
    with atomic_write(folder / _COMMAND) as temporary:
        temporary.write_text(OmegaConf.to_yaml(cfg), encoding="utf-8")


def was_begun(folder: Path, cfg: DictConfig) -> bool:
    """Whether the run in `folder` is composed as `begin` noted, and did not come to its end."""
    noted = folder / _COMMAND
    same = noted.is_file() and noted.read_text(encoding="utf-8") == OmegaConf.to_yaml(cfg)
    return same and not (folder / FINISHED).exists()


def finish(folder: Path, config: dict[str, Any], best: Mapping[str, float]) -> None:
    """Note that the run in `folder` finished, with its configuration and its best validation.

    Args:
        best: the best value of the score that chose the best checkpoint, under a key of `BEST`; empty without one.
    """
    _write(folder, {BEST[0]: None, **best, "config": config})


def finished(folder: Path) -> dict[str, Any] | None:
    """What `finish` noted of the run in `folder`; None if it did not come to its end."""
    try:
        noted = json.loads((folder / FINISHED).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # not there, or damaged: what is finished is soon found to be so again
        return None
    return noted if isinstance(noted, dict) and "config" in noted else None


def fail(folder: Path, sentence: str) -> None:
    """Note how the run in `folder`, one of a multirun's, failed: the others go on."""
    with atomic_write(folder / _FAILED) as temporary:
        temporary.write_text(sentence, encoding="utf-8")


def failure(folder: Path) -> str | None:
    """What `fail` noted of the run in `folder`, unless it has begun again."""
    noted = folder / _FAILED
    return noted.read_text(encoding="utf-8") if noted.is_file() else None


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes' runs out of a folder.

    Raises:
        InputError: one is at work there.
    """
    try:
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout:
        raise InputError(f"another process is at work in {folder}: give output_dir=<another folder>, or wait") from None


def latest_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint in a run's folder that is whole; what is wrong with a later one is logged. None: no run.

    Raises:
        InputError: there are checkpoints, and all are damaged.
    """
    problems = []
    for path in (folder / "checkpoints" / LAST, folder / "checkpoints" / BEFORE_LAST):
        if not path.exists():
            continue
        try:
            read_checkpoint(path)
        except InputError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            log.warning("%s: going on from %s, the one before", problem, path)
        return path
    if problems:
        raise InputError(f"{'; '.join(problems)}: resume=null begins the run anew")
    return None


def _interrupted(parent: Path, command: str) -> Path | None:
    """The latest of the folders in `parent` that `command` began, unfinished and with nobody at work."""
    for folder in sorted((path for path in parent.glob("*") if (path / _COMMAND).is_file()), reverse=True):
        kept = (folder / _COMMAND).read_text(encoding="utf-8")
        if kept == command and not (folder / FINISHED).exists() and _is_free(folder):
            return folder
    return None


def _asks_for_the_same(sweeper: DictConfig) -> bool:
    """Whether a sweep typed again makes the same runs: Optuna's by a seeded sampler, without trials from before."""
    sampler = sweeper.get("sampler")
    return sampler is None or (sampler.get("seed") is not None and sweeper.get("storage") is None)


def _is_free(folder: Path) -> bool:
    try:
        with FileLock(folder / "lock", timeout=0):
            return True
    except (Timeout, OSError):  # or a folder in which nothing can be written
        return False


def _command(config: DictConfig) -> str:
    """What was composed, Hydra's own part left out: what the command is called with."""
    task = deepcopy(config)
    with read_write(task), open_dict(task):
        del task["hydra"]
    return OmegaConf.to_yaml(task)


def _is_typed(config: DictConfig, key: str) -> bool:
    return any(override.startswith(f"{key}=") for override in config.hydra.overrides.hydra)


def _set(config: DictConfig, mode: str, folder: Path) -> None:
    with read_write(config.hydra[mode]):
        config.hydra[mode].dir = str(folder)


def _write(folder: Path, content: dict[str, Any]) -> None:
    with atomic_write(folder / FINISHED) as temporary:
        temporary.write_text(json.dumps(content))
