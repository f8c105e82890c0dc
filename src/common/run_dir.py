"""The output directory that Hydra chooses for a command: `${run_dir:}`, and a check that it is writable."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

PROBE_BYTES = 64 * 1024  # more than the 20 KiB of configuration that Hydra writes into a run's directory


def run_dir() -> str:
    """Return the output directory of this run, or the directory it would have if none is created (--cfg job)."""
    hydra = HydraConfig.get()
    return str(hydra.run.dir if OmegaConf.is_missing(hydra.runtime, "output_dir") else hydra.runtime.output_dir)


OmegaConf.register_new_resolver("run_dir", run_dir, replace=True)


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
