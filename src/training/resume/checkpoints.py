"""Find the checkpoint that a run resumes from, and check that run, data and network match it."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from src.checkpoints.reading import read_checkpoint
from src.common.errors import InputError
from src.common.tensor_files import state_dict_mismatch
from src.data.datamodule import InpaintingData
from src.training.callbacks.last_checkpoint import BEFORE_LAST, FILES, LAST, hash_training_files, numeric_environment
from src.training.resume.identity import differing_keys, optimizer_layout, require_complete_config, run_identity
from src.training.resume.run_dirs import read_finished
from src.training.resume.run_state import require_run_state

_RUN_STATE = {  # what weights alone lack
    *("optimizer_states", "lr_schedulers", "loops", "callbacks", "pytorch-lightning_version", "rounding"),
}

log = logging.getLogger(__name__)


class NothingToTrainError(InputError):
    """The run to resume is already at its last step."""


class RunFinishedError(NothingToTrainError):
    """The run directory holds the same run, already finished."""


@dataclass(frozen=True)
class ResumePoint:
    """The checkpoint that a run resumes from.

    Attributes:
        path: None for a new run.
        checkpoint: its content; empty for a new run.
        in_place: whether it belongs to the same run directory, whose logs then continue.
    """

    path: Path | None = None
    checkpoint: dict[str, Any] = field(default_factory=dict)
    in_place: bool = False

    @property
    def step(self) -> int:
        """Generator steps already done."""
        return int(self.checkpoint.get("global_step", 0))

    def check_training_files(self, data: InpaintingData) -> None:
        """Raise InputError if the training images have changed and the run resumes in place; otherwise warn."""
        if FILES not in self.checkpoint or self.checkpoint[FILES] == hash_training_files(data):
            return
        problem = f"the training images of data={data.files.name} are not those that {self.path} was trained on"
        if self.in_place:
            raise InputError(f"{problem}: restore them, or start over with resume=null")
        log.warning("%s", problem)

    def check_weights(self, state_dict: Mapping[str, Tensor]) -> None:
        """Raise InputError if the checkpoint's weights have other names or shapes than the module's."""
        if self.checkpoint and (mismatch := state_dict_mismatch(state_dict, self.checkpoint["state_dict"])):
            raise InputError(f"the weights in {self.path} do not match the model: {mismatch}")

    def check_run_state(self, trainer: Trainer, module: LightningModule) -> None:
        """Raise InputError if the checkpoint's counters, callbacks or optimiser states are not those of such a run."""
        if self.path is not None:
            require_run_state(trainer, module, self.checkpoint, self.path)


def find_resume_point(resume: str | None, run_dir: Path, config: dict[str, Any]) -> ResumePoint:
    """Return the checkpoint that the run in `run_dir` resumes from.

    A checkpoint of the same run in `run_dir` takes precedence over that of another run that `resume` may name.

    Args:
        resume: null for a new run, auto to resume the unfinished run in `run_dir`, or a checkpoint's path.
        config: the resolved configuration.
    Raises:
        RunFinishedError: the same run is finished. NothingToTrainError: the named checkpoint is at the last step.
        InputError: `run_dir` holds a different run, or the checkpoint is missing, corrupt or of another model.
    """
    if resume is None:
        return ResumePoint()
    named = None if resume == "auto" else Path(resume).expanduser()
    if named is not None and (named / "checkpoints").is_dir():
        named = named / "checkpoints" / LAST
    if named is None or not is_in_run_dir(named, run_dir):
        if (finished := read_finished(run_dir)) is not None:
            _require_same_run(run_dir, finished["config"], config)
            raise RunFinishedError(
                f"{run_dir} is finished: start over with resume=null, or use another directory (output_dir=)"
            )
        if (latest := latest_checkpoint(run_dir)) is not None:
            _require_same_run(run_dir, read_checkpoint(latest)["config"], config)
            return ResumePoint(latest, _read_resumable(latest, config), in_place=True)
    if named is None:
        return ResumePoint()
    checkpoint, limit = _read_resumable(named, config), config["trainer"]["max_steps"]
    if 0 < limit <= checkpoint["global_step"]:
        raise NothingToTrainError(
            f"resume={named} is at step {checkpoint['global_step']} of {limit} already: increase trainer.max_steps"
        )
    return ResumePoint(named, checkpoint, in_place=is_in_run_dir(named, run_dir))


def latest_checkpoint(run_dir: Path) -> Path | None:
    """Return the latest intact checkpoint in a run directory, and log why a later one is skipped; None if it has none.

    Raises:
        InputError: all checkpoints are corrupt.
    """
    problem = ""
    for path in (run_dir / "checkpoints" / LAST, run_dir / "checkpoints" / BEFORE_LAST):
        if not path.exists():
            continue
        try:
            read_checkpoint(path)
        except InputError as error:
            problem += f"; {error}" if problem else str(error)
            continue
        if problem:
            log.warning("%s: resuming from %s, the one before", problem, path)
        return path
    if problem:
        raise InputError(f"{problem}: start over with resume=null")
    return None


def is_in_run_dir(checkpoint: Path, run_dir: Path) -> bool:
    """Return whether a checkpoint belongs to the run in a directory."""
    return checkpoint.absolute().parent == (run_dir / "checkpoints").absolute()


def require_same_network(source: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise InputError if two configurations build different networks; `source` names where the first is from."""
    networks = [config["model"]["network"] for config in (before, now)]
    if networks[0] != networks[1]:
        scales = [(config.get("scale") or {}).get("name") for config in (before, now)]
        at = f" (trained at scale={scales[0]}, not scale={scales[1]})" if scales[0] != scales[1] else ""
        raise InputError(f"{source} holds another network{at}: {networks[0]}, but the config asks for {networks[1]}")


def _require_same_run(run_dir: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    if changed := differing_keys(_identity_in(run_dir, before), run_identity(now)):
        raise InputError(
            f"{run_dir} holds a run that differs in {', '.join(changed)}: use another directory (output_dir=), resume "
            f"with the change (resume={run_dir}/checkpoints/{LAST}), or start over there (resume=null)"
        )


def _identity_in(path: Path, config: Any) -> dict[str, Any]:
    """Return the `run_identity` of a configuration that was read from `path`."""
    require_complete_config(path, config)
    try:
        optimizer_layout(config)
        return run_identity(config)
    except (AttributeError, KeyError, RecursionError, TypeError) as error:  # a group is a list, or lacks an option
        raise InputError(f"{path} does not record how its run was trained: its configuration is corrupt") from error


def _read_resumable(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a checkpoint that this configuration can resume; log what differs from its run."""
    checkpoint = read_checkpoint(path)
    if _RUN_STATE - checkpoint.keys():
        raise InputError(f"resume={path} holds weights without optimiser states: use start_from={path}")
    version, rounding = checkpoint["pytorch-lightning_version"], checkpoint["rounding"]
    if not (isinstance(version, str) and re.fullmatch(r"[2-9]\.\d+\.\d+\S{0,20}", version)):
        raise InputError(f"resume={path} was not written by Lightning 2: use start_from={path}")
    if not (isinstance(rounding, Mapping) and all(type(value) in (int, str) for value in rounding.values())):
        raise InputError(f"resume={path} does not record its environment as this suite does: use start_from={path}")
    identity = _identity_in(path, checkpoint["config"])
    require_same_network(f"resume={path}", checkpoint["config"], config)
    before, now = (optimizer_layout(one) for one in (checkpoint["config"], config))
    if changed := [part for part in now if before[part] != now[part]]:
        raise InputError(
            f"resume={path} was trained with another {', '.join(changed)}, so its optimiser states do not match: "
            f"start_from={path} starts a new run with its weights"
        )
    log.info("resuming from %s, generator step %d", path, checkpoint["global_step"])
    if changed := differing_keys(identity, run_identity(config)):
        log.warning("the configuration has changed since that checkpoint in: %s", ", ".join(changed))
    environment = numeric_environment()
    if changed := differing_keys(rounding, environment):
        log.warning("%s changed since: the resumed run is not bit-identical", " and ".join(changed))
    return checkpoint
