"""The files of a data set on this disk: found, or named by its manifest; checked and counted."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from src.common.errors import InputError
from src.data.manifest import SPLITS, Manifest, described, relative_names
from src.data.splits import Splits, pictures_under

AUTO = "auto"
"""As `PictureFiles.manifest`: the one in the data set's folder."""

SHOWN = 3
"""So many files are named where many are at fault."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PictureFiles:
    """A data set: its folder, how its files are split, and what to tell a user who has not got them.

    Attributes:
        name: of the config, e.g. places.
        root: the data set's folder; None if the user has yet to say.
        split: one of the functions of `splits.py`, its other arguments filled in.
        layout: what `root` should hold, and `source`: where it comes from; both end up in messages.
        manifest: what `python -m src.prepare` wrote. The splits are those that it names, and `split` is asked no more.
            AUTO: <name>.manifest.parquet in `root`, if it is there. None: none is used.
    """

    name: str
    root: Path | None
    split: Callable[[Path], Splits]
    layout: str
    source: str
    manifest: str | Path | None = None

    def splits(self) -> list[str]:
        """The splits that have pictures."""
        return [split for split, files in self._splits.items() if files]

    def of(self, split: str) -> list[Path]:
        """The files of "train", "validation" or "test".

        Raises:
            InputError: the folder is missing, is laid out otherwise, or has nothing for this split.
        """
        files = self._splits[split]
        if not files:
            raise self._complaint(f"has no pictures for the {split} split")
        return files

    def facts(self, split: str) -> dict[str, Any]:
        """What stands beside a result on a split: the data set, how many files it has, and a hash of their names.

        With a manifest, its hash too, which is of the files' contents.
        """
        names = sha256()
        for name in relative_names(self.folder, self.of(split)):
            names.update(os.fsencode(f"{name}\n"))
        return {
            "name": self.name,
            "root": str(self.root),
            "split": split,
            "files": {name: len(files) for name, files in self._splits.items()},
            "sha256_of_file_list": names.hexdigest(),
            **({"sha256_of_manifest": self._manifest.origin.sha256} if self._manifest is not None else {}),
        }

    @property
    def manifest_path(self) -> Path | None:
        """Where the manifest is, or is to be; None if none is used."""
        if self.manifest != AUTO:
            return None if self.manifest is None else Path(self.manifest).expanduser()
        return self.folder / f"{self.name}.manifest.parquet"

    def check(self, splits: Sequence[str], how: str = "size") -> None:
        """Compare the disk with the manifest, if there is one; what it leaves out, or does not know, is logged.

        Args:
            how: "size" asks for the size of each file; "hash" reads them all, too; "none" does nothing.
        Raises:
            InputError: a picture of these splits is missing or has changed.
        """
        if how not in ("size", "hash", "none"):
            raise InputError(f"data.verify must be size, hash or none, got {how}")
        if self._manifest is None or how == "none":
            return
        again = f"python -m src.prepare data={self.name} takes that in"
        if changes := self._manifest.changes(self.folder, splits, contents=how == "hash"):
            raise InputError(
                f"data={self.name}: data.root={self.root} is not as its manifest {self._manifest.path} has it: "
                f"{some(changes)}; put back what was there, or {again}"
            )
        if damaged := self._manifest.damaged:
            log.warning("data=%s: left out as damaged, says its manifest: %s", self.name, some(damaged))
        if new := sorted(pictures_under(self.folder).difference(self._manifest.table["path"].to_pylist())):
            log.warning("data=%s: left out, as its manifest does not know it: %s; %s", self.name, some(new), again)

    def drawn(self) -> Splits:
        """The splits as `split` makes them of what is there now, whatever a manifest says.

        Raises:
            InputError: the folder is missing or is laid out otherwise, or two splits share a file.
        """
        try:
            splits = self.split(self.folder)
        except InputError as error:
            raise self._complaint(str(error)) from None
        for split, files in splits.items():
            for other, others in splits.items():
                if split < other and (shared := set(files).intersection(others)):
                    raise self._complaint(f"has {min(shared).name} both in {split} and in {other}")
        if not any(splits.values()):
            raise self._complaint("has no pictures")
        return splits

    def differences(self, manifest: Manifest) -> list[str]:
        """Keys in which the configuration differs from the one that a manifest was made with, and both values."""
        ours, theirs = described(self.split), manifest.origin.split
        found = [
            f"data.split.{key}={ours.get(key)} (it has {theirs.get(key)})"
            for key in sorted(ours.keys() | theirs.keys())
            if ours.get(key) != theirs.get(key)
        ]
        named = [] if manifest.origin.name == self.name else [f"data={self.name} (it has {manifest.origin.name})"]
        return named + found

    @property
    def folder(self) -> Path:
        """`root`, which is there.

        Raises:
            InputError: it is not.
        """
        if self.root is None:
            raise InputError(f"data={self.name} needs data.root=<its folder>; expected there: {self.layout}")
        if not self.root.is_dir():
            raise self._complaint("is not a folder")
        return self.root

    @cached_property
    def _manifest(self) -> Manifest | None:
        path = self.manifest_path
        if path is None or (self.manifest == AUTO and not path.is_file()):
            return None
        manifest = Manifest.read(path, ["path", "split", "bytes", "sha256", "damaged"])
        if differences := self.differences(manifest):
            raise InputError(
                f"data={self.name}: its manifest {path} was made with other splits, asked for are "
                f"{', '.join(differences)}: leave that as it was; or make another, by the same keys and "
                f"data.manifest=<another file> to python -m src.prepare, and give that; or data.manifest=null for none"
            )
        return manifest

    @cached_property
    def _splits(self) -> Splits:
        folder, manifest = self.folder, self._manifest
        if manifest is not None:
            return {split: [folder / name for name in manifest.names(split)] for split in SPLITS}
        return self.drawn()

    def _complaint(self, problem: str) -> InputError:
        return InputError(
            f"data={self.name}: data.root={self.root} {problem}; expected there: {self.layout}; source: {self.source}"
        )


def some(things: Sequence[str]) -> str:
    """The first few of them in a line, and how many more there are."""
    shown = ", ".join(printable(thing) for thing in things[:SHOWN])
    return shown + (f" and {len(things) - SHOWN:,} more" if len(things) > SHOWN else "")


def printable(name: str) -> str:
    """A file's name in one line: what can't be printed, such as a line break, is escaped."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in name)
