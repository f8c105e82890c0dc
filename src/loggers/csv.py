"""A CSV logger that continues metrics.csv from the checkpoint of a resumed run."""

import csv
import logging
import os
from itertools import islice
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from src.common.atomic_files import atomic_write
from src.common.errors import NOT_WRITABLE, InputError
from src.common.regular_files import require_regular_file

log = logging.getLogger(__name__)


class CSVLog(CSVLogger):
    """Lightning's CSVLogger, but it keeps the first `keep_rows` rows of an existing file and appends to them.

    Lightning's own deletes an existing file, and loses all rows if it is killed while it adds a column.
    """

    def __init__(self, *args: Any, keep_rows: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.keep_rows = keep_rows

    @property
    def rows(self) -> int:
        """Number of rows logged, including the rows kept."""
        rows: int = self.experiment.rows
        return rows

    @property
    @rank_zero_experiment
    def experiment(self) -> "_Writer":
        """The writer of the file, created on first access; on ranks other than 0 a dummy."""
        if not isinstance(self._experiment, _Writer):
            self._experiment = _Writer(self.log_dir, self.keep_rows)
        return self._experiment


class _Writer(ExperimentWriter):
    def __init__(self, log_dir: str, keep_rows: int) -> None:
        super().__init__(log_dir)
        path = Path(self.metrics_file_path)
        kept = _read_rows(path, keep_rows) if keep_rows and path.is_file() else []
        if len(kept) < keep_rows:
            log.warning(
                "%s has only %d of the %d rows logged before the checkpoint: the others are lost, and its curves have "
                "a gap", path, len(kept), keep_rows,
            )  # fmt: skip
        self.rows = len(kept)
        self.metrics_keys = sorted({key for row in kept for key, value in row.items() if value})
        if kept:
            self._write([{key: row[key] for key in self.metrics_keys} for row in kept])
        else:
            path.unlink(missing_ok=True)

    def log_metrics(self, metrics_dict: dict[str, float], step: int | None = None) -> None:
        super().log_metrics(metrics_dict, step)
        self.rows += 1

    def save(self) -> None:
        """Append the new rows; raises InputError with the file's name if the disk is full."""
        try:
            super().save()
        except OSError as error:
            if error.errno not in NOT_WRITABLE:
                raise
            raise InputError(f"{self.metrics_file_path} can't be written: {os.strerror(error.errno)}") from error

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        with Path(self.metrics_file_path).open(newline="") as file:
            rows = list(csv.DictReader(file))
        self._write(rows)

    def _write(self, rows: list[dict[str, str]]) -> None:
        with atomic_write(Path(self.metrics_file_path)) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.metrics_keys)
            writer.writeheader()
            writer.writerows(rows)

    def _check_log_dir_exists(self) -> None:
        """Do nothing: Lightning's method deletes an existing file."""


def _read_rows(path: Path, count: int) -> list[dict[str, str]]:
    """Return the first rows of a log; further ones may be incomplete, or belong to steps that are repeated now.

    Raises:
        InputError: the file is not a log of a run, such as after a disk error.
    """
    require_regular_file(path, "log")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(islice(reader, count))
            names = reader.fieldnames or []
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is corrupt ({error}): restore it, or remove it to continue without it") from error
    # A row with fewer or more cells than the header has None as a value or as a key.
    whole = [row for row in rows if None not in row and None not in row.values()]
    if len(whole) < len(rows) - 1 or len(set(names)) < len(names) or (rows and "step" not in names):
        raise InputError(f"{path} is not the log of a run: restore it, or remove it to continue without it")
    return whole
