"""Reads W&B's offline runs: a .wandb file is a log of records in LevelDB's log format."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

_BLOCK, _HEAD, _FILE_HEAD = (
    32768,
    struct.Struct("<IHB"),
    7,
)  # bytes; _HEAD: checksum, length and kind of a fragment
_FULL, _LAST = 1, 4  # kinds of fragments that complete a record


@dataclass
class OfflineRun:
    """Content of the .wandb file of one offline run.

    Attributes:
        rows: its history; each row has a `_step`.
        artifacts: file names by `<artifact>:<first alias other than latest>`.
        exit_code: None if the run did not end.
    """

    id: str
    start_ns: int = 0
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, set[str]] = field(default_factory=dict)
    exit_code: int | None = None
    files: Path = Path()

    def series(self) -> dict[str, list[tuple[int, float]]]:
        """Return the logged numbers by name, each as (generator step, value), in the order of logging."""
        found: dict[str, list[tuple[int, float]]] = {}
        for row in self.rows:
            for name, value in row.items():
                if not name.startswith("_") and isinstance(value, int | float):
                    found.setdefault(name, []).append((row["trainer/global_step"], value))
        return found

    def table(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of the last table logged under a name."""
        path = next(row[name]["path"] for row in reversed(self.rows) if name in row)
        content = json.loads((self.files / path).read_text())
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def offline_runs(folder: Path, *, killed: int = 0) -> list[OfflineRun]:
    """Return all runs below a directory, ordered by start time.

    Waits until all but `killed` of them have ended, as W&B's process may still write when the logging process is done.
    """
    deadline = time.monotonic() + 60
    while True:
        found = sorted((_read(path) for path in folder.rglob("*.wandb")), key=lambda run: run.start_ns)
        if sum(run.exit_code is None for run in found) <= killed or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def _read(path: Path) -> OfflineRun:
    run = OfflineRun(path.stem.removeprefix("run-"), files=path.parent / "files")
    for record in _records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            info = record.run
            run.name, run.group, run.job_type = info.display_name, info.run_group, info.job_type
            run.tags, run.start_ns = list(info.tags), info.start_time.ToNanoseconds()
            _update(run.config, info.config.update)
        elif kind == "config":
            _update(run.config, record.config.update)
        elif kind == "summary":
            _update(run.summary, record.summary.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            _update(row, record.history.item)
            run.rows.append(row)
        elif kind == "artifact":
            alias = next((alias for alias in record.artifact.aliases if alias != "latest"), "latest")
            run.artifacts[f"{record.artifact.name}:{alias}"] = {e.path for e in record.artifact.manifest.contents}
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _update(into: dict[str, Any], items: Any) -> None:
    for item in items:
        *outer, last = item.nested_key or [item.key]
        node = into
        for key in outer:
            node = node.setdefault(key, {})
        node[last] = json.loads(item.value_json)


def _records(content: bytes) -> Iterator[Any]:
    offset, parts = _FILE_HEAD, b""
    while offset + _HEAD.size <= len(content):
        if (left := _BLOCK - offset % _BLOCK) < _HEAD.size:
            offset += left
            continue
        _, length, kind = _HEAD.unpack_from(content, offset)
        offset += _HEAD.size
        parts += content[offset : offset + length]
        offset += length
        if kind in (_FULL, _LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record
