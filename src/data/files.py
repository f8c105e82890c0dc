"""The image files of a dataset: found on the disk or listed in its manifest, and checked against it."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any

from src.common.errors import InputError
from src.data.manifest import SPLITS, Manifest, describe_split, relative_names
from src.data.splits import Splits
from src.image_files.search import images_under

AUTO = "auto"
"""Value of `DatasetFiles.manifest` that uses the manifest in the dataset's directory, if there is one."""

MAX_LISTED = 3
"""Number of files that a message names."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetFiles:
    """The files of a dataset and how they are split.

    Attributes:
        root: the dataset's directory; None if it has not been set.
        split: a function of `splits.py` with its other arguments filled in.
        layout, source: what `root` should hold and where the dataset comes from, for messages.
        manifest: file written by `python -m src.prepare`, which then decides the splits instead of `split`. AUTO uses
            <name>.manifest.parquet in `root` if it exists; None uses no manifest.
        verification: how `verify` compares the files with their manifest: by "size", by "hash", or not at all ("none").
    """

    name: str
    root: str | Path | None
    split: Callable[[Path], Splits]
    layout: str
    source: str
    manifest: str | Path | None = None
    verification: str = "size"

    def __post_init__(self) -> None:
        if self.verification not in ("size", "hash", "none"):
            raise InputError(f"data.verify must be size, hash or none, got {self.verification}")

    def nonempty_splits(self) -> list[str]:
        """Return the splits that have images."""
        return [split for split, paths in self._splits.items() if paths]

    def paths(self, split: str) -> list[Path]:
        """Return the files of the "train", "validation" or "test" split; raises InputError if there are none."""
        paths = self._splits[split]
        if not paths:
            raise self._error(f"has no images for the {split} split")
        return paths

    def provenance(self, split: str) -> dict[str, Any]:
        """Return what identifies a split in results: the dataset, the number of files, and a hash of their names.

        If there is a manifest, its hash, which covers the files' contents, is included.
        """
        names = "".join(f"{name}\n" for name in relative_names(self.directory, self.paths(split)))
        return {
            "name": self.name,
            "root": str(self.directory),
            "split": split,
            "files": {name: len(files) for name, files in self._splits.items()},
            "sha256_of_file_list": sha256(os.fsencode(names)).hexdigest(),
            **({"sha256_of_manifest": self._manifest.origin.sha256} if self._manifest is not None else {}),
        }

    @property
    def manifest_path(self) -> Path | None:
        """Path of the manifest, whether it exists or not; None if none is used."""
        if self.manifest != AUTO:
            return None if self.manifest is None else Path(self.manifest).expanduser()
        return self.directory / f"{self.name}.manifest.parquet"

    def verify(self, splits: Sequence[str]) -> None:
        """Raise InputError if files of these splits differ from their manifest, and log which files it leaves out."""
        if self._manifest is None or self.verification == "none":
            return
        update = f"run python -m src.prepare data={self.name} to update the manifest"
        if changes := self._manifest.find_changes(self.directory, splits, contents=self.verification == "hash"):
            raise InputError(
                f"data={self.name}: files in data.root={self.root} differ from the manifest {self._manifest.path}: "
                f"{summarize(changes)}; restore them, or {update}"
            )
        if corrupt := self._manifest.corrupt:
            log.warning("data=%s: skipping files that the manifest lists as corrupt: %s", self.name, summarize(corrupt))
        if new := sorted(images_under(self.directory).difference(self._manifest.table["path"].to_pylist())):
            log.warning(
                "data=%s: skipping files that the manifest does not list: %s; %s", self.name, summarize(new), update
            )

    def draw(self) -> Splits:
        """Split the files that are in the directory now, ignoring the manifest."""
        try:
            splits = self.split(self.directory)
        except InputError as error:
            raise self._error(str(error)) from None
        for split, other in combinations(sorted(splits), 2):
            if shared := set(splits[split]).intersection(splits[other]):
                raise self._error(f"has {min(shared).name} in both {split} and {other}")
        if not any(splits.values()):
            raise self._error("has no images")
        return splits

    def differences(self, manifest: Manifest) -> list[str]:
        """Return the split keys that differ from those the manifest was made with, with both values."""
        ours = {"data": self.name} | {f"data.split.{key}": value for key, value in describe_split(self.split).items()}
        origin = manifest.origin
        theirs = {"data": origin.name} | {f"data.split.{key}": value for key, value in origin.split.items()}
        return [
            f"{key}={ours.get(key)} instead of {theirs.get(key)}"
            for key in sorted(ours.keys() | theirs.keys())
            if ours.get(key) != theirs.get(key)
        ]

    @property
    def directory(self) -> Path:
        """The dataset's directory, `root`; raises InputError if it is not set or not a directory."""
        if self.root is None:
            raise InputError(f"data={self.name}: data.root is not set: set it to a directory with {self.layout}")
        folder = Path(self.root).expanduser()
        if not folder.is_dir():
            raise self._error("is not a directory")
        return folder

    @cached_property
    def _manifest(self) -> Manifest | None:
        path = self.manifest_path
        if path is None or (self.manifest == AUTO and not path.is_file()):
            return None
        manifest = Manifest.read(path, ["path", "split", "bytes", "sha256", "corrupt"])
        if differences := self.differences(manifest):
            raise InputError(
                f"data={self.name}: the manifest {path} was made with other splits: {', '.join(differences)}; use the "
                f"same splits, write another manifest with python -m src.prepare data.manifest=<another file>, or set "
                f"data.manifest=null"
            )
        return manifest

    @cached_property
    def _splits(self) -> Splits:
        if self._manifest is None:
            return self.draw()
        return {split: [self.directory / name for name in self._manifest.names(split)] for split in SPLITS}

    def _error(self, problem: str) -> InputError:
        return InputError(
            f"data={self.name}: data.root={self.root} {problem}; expected {self.layout}; available from {self.source}"
        )


def summarize(items: Sequence[str]) -> str:
    """Join the first few items, followed by the number of remaining ones."""
    listed = ", ".join(escape_unprintable(item) for item in items[:MAX_LISTED])
    return listed + (f" and {len(items) - MAX_LISTED:,} more" if len(items) > MAX_LISTED else "")


def escape_unprintable(name: str) -> str:
    """Escape characters that can't be printed in one line, such as line breaks."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in name)
