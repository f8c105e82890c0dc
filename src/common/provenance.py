"""Provenance of results: code revision, config, seed, data, masks, weights and machine."""

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from src.common.schema_files import STRICT, parse_json

UNKNOWN = "unknown"
PACKAGES = ("inpainting-suite", "torch", "lightning", "numpy")


@dataclass(frozen=True)
class Revision:
    """The commit of the code; `dirty` if there are uncommitted changes, None if unknown."""

    __pydantic_config__ = STRICT

    commit: str = UNKNOWN
    dirty: bool | None = None

    def __str__(self) -> str:
        return f"{self.commit} with uncommitted changes" if self.dirty else self.commit


@dataclass(frozen=True)
class HashedFile:
    """Path of a file, as the user wrote it, with the SHA-256 of its content."""

    __pydantic_config__ = STRICT

    path: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "HashedFile":
        """Read and hash `path`."""
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
        return cls(str(path), digest.hexdigest())


@dataclass(frozen=True)
class ResultsFacts:
    """Images of another program that were scored.

    Args:
        path: their directory, as the user wrote it.
        sha256: of the contents of all files, in the order of the test's samples.
        files: number of files.
        composites: number of files whose known pixels are those of the input; the others are raw outputs.
        known_percent: 100 mean |d| over the known pixels of the raw outputs; 0 without any.
    """

    __pydantic_config__ = STRICT

    path: str
    sha256: str
    files: int
    composites: int
    known_percent: float


@dataclass(frozen=True)
class Provenance:
    """Provenance of one method's scores, stored in the metadata of their Parquet file and shown in the report.

    Args:
        config: the resolved config, plain values only.
        data: facts about the test data: name, root, split, number of images, hash of the file list, ...
        checkpoint: None for a method without weights.
        started: start time, ISO 8601 with a time zone.
        absent_scores: reasons why scores could not be computed, by name.
        results: the images of another program, which are scored instead of a method of this suite.
    """

    __pydantic_config__ = STRICT

    revision: Revision
    config: dict[str, Any]
    seed: int
    data: dict[str, Any]
    mask_bank_hash: str
    checkpoint: HashedFile | None
    device: str
    versions: dict[str, str]
    started: str
    duration_s: float
    absent_scores: dict[str, str] = field(default_factory=dict)
    results: ResultsFacts | None = None

    @classmethod
    def collect(cls, *, checkpoint: Path | None, device: torch.device, started: datetime, **facts: Any) -> "Provenance":
        """Collect the provenance after scoring that began at `started`; `facts` are the other fields."""
        return cls(
            revision=code_revision(),
            checkpoint=None if checkpoint is None else HashedFile.of(checkpoint),
            device=device_name(device),
            versions=package_versions(),
            started=started.isoformat(timespec="seconds"),
            duration_s=(datetime.now(timezone.utc) - started).total_seconds(),
            **facts,
        )

    def to_json(self) -> str:
        """Return a JSON object that `from_json` can read."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Provenance":
        """Parse the output of `to_json`; ValueError if the text is not JSON or not a provenance."""
        return parse_json(cls, text)


def code_revision(file: Path = Path(__file__)) -> Revision:
    """Return the git revision of the checkout that tracks `file`, which an installed copy inside a checkout is not.

    Untracked files count as changes, as a new config can change results.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(file.parent), *arguments],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # do not lock the index
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "--", file.name)
        return Revision(git("rev-parse", "HEAD"), dirty=bool(git("status", "--porcelain", "--", ":/")))
    except (OSError, subprocess.CalledProcessError):
        return Revision()


def device_name(device: torch.device) -> str:
    """Return the model of the device, e.g. ``NVIDIA A100-SXM4-80GB`` or ``AMD EPYC 7B13, 2 threads``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return str(device)
    return f"{_cpu_model()}, {torch.get_num_threads()} threads"


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine() or UNKNOWN)


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect results most."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = UNKNOWN
    return versions
