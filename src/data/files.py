"""The files of a data set on this disk: found, checked and counted."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from src.data.splits import Splits
from src.errors import InputError


@dataclass(frozen=True)
class PictureFiles:
    """A data set: its folder, how its files are split, and what to tell a user who has not got them.

    Attributes:
        name: of the config, e.g. places.
        root: the data set's folder; None if the user has yet to say.
        split: one of the functions of `splits.py`, its other arguments filled in.
        layout: what `root` should hold, and `source`: where it comes from; both end up in messages.
    """

    name: str
    root: Path | None
    split: Callable[[Path], Splits]
    layout: str
    source: str

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
        """What stands beside a result on a split: the data set, how many files it has, and a hash of their names."""
        names = sha256()
        for file in self.of(split):
            names.update(f"{file.relative_to(str(self.root)).as_posix()}\n".encode())
        return {
            "name": self.name,
            "root": str(self.root),
            "split": split,
            "files": {name: len(files) for name, files in self._splits.items()},
            "sha256_of_file_list": names.hexdigest(),
        }

    @cached_property
    def _splits(self) -> Splits:
        if self.root is None:
            raise InputError(f"data={self.name} needs data.root=<its folder>; expected there: {self.layout}")
        if not self.root.is_dir():
            raise self._complaint("is not a folder")
        try:
            splits = self.split(self.root)
        except InputError as error:
            raise self._complaint(str(error)) from None
        for split, files in splits.items():
            for other, others in splits.items():
                if split < other and (shared := set(files).intersection(others)):
                    raise self._complaint(f"has {min(shared).name} both in {split} and in {other}")
        return splits

    def _complaint(self, problem: str) -> InputError:
        return InputError(
            f"data={self.name}: data.root={self.root} {problem}; expected there: {self.layout}; source: {self.source}"
        )
