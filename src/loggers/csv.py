"""metrics.csv: Lightning's, but that a run which goes on takes it up where its checkpoint left it."""

import csv
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from src.common.atomic_files import atomic_write


class CSVLog(CSVLogger):
    """Lightning's CSVLogger; `rows_kept` rows of a file that is there stay, and others follow them.

    Lightning's own deletes the file that it finds, and loses the rows before if it is killed while it adds a column.
    """

    def __init__(self, *args: Any, rows_kept: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rows_kept = rows_kept

    @property
    def rows(self) -> int:
        """Rows that were logged, those kept included."""
        rows: int = self.experiment.rows
        return rows

    @property
    @rank_zero_experiment
    def experiment(self) -> "_Writer":
        """What writes the file, made when it is first needed; on other processes than the first, one that does not."""
        if not isinstance(self._experiment, _Writer):
            self._experiment = _Writer(self.log_dir, self.rows_kept)
        return self._experiment


class _Writer(ExperimentWriter):
    def __init__(self, log_dir: str, rows_kept: int) -> None:
        super().__init__(log_dir)
        path = Path(self.metrics_file_path)
        kept: list[dict[str, str]] = []
        if path.is_file():  # behind them may be half a row, or rows of steps that are now taken again
            with path.open(newline="") as file:
                kept = [row for row, _ in zip(csv.DictReader(file), range(rows_kept), strict=False)]
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
        """Lightning's deletes what is there."""
