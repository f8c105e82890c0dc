"""Per-image records in Parquet: one row per image, mask and method, with their provenance."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.common.provenance import Provenance
from src.common.schema_files import STRICT, parse_json

KEY_COLUMNS = ("method", "data", "path", "index", "bin", "hole_ratio")
"""Columns of every record: `path` names the image, `index` is that of its sample, `bin` is empty above the last bin."""

MASK_INDEX = "mask_index"
"""Optional column: which mask of its bin was used, if an image is scored with several."""

SAMPLES = "samples"
"""Optional column: number of samples of a stochastic method. Scores are then means over the samples, and the columns
`best_column(...)` hold the best of them."""

_METADATA_KEY = b"inpainting_suite.provenance"
_SET_SCORES_KEY = b"inpainting_suite.set_scores"


@dataclass(frozen=True)
class SetEstimate:
    """A score of a set of images, such as FID.

    Args:
        bin: the hole-ratio bin, or "all".
        count: number of samples.
        low, high: interval, if it has one.
    """

    __pydantic_config__ = STRICT

    name: str
    bin: str
    count: int
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class _SetScores:
    __pydantic_config__ = STRICT

    estimates: list[SetEstimate]


def score_column(output_kind: str, score_name: str) -> str:
    """Return the column of a score: ``composite_psnr`` with known pixels pasted back, ``raw_psnr`` without."""
    return f"{output_kind}_{score_name}"


def best_column(column: str) -> str:
    """Return the column of the best of several samples: ``composite_psnr_best``."""
    return f"{column}_best"


def write_records(
    frame: pd.DataFrame, path: Path, provenance: Provenance, set_scores: Sequence[SetEstimate] = ()
) -> None:
    """Write one method's records atomically, with its scores of the whole set.

    Raises:
        ValueError: a key column is missing, or the records are of several methods.
    """
    missing = [name for name in KEY_COLUMNS if name not in frame]
    if missing:
        raise ValueError(f"records need the columns {', '.join(KEY_COLUMNS)}; these are missing: {', '.join(missing)}")
    if frame["method"].nunique() != 1:
        raise ValueError(f"a file holds the records of one method, got {sorted(frame['method'].unique())}")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    facts = {_METADATA_KEY: provenance.to_json(), _SET_SCORES_KEY: json.dumps(asdict(_SetScores(list(set_scores))))}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **facts})
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_records(path: Path) -> tuple[pd.DataFrame, Provenance]:
    """Read what `write_records` wrote.

    Raises:
        InputError: the file is missing, corrupt, or not a file of records.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file of records; `python -m src.evaluate` writes one.")
    try:
        # Not read_table, which interprets directories such as Hydra's model=lbam/ as column values.
        with pq.ParquetFile(path) as file:
            table = file.read()
        frame = table.to_pandas(ignore_metadata=True)  # pandas' metadata may turn a column into the index
        frame = frame.rename(columns={"hole_share": "hole_ratio"})  # the column's name in older records
    except Exception as error:  # corrupt files raise unrelated types
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: corrupt or not a Parquet file ({reason}); evaluate the method again.") from error
    written = (table.schema.metadata or {}).get(_METADATA_KEY)
    if written is None or not set(KEY_COLUMNS) <= set(frame.columns):
        raise InputError(f"{path}: a Parquet file, but not records of this suite; give one that src.evaluate wrote.")
    try:
        provenance = Provenance.from_json(written)
    except ValueError as error:
        raise InputError(f"{path}: written by another version of this suite ({error}); evaluate again.") from error
    return frame, provenance


def read_set_scores(path: Path) -> list[SetEstimate]:
    """Read the set scores in a file that `read_records` accepts; none in older files.

    Raises:
        InputError: the scores are invalid.
    """
    written = (pq.read_schema(path).metadata or {}).get(_SET_SCORES_KEY)
    if written is None:
        return []
    try:
        return parse_json(_SetScores, written).estimates
    except ValueError as error:
        raise InputError(f"{path}: invalid set scores ({error}); evaluate the method again.") from error
