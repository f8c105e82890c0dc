"""Reading what W&B wrote offline: its .wandb file is a log of records, framed as LevelDB frames its own."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

_BLOCK, _HEAD, _FILE_HEAD = 32768, struct.Struct("<IHB"), 7  # bytes; a fragment's checksum, length and kind
_WHOLE, _LAST = 1, 4  # kinds of fragments that end a record


@dataclass
class OfflineRun:
    """One offline run: what its folder's .wandb file says.

    Attributes:
        rows: of its history, each with `_step`.
        artifacts: aliases and names of files, by `<name>:<the first alias that is not latest>`.
        exit_code: None of a run that did not end.
    """

    id: str
    began_ns: int = 0
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
        """Numbers by name: (generator step, value), in the order in which they were logged."""
        found: dict[str, list[tuple[int, float]]] = {}
        for row in self.rows:
            for name, value in row.items():
                if not name.startswith("_") and isinstance(value, int | float):
                    found.setdefault(name, []).append((row["trainer/global_step"], value))
        return found

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of the table that was logged last under a name."""
        path = next(row[name]["path"] for row in reversed(self.rows) if name in row)
        content = json.loads((self.files / path).read_text())
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def offline_runs(folder: Path, *, killed: int = 0) -> list[OfflineRun]:
    """Those anywhere in a folder, by the time at which they began; all but `killed` come to an end.

    W&B's process may still be writing when the one that logs is done.
    """
    deadline = time.monotonic() + 60
    while True:
        found = sorted((_read(path) for path in folder.rglob("*.wandb")), key=lambda run: run.began_ns)
        if sum(run.exit_code is None for run in found) <= killed or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def _read(path: Path) -> OfflineRun:
    run = OfflineRun(path.stem.removeprefix("run-"), files=path.parent / "files")
    for record in _records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            said = record.run
            run.name, run.group, run.job_type = said.display_name, said.run_group, said.job_type
            run.tags, run.began_ns = list(said.tags), said.start_time.ToNanoseconds()
            _take(run.config, said.config.update)
        elif kind == "config":
            _take(run.config, record.config.update)
        elif kind == "summary":
            _take(run.summary, record.summary.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            _take(row, record.history.item)
            run.rows.append(row)
        elif kind == "artifact":
            alias = next((alias for alias in record.artifact.aliases if alias != "latest"), "latest")
            run.artifacts[f"{record.artifact.name}:{alias}"] = {e.path for e in record.artifact.manifest.contents}
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _take(into: dict[str, Any], items: Any) -> None:
    for item in items:
        *outer, last = item.nested_key or [item.key]
        node = into
        for key in outer:
            node = node.setdefault(key, {})
        node[last] = json.loads(item.value_json)


def _records(content: bytes) -> Iterator[Any]:
    place, parts = _FILE_HEAD, b""
    while place + _HEAD.size <= len(content):
        if (left := _BLOCK - place % _BLOCK) < _HEAD.size:
            place += left
            continue
        _, length, kind = _HEAD.unpack_from(content, place)
        place += _HEAD.size
        parts += content[place : place + length]
        place += length
        if kind in (_WHOLE, _LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record
