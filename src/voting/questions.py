"""The questions of a study: images with a hole, each method's result, and the order in which each voter sees them.

Orders are sorted by hashes instead of drawn from a random generator: they do not depend on the machine or on library
versions, so a returning voter sees the same order even after a restart of the server.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase as LETTERS

from src.common.errors import InputError
from src.image_files.reading import UInt8Array, read_image
from src.image_files.search import find_images

INPUT = "input"
"""Name of the subdirectory with the images and their holes; every other subdirectory is a method."""


@dataclass(frozen=True)
class Question:
    """One image: its name, the input with its hole, and each method's result; all (H, W, 3) of the same size."""

    name: str
    input: UInt8Array
    results: Mapping[str, UInt8Array]

    @property
    def sha256(self) -> str:
        """SHA-256 of all pixels, whatever the file format."""
        pixels = hashlib.sha256(str(self.input.shape).encode() + self.input.tobytes())
        for _, result in sorted(self.results.items()):
            pixels.update(result.tobytes())
        return pixels.hexdigest()


@dataclass(frozen=True)
class Study:
    """Questions about the same methods, and the seed that decides their order."""

    methods: tuple[str, ...]
    questions: tuple[Question, ...]
    seed: int

    @property
    def facts(self) -> dict[str, object]:
        """What identifies the study: `methods`, `seed`, and the SHA-256 of the pixels of each image."""
        images = {question.name: question.sha256 for question in self.questions}
        return {"methods": list(self.methods), "seed": self.seed, "images": images}

    def questions_for(self, voter: str) -> list[Question]:
        """Return all questions in this voter's order."""
        names = _shuffled((question.name for question in self.questions), self.seed, voter)
        by_name = {question.name: question for question in self.questions}
        return [by_name[name] for name in names]

    def methods_for(self, voter: str, question: Question) -> list[str]:
        """Return all methods in the order in which this voter sees their results."""
        return _shuffled(self.methods, self.seed, voter, question.name)


def read_study(directory: Path, count: int | None, seed: int) -> Study:
    """Read a directory with a subdirectory `input` and one for each method; files are matched by name without suffix.

    Results for images that are not in `input` are ignored.

    Args:
        count: number of images to draw with `seed`; None for all.
    Raises:
        InputError: a directory or file is missing, unreadable or of another size; the message names it.
    """
    if not (directory / INPUT).is_dir():
        raise InputError(
            f"images={directory} has no subdirectory {INPUT}/: create it with the images and their visible holes"
        )
    methods = tuple(sorted(p.name for p in directory.iterdir() if p.is_dir() and p.name[0] != "." and p.name != INPUT))
    if not 2 <= len(methods) <= len(LETTERS):
        raise InputError(
            f"images={directory} must have 2 to {len(LETTERS)} methods, each a subdirectory next to {INPUT}/, "
            f"got {', '.join(methods) or 'none'}"
        )
    inputs = _image_paths(directory / INPUT)
    results = {method: _image_paths(directory / method) for method in methods}
    for method, found in results.items():
        if missing := sorted(inputs.keys() - found.keys()):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise InputError(f"{directory / method} has no result for {missing[0]}{more} of {INPUT}/: add it")
    if not inputs or (count is not None and not 1 <= count <= len(inputs)):
        raise InputError(
            f"questions={count} must be between 1 and the number of images: {directory / INPUT} has {len(inputs)}"
        )
    drawn = sorted(_shuffled(inputs, seed)[:count])
    return Study(
        methods, tuple(_question(name, inputs[name], {m: results[m][name] for m in methods}) for name in drawn), seed
    )


def _image_paths(directory: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(find_images(directory, ["*"])):
        if path.stem in found:
            raise InputError(f"{found[path.stem]} and {path.name} have the same name {path.stem}: keep one of them")
        found[path.stem] = path
    return found


def _question(name: str, input_path: Path, result_paths: Mapping[str, Path]) -> Question:
    shown = read_image(input_path)
    results = {method: read_image(path) for method, path in result_paths.items()}
    for method, result in results.items():
        if result.shape != shown.shape:
            sizes = [f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in (result, shown)]
            raise InputError(
                f"{result_paths[method]} is {sizes[0]} but {input_path} is {sizes[1]}: resize the result to its input"
            )
    return Question(name, shown, results)


def _shuffled(items: Iterable[str], *key: int | str) -> list[str]:
    """Sort items by the hash of `key` and item: a pseudo-random order that depends on nothing else."""
    return sorted(items, key=lambda item: hashlib.sha256(json.dumps([*key, item]).encode()).digest())
