"""W&B's log of a run: Lightning's, but that it goes on where a run goes on, and ends as the run ends."""

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pandas as pd
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

from src.checkpoints.export_directory import write_export_directory
from src.checkpoints.reading import load_checkpoint
from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.rendering.grids import RGB

LAST_WHOLE, BEST_WEIGHTS = "last", "best"
"""Checkpoints that are kept as artifacts: the last one whole, of the best one its network alone."""

LONGEST_GROUP, LONGEST_TAG = 128, 64
"""Characters that W&B takes."""

FLUSHED_EVERY_S = 1.0
"""Seconds between which W&B's process keeps rows to itself, which are lost if the machine or both processes are killed.

Its own is 15.
"""

STEP = "trainer/global_step"
"""The name under which Lightning's logger keeps the generator step, and the axis that W&B draws curves over."""


class WandbLog(WandbLogger):
    """One W&B run for what one job does in a folder, whose id is kept there.

    Rows are counted, as in metrics.csv, and their numbers are W&B's steps. A run that goes on continues the same W&B
    run: from its checkpoint it knows how many rows it had logged, W&B knows how many it got, and what it has already
    is not sent again. Offline there is nobody to ask, so rows behind the checkpoint are then written twice, each time
    with the same number and the same values.

    Args:
        save_dir: the run's folder; W&B writes into wandb/ there.
        job_type: train, evaluate or reproduce; a folder has one W&B run of each.
        job_name, job_group, job_tags: of the command: the name and the group where none is given, and more tags.
        checkpoints: those of `LAST_WHOLE` and `BEST_WEIGHTS` that become artifacts when training has come to its end.
        goes_on: whether the folder's W&B run is continued; if not, another one begins.
        rows_logged: by the checkpoint from which it goes on; None if that does not say.
        options: others of `wandb.init`: project, entity, notes.
    Raises:
        InputError: `checkpoints` names another; when the run begins: W&B refuses it.
    """

    def __init__(
        self,
        save_dir: str,
        *,
        job_type: str,
        job_name: str = "",
        job_group: str | None = None,
        job_tags: Sequence[str] = (),
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        offline: bool = False,
        checkpoints: Sequence[str] = (),
        goes_on: bool = False,
        rows_logged: int | None = None,
        **options: Any,
    ) -> None:
        if isinstance(checkpoints, str) or (unknown := set(checkpoints) - {LAST_WHOLE, BEST_WEIGHTS}):
            given = checkpoints if isinstance(checkpoints, str) else ", ".join(sorted(unknown))
            raise InputError(f"logger.wandb.checkpoints is a list of {BEST_WEIGHTS} and {LAST_WHOLE}, got {given}")
        group = (group or job_group or "")[-LONGEST_GROUP:] or None
        tags = list(dict.fromkeys([*job_tags, *tags]))
        super().__init__(
            save_dir=save_dir,
            offline=offline,
            name=name or job_name,
            group=group,
            tags=tags,
            job_type=job_type,
            **options,
        )
        del self._wandb_init["anonymous"]  # which W&B warns of
        self.job_type, self.checkpoints = job_type, tuple(checkpoints)
        self._is_one_of_many = job_group is not None
        self.goes_on, self._rows = goes_on, rows_logged if goes_on else 0
        self._at_hand = ExitStack()  # files of artifacts, until all are sent

    @property
    def rows(self) -> int:
        """Rows that the run has logged, those of its beginning included."""
        return self._rows or 0

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, begun when it is first needed; on other processes than the first, one that does nothing."""
        if self._experiment is None:
            self._experiment = self._begin()
        return self._experiment

    def _begin(self) -> Any:
        import wandb  # here, as it takes a second, and most commands do without

        kept = Path(str(self.save_dir)) / "wandb" / f"{self.job_type}.run_id"
        before = kept.read_text(encoding="utf-8") if self.goes_on and kept.is_file() else None
        # An agent's, or the folder's, or a new one; of several jobs of a process an agent's id can be none's.
        agents = None if self._is_one_of_many else os.environ.get("WANDB_RUN_ID")
        run_id = agents or before or secrets.token_hex(4)
        # Lightning's own sets WANDB_MODE instead, for all jobs to come.
        mode: Literal["offline"] | None = "offline" if self._offline else None
        settings = wandb.Settings(
            # On the terminal, where curves and last values would be forty lines at the end.
            max_end_of_run_history_metrics=0,
            max_end_of_run_summary_metrics=0,
            x_transaction_log_flush_interval=FLUSHED_EVERY_S,
        )
        try:
            run = wandb.init(**self._wandb_init | {"id": run_id}, mode=mode, reinit="create_new", settings=settings)
        except wandb.Error as error:
            raise InputError(
                f"W&B: {said(error)}: run `wandb login` or set WANDB_API_KEY, or log into "
                "the run's folder with logger.wandb.offline=true, which `wandb sync` sends later"
            ) from error
        with atomic_write(kept) as temporary:
            temporary.write_text(run.id, encoding="utf-8")
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        if self._rows is None:
            self._rows = run.starting_step
        return run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log a row: numbers, pictures or tables by name, at a generator step."""
        run, row = self.experiment, self.rows
        self._rows = row + 1
        if row >= run.starting_step:
            run.log({**metrics, **({} if step is None else {STEP: step})}, step=row, commit=True)

    @rank_zero_only
    def log_pictures(self, pictures: Mapping[str, RGB], step: int) -> None:
        """Log a row of pictures (H, W, 3), by name."""
        import wandb

        self.log_metrics({name: wandb.Image(pixels) for name, pixels in pictures.items()}, step)

    @rank_zero_only
    def log_frame(self, name: str, frame: pd.DataFrame, step: int | None = None) -> None:
        """Log a table; what is missing is empty, and a column is of numbers or of text."""
        rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
        self.log_table(name, columns=[str(column) for column in frame.columns], data=rows, step=step)

    @rank_zero_only
    def summarise(self, values: Mapping[str, Any]) -> None:
        """Note what the whole run came to."""
        self.experiment.summary.update(values)

    @rank_zero_only
    def keep_files(self, kind: str, files: Mapping[str, Path], *aliases: str) -> None:
        """Make an artifact `<kind>-<run id>` of files, by their names in it."""
        import wandb

        run = self.experiment
        artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind)
        for entry, path in files.items():
            # Online they are read before the run ends; offline by `wandb sync`, when they may have changed.
            artifact.add_file(str(path), name=entry, policy="mutable" if run.offline else "immutable")
        run.log_artifact(artifact, aliases=list(aliases))

    @rank_zero_only
    def keep_checkpoints(self, folder: Path) -> None:
        """Make artifacts `model-<run id>` of those checkpoints in `folder` that were asked for.

        `best` holds the network as src.export writes it, `last` the checkpoint from which training may go on: so the
        optimisers' state, two thirds of a checkpoint, goes out once.
        """
        if BEST_WEIGHTS in self.checkpoints and (folder / "best.ckpt").is_file():
            best = load_checkpoint(folder / "best.ckpt")
            exported = Path(self._at_hand.enter_context(TemporaryDirectory()))
            write_export_directory(exported, best.network, best.config, {"step": str(best.step)})
            files = {path.name: path for path in sorted(exported.iterdir())}
            self.keep_files("model", files, BEST_WEIGHTS)
        if LAST_WHOLE in self.checkpoints and (folder / "last.ckpt").is_file():
            self.keep_files("model", {"last.ckpt": folder / "last.ckpt"}, LAST_WHOLE)

    @rank_zero_only
    def close(self, exit_code: int) -> None:
        """End the W&B run, all that was logged sent; the next one of this process is another."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=exit_code)
            self._experiment = None
        self._at_hand.close()


def said(error: Exception) -> str:
    """What W&B says is wrong, in a line, without the advice that we give in our own words."""
    return " ".join(str(error).split()).partition(". Use `wandb login`")[0].rstrip(".")
