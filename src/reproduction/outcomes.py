"""What came of a table's rows: the records of the runs that finished, brought together, and the failures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from src.common.errors import InputError
from src.common.provenance import Provenance
from src.evaluation.records import KEY_COLUMNS, read_records
from src.evaluation.tables import in_common_order, refuse_unlike

OK = "ok"
SEEDS_FAILED = "some seeds failed"
FAILED = "failed"
NOT_RUN = "not run"


@dataclass(frozen=True)
class Failure:
    """A run that ended early: what it raised, in one line, and the log that has the rest."""

    error: str
    log: Path


@dataclass(frozen=True)
class RowOutcome:
    """What came of a row, by seed.

    Attributes:
        records: of the seeds that finished, as `src.evaluate` writes them.
        failures: of those that did not.
        given: the checkpoint that was evaluated in the place of training one.
    """

    records: Mapping[int, Path] = field(default_factory=dict)
    failures: Mapping[int, Failure] = field(default_factory=dict)
    given: Path | None = None

    @property
    def status(self) -> str:
        """One of this file's four words for it."""
        if self.records:
            return SEEDS_FAILED if self.failures else OK
        return FAILED if self.failures else NOT_RUN


@dataclass(frozen=True)
class Scored:
    """Records of several rows and seeds, line by line of the same pictures and masks.

    Attributes:
        frames: by row and seed.
        absent: why scores could not be computed, by row and score.
    """

    frames: Mapping[str, Mapping[int, pd.DataFrame]]
    absent: Mapping[str, Mapping[str, str]]

    @property
    def first(self) -> pd.DataFrame:
        """One of them, for what all have in common: pictures and masks. It is empty where no run finished."""
        nothing = pd.DataFrame(columns=list(KEY_COLUMNS))
        return next((frame for seeds in self.frames.values() for frame in seeds.values()), nothing)


def read_outcomes(outcomes: Mapping[str, RowOutcome]) -> Scored:
    """The records of all rows that have any.

    Raises:
        InputError: a file can't be read, or two are not of the same pictures, crops, masks and bank.
    """
    frames: dict[str, dict[int, pd.DataFrame]] = {}
    absent: dict[str, dict[str, str]] = {}
    origins: dict[Path, Provenance] = {}
    for row, outcome in outcomes.items():
        for seed, path in sorted(outcome.records.items()):
            frame, origins[path] = read_records(path)
            frames.setdefault(row, {})[seed] = in_common_order(frame)
            absent.setdefault(row, {}).update(origins[path].absent_scores)
    if frames:
        _refuse_other_tests(origins)
        refuse_unlike({f"{row}, seed {seed}": frame for row, seeds in frames.items() for seed, frame in seeds.items()})
    return Scored(frames, absent)


def _refuse_other_tests(origins: Mapping[Path, Provenance]) -> None:
    (first_path, first), *others = origins.items()
    for path, origin in others:
        same = {
            "mask bank": origin.mask_bank_hash == first.mask_bank_hash,
            "data": _tested_on(origin) == _tested_on(first),
        }
        if different := " and ".join(what for what, alike in same.items() if not alike):
            raise InputError(
                f"{first_path} and {path} differ in their {different}, so their means can't be compared: "
                "evaluate both on the same data and mask bank."
            )


def _tested_on(origin: Provenance) -> dict[str, object]:
    """Facts about the data that choose the test's pixels: not where they lie, nor how many are for training."""
    return {name: value for name, value in origin.data.items() if name not in ("root", "files")}
