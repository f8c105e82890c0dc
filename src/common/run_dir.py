"""The output directory that Hydra chooses for a command: `${run_dir:}`, checks that it is writable and unused."""

import os
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

PROBE_BYTES = 64 * 1024  # more than the 20 KiB of configuration that Hydra writes into a run's directory


def run_dir() -> str:
    """Return the output directory of this run, or the directory it would have if none is created (--cfg job)."""
    hydra = HydraConfig.get()
    return str(hydra.run.dir if OmegaConf.is_missing(hydra.runtime, "output_dir") else hydra.runtime.output_dir)


OmegaConf.register_new_resolver("run_dir", run_dir, replace=True)


def create_unused_dir(path: Path) -> Path:
    """Create a directory and return it; if another run created it in the same second, `<path>_1`, `<path>_2`, ...

    Further processes of one run, started by Slurm or torchrun, share `path`. It is left to `CheckRunDir` to report a
    directory that can't be created.
    """
    if {"SLURM_STEP_ID", "LOCAL_RANK"} & os.environ.keys():
        return path
    for number in count():
        candidate = path if number == 0 else path.with_name(f"{path.name}_{number}")
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError:
            return path
        return candidate
    raise AssertionError("count() does not end")


def is_overridden(config: DictConfig, key: str) -> bool:
    """Return whether one of Hydra's own options is set on the command line."""
    return any(override.startswith(f"{key}=") for override in config.hydra.overrides.hydra)


def set_dir(config: DictConfig, mode: str, path: Path) -> None:
    """Set hydra.run.dir or hydra.sweep.dir, for all runs of a multirun."""
    with read_write(config.hydra[mode]):
        config.hydra[mode].dir = str(path)
    if mode == "sweep":
        with read_write(config.hydra.overrides):  # Hydra composes every run from these
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{path}'")


class CheckSweepDir(Callback):
    """Exit with one error message if the directory of a multirun is not writable.

    conf/hydra/callbacks/resume.yaml lists it before the first callback that writes there, as Hydra turns an exception
    of a callback into a warning.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check hydra.sweep.dir."""
        _check_writable(Path(config.hydra.sweep.dir))


class CheckRunDir(CheckSweepDir):
    """Exit with one error message if the directory of a run is not writable.

    Hydra creates it and saves the configuration there before the command starts, and would end with a traceback.
    conf/train.yaml and conf/evaluate.yaml list this callback after the one that chooses the directory.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check hydra.run.dir, if Hydra saves anything there."""
        if config.hydra.output_subdir is not None:
            _check_writable(Path(config.hydra.run.dir))


class NewRunDir(CheckRunDir):
    """Also choose another directory if a run of the same second has it, unless it is set on the command line."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check and create hydra.run.dir."""
        super().on_run_start(config)
        if config.hydra.output_subdir is not None and not is_overridden(config, "hydra.run.dir"):
            set_dir(config, "run", create_unused_dir(Path(config.hydra.run.dir)))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check and create hydra.sweep.dir."""
        super().on_multirun_start(config)
        if not is_overridden(config, "hydra.sweep.dir"):
            set_dir(config, "sweep", create_unused_dir(Path(config.hydra.sweep.dir)))


def _check_writable(path: Path) -> None:
    """Write and remove a file in the nearest existing parent: the directory itself is created only when it is used."""
    existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if os.path.lexists(parent))
    try:
        with tempfile.NamedTemporaryFile(dir=existing) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
    except OSError as error:
        # sys.exit, as Hydra turns an exception into a warning and continues.
        where = "" if existing == path.absolute() else f"{existing}: "
        sys.exit(f"error: {path} can't be written to: {where}{os.strerror(error.errno or 0)}")
