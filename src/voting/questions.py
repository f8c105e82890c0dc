"""What a study asks: pictures with a hole, what every method made of them, and the order in which each voter sees it.

Orders are hashes, not draws: they are the same on every machine, with every version of every library, so that a voter
who comes back, even to a server that was stopped in between, finds everything where it was.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase as LETTERS

from src.common.errors import InputError
from src.image_files.reading import IMAGE_SUFFIXES, UInt8Array, read_image

INPUT = "input"
"""The folder of the pictures with their holes; every other folder beside it is a method."""


@dataclass(frozen=True)
class Question:
    """One picture: its name, the input with its hole, and every method's result; all (H, W, 3) and of one size."""

    name: str
    input: UInt8Array
    results: Mapping[str, UInt8Array]

    @property
    def sha256(self) -> str:
        """Of all pixels, whatever files they came in."""
        pixels = hashlib.sha256(str(self.input.shape).encode() + self.input.tobytes())
        for _, result in sorted(self.results.items()):
            pixels.update(result.tobytes())
        return pixels.hexdigest()


@dataclass(frozen=True)
class Study:
    """Questions about the same methods, and the seed of their orders."""

    methods: tuple[str, ...]
    questions: tuple[Question, ...]
    seed: int

    @property
    def facts(self) -> dict[str, object]:
        """What makes it this study and no other: `methods`, `seed`, and the pixels' SHA-256 by picture."""
        pictures = {question.name: question.sha256 for question in self.questions}
        return {"methods": list(self.methods), "seed": self.seed, "pictures": pictures}

    def questions_for(self, voter: str) -> list[Question]:
        """All questions, in this voter's own order."""
        names = _shuffled((question.name for question in self.questions), self.seed, voter)
        by_name = {question.name: question for question in self.questions}
        return [by_name[name] for name in names]

    def methods_for(self, voter: str, question: Question) -> list[str]:
        """All methods, in the order in which this voter sees their results."""
        return _shuffled(self.methods, self.seed, voter, question.name)


def read_study(folder: Path, count: int | None, seed: int) -> Study:
    """Read a folder with a subfolder `input` and one a method, in which files of one name belong together.

    Suffixes don't count, and neither do pictures that `input` does not have.

    Args:
        count: how many pictures to draw with `seed`; None for all.
    Raises:
        InputError: a folder or a file is missing, unreadable or of another size; the message names it.
    """
    if not (folder / INPUT).is_dir():
        raise InputError(
            f"pictures={folder}: no folder {INPUT}/ in it, with the pictures and their holes as voters see them"
        )
    methods = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != "." and p.name != INPUT))
    if not 2 <= len(methods) <= len(LETTERS):
        raise InputError(
            f"pictures={folder}: voters choose between 2 to {len(LETTERS)} methods, each a folder beside {INPUT}/; "
            f"got {', '.join(methods) or 'none'}"
        )
    inputs = _pictures(folder / INPUT)
    results = {method: _pictures(folder / method) for method in methods}
    for method, found in results.items():
        if missing := sorted(inputs.keys() - found.keys()):
            others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
            raise InputError(f"{folder / method} has no picture called {missing[0]}{others}, which {INPUT}/ has")
    if not inputs or (count is not None and not 1 <= count <= len(inputs)):
        raise InputError(f"questions={count}: {folder / INPUT} has {len(inputs)} pictures to draw from")
    drawn = sorted(_shuffled(inputs, seed)[:count])
    return Study(
        methods, tuple(_question(name, inputs[name], {m: results[m][name] for m in methods}) for name in drawn), seed
    )


def _pictures(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise InputError(f"{found[path.stem]} and {path.name} are both called {path.stem}: keep one of them")
        found[path.stem] = path
    return found


def _question(name: str, input_path: Path, result_paths: Mapping[str, Path]) -> Question:
    shown = read_image(input_path)
    results = {method: read_image(path) for method, path in result_paths.items()}
    for method, result in results.items():
        if result.shape != shown.shape:
            sizes = [f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in (result, shown)]
            raise InputError(
                f"{result_paths[method]} is {sizes[0]}, {input_path} is {sizes[1]}: a result has its input's size"
            )
    return Question(name, shown, results)


def _shuffled(items: Iterable[str], *key: int | str) -> list[str]:
    """In the order of hashes of `key` and item: as good as random, and a function of the two alone."""
    return sorted(items, key=lambda item: hashlib.sha256(json.dumps([*key, item]).encode()).digest())
