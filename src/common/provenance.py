"""What produced a number: the code, configuration, seed, data, masks, weights and machine behind it."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

UNKNOWN = "unknown"
PACKAGES = ("inpainting-suite", "torch", "lightning", "numpy")


@dataclass(frozen=True)
class Revision:
    """The commit of the code, and whether files were changed or added since; `dirty` is None where git can't tell."""

    commit: str = UNKNOWN
    dirty: bool | None = None

    def __str__(self) -> str:
        return f"{self.commit} with uncommitted changes" if self.dirty else self.commit


@dataclass(frozen=True)
class HashedFile:
    """Path of a file, as the user wrote it, with the SHA-256 of its content."""

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
class Provenance:
    """What produced the scores of one method; it stands in the metadata of their Parquet file and in the report.

    Args:
        config: the resolved configuration, plain values only.
        data: facts about the test data: name, root, split, how many pictures, hash of the file list, ...
        mask_bank_hash: SHA-256 of the bank that all holes came from.
        checkpoint: None for a method without weights.
        device: the model of the processor that ran the method.
        started: when scoring began, ISO 8601 with a time zone.
        absent_scores: scores that could not be computed, by name, e.g. ``lpips``, and why.
    """

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

    @classmethod
    def collect(
        cls,
        *,
        config: Mapping[str, Any],
        seed: int,
        data: Mapping[str, Any],
        mask_bank_hash: str,
        checkpoint: Path | None,
        device: torch.device,
        started: datetime,
        absent_scores: Mapping[str, str] | None = None,
    ) -> "Provenance":
        """Call when scoring has ended: it adds what can be looked up, and the time since `started` (zone-aware)."""
        return cls(
            revision=code_revision(),
            config=dict(config),
            seed=seed,
            data=dict(data),
            mask_bank_hash=mask_bank_hash,
            checkpoint=None if checkpoint is None else HashedFile.of(checkpoint),
            device=device_name(device),
            versions=package_versions(),
            started=started.isoformat(timespec="seconds"),
            duration_s=(datetime.now(timezone.utc) - started).total_seconds(),
            absent_scores=dict(absent_scores or {}),
        )

    def to_json(self) -> str:
        """One JSON object; `from_json` reads it back."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Provenance":
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is not JSON, or not a provenance's.
        """
        found = json.loads(text)
        expected = {entry.name for entry in fields(cls)}
        if not isinstance(found, dict) or set(found) != expected:
            raise ValueError(f"a provenance has the entries {sorted(expected)}")
        checkpoint = found["checkpoint"]
        try:
            revision = Revision(**found["revision"])
            weights = None if checkpoint is None else HashedFile(**checkpoint)
        except TypeError as error:
            raise ValueError(f"a provenance's revision or checkpoint lacks an entry: {error}") from error
        return cls(**{**found, "revision": revision, "checkpoint": weights})


def code_revision(file: Path = Path(__file__)) -> Revision:
    """The revision of the checkout that tracks `file`; unknown outside a checkout and without git.

    An installed copy may lie inside someone else's checkout (its virtual environment): hence `file` must be tracked.
    Files that git does not know, and does not ignore, count as changes: a new configuration changes results too.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(file.parent), *arguments],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # looking must not get in the way of a commit
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "--", file.name)
        return Revision(git("rev-parse", "HEAD"), dirty=bool(git("status", "--porcelain", "--", ":/")))
    except (OSError, subprocess.CalledProcessError):
        return Revision()


def device_name(device: torch.device) -> str:
    """The processor's model, e.g. ``NVIDIA A100-SXM4-80GB`` or ``AMD EPYC 7B13, 2 threads``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return str(device)
    return f"{_cpu_model()}, {torch.get_num_threads()} threads"


def _cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine() or UNKNOWN


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on most."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = UNKNOWN
    return versions
