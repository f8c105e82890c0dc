"""A CSV logger that continues metrics.csv from the checkpoint of a resumed run."""

import csv
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from src.common.atomic_files import atomic_write


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
        kept: list[dict[str, str]] = []
        if path.is_file():  # further rows may be incomplete, or belong to steps that are repeated now
            with path.open(newline="") as file:
                kept = [row for row, _ in zip(csv.DictReader(file), range(keep_rows), strict=False)]
        self.rows = len(kept)
        self.metrics_keys = sorted({key for row in kept for key, value in row.items() if value})
        if kept:
            self._write([{key: row[key] for key in self.metrics_keys} for row in kept])
        else:
            path.unlink(missing_ok=True)

    def log_metrics(self, metrics_dict: dict[str, float], step: int | None = None) -> None:
        super().log_metrics(metrics_dict, step)
        self.rows += 1

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
