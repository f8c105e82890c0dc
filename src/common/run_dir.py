"""Where Hydra keeps what a command writes: looked at before it is made; and `${run_folder:}`, where that is."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

PROBE_BYTES = 64 * 1024
"""What Hydra writes of a run's configuration is some 20 KiB."""


def run_folder() -> str:
    """The folder of this run; where none is made, as by --cfg job, the one that a run of now would have."""
    hydra = HydraConfig.get()
    return str(hydra.run.dir if OmegaConf.is_missing(hydra.runtime, "output_dir") else hydra.runtime.output_dir)


OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)


class SweepFolder(Callback):
    """End a sweep with a sentence where its folder can't be written to.

    conf/hydra/callbacks/resume.yaml names it ahead of the first callback that writes there: of what a callback raises
    Hydra makes a warning.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Try the folder of a sweep's."""
        _try(Path(config.hydra.sweep.dir))


class RunFolder(SweepFolder):
    """End a command with a sentence where the folder of its runs can't be written to.

    Hydra makes it, and writes the configuration into it, before the command itself begins; it would end with a
    traceback. conf/train.yaml and conf/evaluate.yaml name this class as a callback, after what chooses that folder.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Try the folder of one run, if Hydra is to write there."""
        if config.hydra.output_subdir is not None:
            _try(Path(config.hydra.run.dir))


def _try(folder: Path) -> None:
    """Write a file and remove it, in what is there of the path: a folder made now might not be used."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(parent))
    try:
        with tempfile.NamedTemporaryFile(dir=there) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
    except OSError as error:
        # Not an exception: Hydra would make a warning of it, and go on.
        where = "" if there == folder.absolute() else f"{there}: "
        sys.exit(f"error: {folder} can't be written to: {where}{os.strerror(error.errno or 0)}")
