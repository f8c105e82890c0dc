"""A W&B logger that resumes the W&B run of a resumed job and closes it with the job's exit code."""

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

LAST_CHECKPOINT, BEST_WEIGHTS = "last", "best"
"""Artifacts made of checkpoints: the complete last one, and the network alone of the best one."""

LONGEST_GROUP, LONGEST_TAG = 128, 64  # limits of W&B, in characters

STEP = "trainer/global_step"
"""The x-axis of all curves in W&B: Lightning's name for the generator step."""


class WandbLog(WandbLogger):
    """Lightning's WandbLogger with one W&B run per job and output directory; the directory stores the run's id.

    The row number, as in metrics.csv, is W&B's step. A resumed job resumes its W&B run: the checkpoint holds the number
    of rows logged, and rows that W&B already has are not sent again. An offline run cannot ask W&B, so it writes the
    rows after the checkpoint a second time, with the same numbers and values.

    Args:
        save_dir: the output directory; W&B writes to wandb/ in it.
        job_type: train, evaluate or reproduce; an output directory has one W&B run of each.
        job_name, job_group: defaults for `name` and `group`, derived from the command; `job_tags` are added to `tags`.
        checkpoints: artifacts to log when training is finished: `LAST_CHECKPOINT`, `BEST_WEIGHTS`, both or neither.
        resumed: whether to resume the W&B run of the output directory instead of starting a new one.
        rows_logged: the row count in the checkpoint that is resumed; None if it has none.
        options: further arguments of `wandb.init`, such as project, entity and notes.

    Raises:
        InputError: `checkpoints` has an unknown entry; or, on first access to the run, W&B cannot start it.
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
        resumed: bool = False,
        rows_logged: int | None = None,
        **options: Any,
    ) -> None:
        if isinstance(checkpoints, str) or (unknown := set(checkpoints) - {LAST_CHECKPOINT, BEST_WEIGHTS}):
            invalid = checkpoints if isinstance(checkpoints, str) else ", ".join(sorted(unknown))
            raise InputError(
                f"logger.wandb.checkpoints must be a list of {BEST_WEIGHTS} and {LAST_CHECKPOINT}, got {invalid}"
            )
        super().__init__(
            save_dir=save_dir, offline=offline, name=name or job_name, job_type=job_type,
            group=(group or job_group or "")[-LONGEST_GROUP:] or None,
            tags=list(dict.fromkeys([*job_tags, *tags])),
            **options,
        )  # fmt: skip
        del self._wandb_init["anonymous"]  # deprecated: W&B would log a warning
        self.job_type, self.checkpoints = job_type, tuple(checkpoints)
        self._in_multirun = job_group is not None
        self.resumed, self._rows = resumed, rows_logged if resumed else 0
        self._artifact_files = ExitStack()  # temporary files, until they are uploaded

    @property
    def rows(self) -> int:
        """Number of rows logged, including those before the run was resumed."""
        return self._rows or 0

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, started on first access; on ranks other than 0 a dummy."""
        if self._experiment is None:
            self._experiment = self._start_run()
        return self._experiment

    def _start_run(self) -> Any:
        import wandb  # imported here, as it takes a second and most commands do not need it

        id_file = Path(str(self.save_dir)) / "wandb" / f"{self.job_type}.run_id"
        previous_id = id_file.read_text(encoding="utf-8") if self.resumed and id_file.is_file() else None
        # A sweep agent sets the id of a single run, so the jobs of a multirun must not share it.
        agent_id = None if self._in_multirun else os.environ.get("WANDB_RUN_ID")
        run_id = agent_id or previous_id or secrets.token_hex(4)
        # Lightning sets WANDB_MODE instead, which would also affect later jobs of this process.
        mode: Literal["offline"] | None = "offline" if self._offline else None
        settings = wandb.Settings(
            # W&B would print forty lines of curves and last values at the end.
            max_end_of_run_history_metrics=0,
            max_end_of_run_summary_metrics=0,
            x_transaction_log_flush_interval=1.0,  # seconds, not 15, for which rows may be lost if W&B is killed
        )
        try:
            run = wandb.init(**self._wandb_init | {"id": run_id}, mode=mode, reinit="create_new", settings=settings)
        except wandb.Error as error:
            raise InputError(
                f"W&B: {error_summary(error)}: run `wandb login` or set WANDB_API_KEY, or log to the output "
                "directory with logger.wandb.offline=true and upload it later with `wandb sync`"
            ) from error
        with atomic_write(id_file) as temporary:
            temporary.write_text(run.id, encoding="utf-8")
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        if self._rows is None:
            self._rows = run.starting_step
        return run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log a row of numbers, images or tables by name, at a generator step."""
        run, row = self.experiment, self.rows
        self._rows = row + 1
        if row >= run.starting_step:
            run.log({**metrics, **({} if step is None else {STEP: step})}, step=row, commit=True)

    @rank_zero_only
    def log_images(self, images: Mapping[str, RGB], step: int) -> None:
        """Log a row of images, (H, W, 3), by name."""
        import wandb

        self.log_metrics({name: wandb.Image(pixels) for name, pixels in images.items()}, step)

    @rank_zero_only
    def log_frame(self, name: str, frame: pd.DataFrame, step: int | None = None) -> None:
        """Log a data frame as a table, with empty cells for missing values."""
        rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
        self.log_table(name, columns=[str(column) for column in frame.columns], data=rows, step=step)

    @rank_zero_only
    def update_summary(self, values: Mapping[str, Any]) -> None:
        """Set values in the summary of the W&B run."""
        self.experiment.summary.update(values)

    @rank_zero_only
    def log_artifact(self, kind: str, files: Mapping[str, Path], *aliases: str) -> None:
        """Log files, by their names in the artifact, as an artifact named `<kind>-<run id>`."""
        import wandb

        run = self.experiment
        artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind)
        for entry, path in files.items():
            # Online, files are uploaded before the run ends. Offline, W&B copies them: `wandb sync` uploads them later,
            # when they may have changed.
            artifact.add_file(str(path), name=entry, policy="mutable" if run.offline else "immutable")
        run.log_artifact(artifact, aliases=list(aliases))

    @rank_zero_only
    def log_checkpoints(self, directory: Path) -> None:
        """Log the chosen checkpoints of a directory as versions of the artifact `model-<run id>`.

        `best` holds the network as src.export writes it, `last` the complete checkpoint with its optimiser states.
        """
        if BEST_WEIGHTS in self.checkpoints and (directory / "best.ckpt").is_file():
            best = load_checkpoint(directory / "best.ckpt")
            exported = Path(self._artifact_files.enter_context(TemporaryDirectory()))
            write_export_directory(exported, best.network, best.config, {"step": str(best.step)})
            files = {path.name: path for path in sorted(exported.iterdir())}
            self.log_artifact("model", files, BEST_WEIGHTS)
        if LAST_CHECKPOINT in self.checkpoints and (directory / "last.ckpt").is_file():
            self.log_artifact("model", {"last.ckpt": directory / "last.ckpt"}, LAST_CHECKPOINT)

    @rank_zero_only
    def close(self, exit_code: int) -> None:
        """Finish the W&B run after uploading all its data; the next access to `experiment` starts another."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=exit_code)
            self._experiment = None
        self._artifact_files.close()


def error_summary(error: Exception) -> str:
    """Return W&B's error message in one line, without its advice to log in, which our messages repeat."""
    return " ".join(str(error).split()).partition(". Use `wandb login`")[0].rstrip(".")
