"""Per-image records in Parquet: one row per image, mask and method, with their provenance.

README.md describes the columns and the metadata. A change of either that older code can't read needs a new `VERSION`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.common.provenance import HashedFile, Provenance
from src.common.schema_files import STRICT, parse_json

KEY_COLUMNS = ("method", "data", "path", "index", "bin", "hole_ratio")
"""Columns of every record: `path` names the image, `index` is that of its sample, `bin` is empty above the last bin."""

MASK_INDEX = "mask_index"
"""Optional column: which mask of its bin was used, if an image is scored with several."""

SAMPLES = "samples"
"""Optional column: number of samples of a stochastic method. Scores are then means over the samples, and the columns
`best_column(...)` hold the best of them."""

VERSION = 2
"""Version of the files that are written; files without a number are of version 1."""

_VERSION_KEY = b"inpainting_suite.records_version"
_METADATA_KEY = b"inpainting_suite.provenance"
_SET_SCORES_KEY = b"inpainting_suite.set_scores"
_MERGED_KEY = b"inpainting_suite.merged"


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


@dataclass(frozen=True)
class Origin:
    """Where the records of one method in a merged file are from.

    Args:
        method: the method's name in the merged file.
        file: the file of records that `python -m src.evaluate` wrote.
    """

    __pydantic_config__ = STRICT

    method: str
    file: HashedFile
    provenance: Provenance
    set_scores: tuple[SetEstimate, ...]


@dataclass(frozen=True)
class _Origins:
    __pydantic_config__ = STRICT

    origins: list[Origin]


@dataclass(frozen=True)
class MethodRecords:
    """The records of one method, and where they are from."""

    origin: Origin
    frame: pd.DataFrame


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
    facts = {_METADATA_KEY: provenance.to_json(), _SET_SCORES_KEY: json.dumps(asdict(_SetScores(list(set_scores))))}
    _write(frame, path, facts)


def write_merged_records(methods: Sequence[MethodRecords], path: Path) -> None:
    """Write the records of several methods into one file atomically; `read_methods` reads it."""
    frame = pd.concat([each.frame for each in methods], ignore_index=True)
    _write(frame, path, {_MERGED_KEY: json.dumps(asdict(_Origins([each.origin for each in methods])))})


def _write(frame: pd.DataFrame, path: Path, facts: Mapping[bytes, str]) -> None:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), _VERSION_KEY: str(VERSION), **facts}
    with atomic_write(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary, compression="zstd")


def read_records(path: Path) -> tuple[pd.DataFrame, Provenance]:
    """Read what `write_records` wrote.

    Raises:
        InputError: the file is missing, corrupt, of a newer version, or not a file of one method's records.
    """
    frame, metadata = _read(path)
    if _MERGED_KEY in metadata:
        raise InputError(f"{path}: merged records of several methods, expected those of one method.")
    return frame, _provenance(path, metadata)


def read_methods(path: Path) -> list[MethodRecords]:
    """Read what `write_records` or `write_merged_records` wrote.

    Raises:
        InputError: the file is missing, corrupt, of a newer version, or not a file of records.
    """
    frame, metadata = _read(path)
    if _MERGED_KEY not in metadata:
        if frame["method"].nunique() != 1:
            raise InputError(f"{path}: several methods in a file of one method's records; evaluate them again.")
        estimates = tuple(_set_scores(path, metadata))
        origin = Origin(str(frame["method"].iloc[0]), HashedFile.of(path), _provenance(path, metadata), estimates)
        return [MethodRecords(origin, frame)]
    try:
        origins = parse_json(_Origins, metadata[_MERGED_KEY]).origins
    except ValueError as error:
        raise InputError(f"{path}: invalid merged records ({error}); merge the files again.") from error
    if {origin.method for origin in origins} != set(frame["method"]):
        raise InputError(f"{path}: invalid merged records (its methods are not those of its metadata); merge again.")
    # Columns that only other methods have are empty here.
    parts = [(origin, frame[frame["method"] == origin.method].dropna(axis=1, how="all")) for origin in origins]
    return [MethodRecords(origin, part.assign(bin=part.get("bin")).reset_index(drop=True)) for origin, part in parts]


def read_set_scores(path: Path) -> list[SetEstimate]:
    """Read the set scores in a file that `read_records` accepts; none in older files.

    Raises:
        InputError: the scores are invalid.
    """
    return _set_scores(path, pq.read_schema(path).metadata or {})


def is_records(path: Path) -> bool:
    """Return whether a file's metadata is that of records, of one method or merged."""
    try:
        return not {_METADATA_KEY, _MERGED_KEY}.isdisjoint(pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        return False


def _read(path: Path) -> tuple[pd.DataFrame, dict[bytes, bytes]]:
    """Return the rows and the metadata of a file of records of any version up to `VERSION`."""
    if not path.is_file():
        raise InputError(f"{path}: no such file of records; `python -m src.evaluate` writes one.")
    try:
        # Not read_table, which interprets directories such as Hydra's model=lbam/ as column values.
        with pq.ParquetFile(path) as file:
            table = file.read()
        frame = table.to_pandas(ignore_metadata=True)  # pandas' metadata may turn a column into the index
        frame = frame.rename(columns={"hole_share": "hole_ratio"})  # the column's name in the first records
    except Exception as error:  # corrupt files raise unrelated types
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: corrupt or not a Parquet file ({reason}); evaluate the method again.") from error
    metadata = table.schema.metadata or {}
    _require_known_version(path, metadata)
    is_ours = not {_METADATA_KEY, _MERGED_KEY}.isdisjoint(metadata)
    if not is_ours or frame.empty or not set(KEY_COLUMNS) <= set(frame.columns):
        raise InputError(f"{path}: a Parquet file, but not records of this suite; give one that src.evaluate wrote.")
    return frame, metadata


def _require_known_version(path: Path, metadata: Mapping[bytes, bytes]) -> None:
    written = metadata.get(_VERSION_KEY, b"1").decode("utf-8", "backslashreplace")
    if not written.isdecimal() or int(written) > VERSION:
        raise InputError(
            f"{path}: records of version {written}, but this version of the suite reads versions up to {VERSION}: "
            "update the suite, or evaluate the method again."
        )


def _provenance(path: Path, metadata: Mapping[bytes, bytes]) -> Provenance:
    try:
        return Provenance.from_json(metadata[_METADATA_KEY])
    except ValueError as error:
        raise InputError(f"{path}: written by another version of this suite ({error}); evaluate again.") from error


def _set_scores(path: Path, metadata: Mapping[bytes, bytes]) -> list[SetEstimate]:
    if _SET_SCORES_KEY not in metadata:
        return []
    try:
        return parse_json(_SetScores, metadata[_SET_SCORES_KEY]).estimates
    except ValueError as error:
        raise InputError(f"{path}: invalid set scores ({error}); evaluate the method again.") from error
