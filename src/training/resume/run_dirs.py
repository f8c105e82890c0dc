"""Run directories: mark them as started, finished or failed, lock them, and find unfinished ones."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.common.atomic_files import atomic_write, remove_unfinished_files
from src.common.errors import InputError
from src.common.untrusted_files import parse_yaml, read_json, read_text
from src.training.resume.identity import composed_identity

BEST = ("best_val_psnr", "best_val_edge_f1")
"""Keys of `FINISHED` for the best validation: PSNR in dB of the composite, or F1 where MECNet is trained alone."""

FINISHED = "finished.json"
"""Marks the directory of a finished run or multirun; holds a run's configuration and its best validation score."""

COMMAND = "command.yaml"
"""The configuration that the run in a directory was started with; for a multirun, its command."""

_CORRUPT = (yaml.YAMLError, OmegaConfBaseException, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_WRITTEN = ("checkpoints", "csv", "samples", "samples/*")
_FAILED = "failed.txt"  # the error message of a failed run of a multirun


class RunDirInUseError(InputError):
    """Another process holds the lock of the run directory."""


def mark_started(run_dir: Path, cfg: DictConfig) -> None:
    """Save the configuration of the run that starts or resumes in `run_dir`, and remove marks of its end."""
    for mark in (FINISHED, _FAILED):
        (run_dir / mark).unlink(missing_ok=True)
    with atomic_write(run_dir / COMMAND) as temporary:
        temporary.write_text(OmegaConf.to_yaml(cfg), encoding="utf-8")


def mark_finished(run_dir: Path, config: dict[str, Any], best: Mapping[str, float]) -> None:
    """Save the configuration of the run that finished, and its best score under a key of `BEST`, if it validated."""
    _write_json(run_dir / FINISHED, {BEST[0]: None, **best, "config": config})


def mark_multirun_finished(sweep_dir: Path) -> None:
    """Mark that all runs of a multirun have ended."""
    _write_json(sweep_dir / FINISHED, {})


def read_finished(run_dir: Path) -> dict[str, Any] | None:
    """Return what `mark_finished` saved; None if the run is unfinished, or the file is corrupt."""
    try:
        content = read_json(run_dir / FINISHED)
    except InputError:
        return None
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        return None
    scores = [content.get(key) for key in BEST]
    return content if all(score is None or type(score) in (int, float) for score in scores) else None


def mark_failed(run_dir: Path, message: str) -> None:
    """Save the error message of a failed run of a multirun, whose other runs continue."""
    with atomic_write(run_dir / _FAILED) as temporary:
        temporary.write_text(message, encoding="utf-8")


def read_failure(run_dir: Path) -> str | None:
    """Return the message that `mark_failed` saved; None if the run has not failed, or was started again."""
    path = run_dir / _FAILED
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


@contextmanager
def run_dir_lock(run_dir: Path) -> Iterator[None]:
    """Hold the lock of a run directory, and remove what a killed process left there half written.

    Raises:
        RunDirInUseError: another process holds the lock.
    """
    try:
        with FileLock(run_dir / "lock", timeout=0):
            for directory in (run_dir, *(found for name in _WRITTEN for found in run_dir.glob(name))):
                remove_unfinished_files(directory)
            yield
    except Timeout:
        raise RunDirInUseError(
            f"another process is running in {run_dir}: wait until it ends, or use another directory (output_dir=)"
        ) from None


def is_unfinished_run(run_dir: Path, cfg: DictConfig) -> bool:
    """Return whether `run_dir` holds an unfinished run with the identity of `cfg`."""
    return _is_unfinished(run_dir, _same_run(cfg))


def find_unfinished_run(parent: Path, cfg: DictConfig) -> Path | None:
    """Return the latest directory in `parent` with an unfinished run of `cfg`'s identity that no process is running."""
    return _find_unfinished(parent, _same_run(cfg))


def find_unfinished_multirun(parent: Path, command: str) -> Path | None:
    """Return the latest directory in `parent` of an unfinished multirun with the same command, not running now."""
    return _find_unfinished(parent, lambda saved: saved == command)


def _find_unfinished(parent: Path, is_same: Callable[[str], bool]) -> Path | None:
    started = sorted((path.parent for path in parent.glob(f"*/{COMMAND}")), reverse=True)
    return next((path for path in started if _is_unfinished(path, is_same) and _is_unlocked(path)), None)


def _is_unfinished(run_dir: Path, is_same: Callable[[str], bool]) -> bool:
    if (run_dir / FINISHED).exists() or not (run_dir / COMMAND).is_file():
        return False
    try:
        return is_same(read_text(run_dir / COMMAND))
    except InputError:  # corrupt
        return False


def _same_run(cfg: DictConfig) -> Callable[[str], bool]:
    try:
        identity = composed_identity(cfg)
    except OmegaConfBaseException:  # the command itself will report it
        return lambda saved: False

    def is_same(saved: str) -> bool:
        try:
            content = parse_yaml(saved)
            return isinstance(content, dict) and composed_identity(OmegaConf.create(content)) == identity
        # corrupt, or a multirun's
        except (
            yaml.YAMLError,
            OmegaConfBaseException,
            AttributeError,
            KeyError,
            RecursionError,
            TypeError,
            ValueError,
        ):
            return False

    return is_same


def _is_unlocked(run_dir: Path) -> bool:
    try:
        with FileLock(run_dir / "lock", timeout=0):
            return True
    except (Timeout, OSError):  # or the directory is not writable
        return False


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content))
