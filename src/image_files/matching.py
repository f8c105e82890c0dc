"""Find image files, and match them with masks, or edge maps, by name."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

from src.common.errors import InputError
from src.image_files.reading import IMAGE_SUFFIXES
from src.image_files.search import find_images


@dataclass(frozen=True)
class FoundFiles:
    """Files with the directory that they were found in: subdirectories of `root` are kept in the results."""

    root: Path
    paths: tuple[Path, ...]

    def parent(self, path: Path) -> str:
        """Return a file's subdirectory, "." for none."""
        return path.parent.relative_to(self.root).as_posix()

    @cached_property
    def parents(self) -> frozenset[str]:
        """All files' subdirectories."""
        return frozenset(map(self.parent, self.paths))

    def only(self, keep: Callable[[Path], bool]) -> "FoundFiles":
        """Return the files that a function selects."""
        return FoundFiles(self.root, tuple(path for path in self.paths if keep(path)))


def find_files(path: str, key: str) -> FoundFiles:
    """Find the image files of a path: the file itself, a directory's and its subdirectories', or a pattern's.

    Hidden files are skipped, see `find_images`.
    """
    expanded = Path(path).expanduser()
    if expanded.is_file():
        return FoundFiles(expanded.parent, (expanded,))
    is_directory = expanded.is_dir()
    root = expanded if is_directory else Path(*expanded.parts[: _first_pattern(expanded.parts)])
    pattern = "**/*" if is_directory else expanded.relative_to(root).as_posix()
    try:
        found = sorted(find_images(root, [pattern]))
    except InputError as error:
        raise InputError(f"{key}={path} {error}") from None
    if found:
        return FoundFiles(root, tuple(found))
    if is_directory:
        raise InputError(f"{key}={path}: no image in this directory ({', '.join(sorted(IMAGE_SUFFIXES))})")
    raise InputError(f"{key}={path}: no such file or directory, and no image file matches it as a glob pattern")


def separate_masks(images: FoundFiles, others: FoundFiles, kind: str) -> tuple[FoundFiles, FoundFiles]:
    """Separate images from their masks, or edges, if both paths list the same files.

    If every image is also listed as a mask, as in a shared directory, x_mask.png is the mask of x.jpg, and a file that
    is named after no image is an image. Otherwise, a file that is listed as a mask is a mask. `kind` is mask or edges.
    """
    both = set(images.paths) & set(others.paths)
    names = {(images.parent(path), plain_stem(path)) for path in images.paths}
    if len(both) < len(images.paths):
        return images.only(lambda path: path not in both), others
    matched = {path for path in both if any((images.parent(path), stem) in names for stem in image_stems(path, kind))}
    if not matched:
        return images, others
    return images.only(lambda path: path not in matched), others.only(lambda path: path not in both - matched)


def match_by_name(
    images: FoundFiles, others: FoundFiles, kind: str, *, one_for_all: bool = False
) -> Mapping[Path, Sequence[Path]]:
    """Match each image x.jpg with x.*, or with the files that `image_stems` derives from it, in the same subdirectory.

    A single image and a single file match whatever their names are; `one_for_all` matches the only file with every
    image. An image may have several masks, in the order of their names, but one edge map. Files of one directory match
    images of any. `kind` is "mask" or "edges", which is also the option that lists `others`.
    """
    if one_for_all:
        if len(others.paths) != 1:
            raise InputError(f"one_{kind}_for_all=true needs exactly one file, but {kind}= has {len(others.paths)}")
        return dict.fromkeys(images.paths, others.paths)
    if len(images.paths) == len(others.paths) == 1:
        return {images.paths[0]: others.paths}
    if len(others.paths) == 1:
        alternative = ", or pass one_mask_for_all=true" if kind == "mask" else ""
        raise InputError(
            f"{kind}={others.paths[0]} is one file but there are {len(images.paths)} images: pass a directory with one "
            f"file per image, named after it{alternative}"
        )
    matches = group_by_name(images, others, kind)
    for image, found in matches.items():
        names = f"{image.stem}.* or {image.stem}_{kind}.*"
        if not found:
            raise InputError(f"{image}: no file in {others.root / _searched(images, others, image)} matches {names}")
        if len(found) > 1 and kind != "mask":
            raise InputError(f"{image}: {len(found)} files match {names}, expected one: {', '.join(map(str, found))}")
    return matches


def group_by_name(images: FoundFiles, others: FoundFiles, kind: str) -> Mapping[Path, Sequence[Path]]:
    """Return the files that are named after each image, as `match_by_name` matches several; perhaps none."""
    by_name: dict[tuple[str, str], list[Path]] = {}
    image_names = {plain_stem(image) for image in images.paths}
    for other in others.paths:
        own = plain_stem(other)
        for stem in {own} if own in image_names else image_stems(other, kind):
            by_name.setdefault((others.parent(other), stem), []).append(other)
    return {image: by_name.get((_searched(images, others, image), plain_stem(image)), []) for image in images.paths}


def _searched(images: FoundFiles, others: FoundFiles, image: Path) -> str:
    """Return the subdirectory of the files that an image is matched with."""
    parents = others.parents
    return next(iter(parents)) if len(parents) == 1 else images.parent(image)


def _first_pattern(parts: Sequence[str]) -> int:
    """Return the index of the first part with a wildcard, or of the last part."""
    return next((i for i, part in enumerate(parts) if set(part) & set("*?[")), len(parts) - 1)


def plain_stem(path: PurePath) -> str:
    """Return a file's name without its suffix, with composed letters: macOS stores é as e and an accent."""
    return unicodedata.normalize("NFC", path.stem)


def image_stems(path: PurePath, kind: str) -> set[str]:
    """Return the stems of the images that a file may be named after, besides its own.

    `kind` is "mask" or "edges". For x.png these are x_mask, x_mask001, x_mask_001, x-mask, x_Mask, x.mask, mask_x and,
    with the image's suffix, x.png.png and x.png_mask.
    """
    stem, of_name = plain_stem(path), rf"(?i:{kind.removesuffix('s')}s?)"
    stems = {stem}
    for pattern in (rf"(.+?)[ _.-]{of_name}[ _-]?\d*", rf"{of_name}[ _.-](.+)"):
        if match := re.fullmatch(pattern, stem):
            stems.add(match[1])
    stems |= {plain_stem(PurePath(one)) for one in stems if PurePath(one).suffix.lower() in IMAGE_SUFFIXES}
    return stems - {stem}
