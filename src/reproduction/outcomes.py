"""Outcomes of a table's rows: the records of finished runs, aligned, and the errors of failed ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from src.common.errors import InputError
from src.common.provenance import Provenance
from src.evaluation.records import KEY_COLUMNS, read_records
from src.evaluation.tables import require_same_samples, sort_records

OK = "ok"
SEEDS_FAILED = "some seeds failed"
FAILED = "failed"
NOT_RUN = "not run"


@dataclass(frozen=True)
class Failure:
    """A failed run: its error in one line, and the log with the traceback."""

    error: str
    log: Path


@dataclass(frozen=True)
class RowOutcome:
    """Outcome of a row, by seed.

    Attributes:
        records: paths of the finished seeds' records, as written by `src.evaluate`.
        failures: errors of the failed seeds.
        given: checkpoint that was evaluated instead of training one.
    """

    records: Mapping[int, Path] = field(default_factory=dict)
    failures: Mapping[int, Failure] = field(default_factory=dict)
    given: Path | None = None

    @property
    def status(self) -> str:
        """One of OK, SEEDS_FAILED, FAILED, NOT_RUN."""
        if self.records:
            return SEEDS_FAILED if self.failures else OK
        return FAILED if self.failures else NOT_RUN


@dataclass(frozen=True)
class Scored:
    """Records of several rows and seeds, aligned so that equal positions have the same image and mask.

    Attributes:
        frames: records by row and seed.
        absent: reasons why scores could not be computed, by row and score.
    """

    frames: Mapping[str, Mapping[int, pd.DataFrame]]
    absent: Mapping[str, Mapping[str, str]]

    @property
    def first(self) -> pd.DataFrame:
        """The first records, for the columns that all share (images and masks); empty if no run finished."""
        nothing = pd.DataFrame(columns=list(KEY_COLUMNS))
        return next((frame for seeds in self.frames.values() for frame in seeds.values()), nothing)


def read_outcomes(outcomes: Mapping[str, RowOutcome]) -> Scored:
    """Read the records of all rows that have any.

    Raises:
        InputError: a file can't be read, or two files differ in their images, crops, masks or bank.
    """
    frames: dict[str, dict[int, pd.DataFrame]] = {}
    absent: dict[str, dict[str, str]] = {}
    origins: dict[Path, Provenance] = {}
    for row, outcome in outcomes.items():
        for seed, path in sorted(outcome.records.items()):
            frame, origins[path] = read_records(path)
            frames.setdefault(row, {})[seed] = sort_records(frame)
            absent.setdefault(row, {}).update(origins[path].absent_scores)
    if frames:
        _require_same_test(origins)
        by_run = {f"{row}, seed {seed}": frame for row, seeds in frames.items() for seed, frame in seeds.items()}
        require_same_samples(by_run)
    return Scored(frames, absent)


def _require_same_test(origins: Mapping[Path, Provenance]) -> None:
    # Facts that decide the test images: not their location, nor the number of training files.
    data = {
        path: {name: value for name, value in origin.data.items() if name not in ("root", "files")}
        for path, origin in origins.items()
    }
    (first_path, first), *others = origins.items()
    for path, origin in others:
        same = {"mask bank": origin.mask_bank_hash == first.mask_bank_hash, "data": data[path] == data[first_path]}
        if different := " and ".join(what for what, is_same in same.items() if not is_same):
            raise InputError(
                f"{first_path} and {path} differ in their {different}, so their means can't be compared: "
                "evaluate both on the same data and mask bank"
            )
