"""Find the image, mask and edge files of a prediction, and match them by name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.common.errors import InputError
from src.image_files.reading import IMAGE_SUFFIXES
from src.image_files.search import find_images


@dataclass(frozen=True)
class InputFiles:
    """An image file with its mask and, optionally, its edges; `label` begins the names of figures and sheets."""

    image: Path
    mask: Path
    edges: Path | None
    label: str


def find_inputs(image: str, mask: str, edges: str | None, *, one_mask_for_all: bool) -> list[InputFiles]:
    """Find and match the files of three paths, each a file, a directory or a glob pattern; two may be the same."""
    images, masks = separate_masks(list_images(image, "image"), list_images(mask, "mask"), "mask")
    edge_files = [] if edges is None else list_images(edges, "edges")
    images, edge_files = separate_masks(images, edge_files, "edges")
    mask_of = match_by_name(images, masks, "mask", one_for_all=one_mask_for_all)
    edges_of = {} if edges is None else match_by_name(images, edge_files, "edges")
    unique = len({path.stem for path in images}) == len(images)
    return [InputFiles(path, mask_of[path], edges_of.get(path), path.stem if unique else path.name) for path in images]


def list_images(path: str, key: str) -> list[Path]:
    """List, by name, the image files of a path: the file itself, a directory's (not recursive), or a pattern's.

    Hidden files are skipped, see `find_images`.
    """
    expanded = Path(path).expanduser()
    if expanded.is_file():
        return [expanded]
    is_dir = expanded.is_dir()
    root, pattern = (expanded, "*") if is_dir else (Path(expanded.anchor), str(expanded.relative_to(expanded.anchor)))
    try:
        found = sorted(find_images(root, [pattern]))
    except InputError as error:
        raise InputError(f"{key}={path} {error}") from None
    if found:
        return found
    if is_dir:
        raise InputError(f"{key}={path}: no image in this directory ({', '.join(sorted(IMAGE_SUFFIXES))})")
    raise InputError(f"{key}={path}: no such file or directory, and no image file matches it as a glob pattern")


def separate_masks(images: list[Path], others: list[Path], kind: str) -> tuple[list[Path], list[Path]]:
    """Separate images from their masks, or edges, if both paths list the same files.

    If every image is also listed as a mask, as in a shared directory, x_mask.png is the mask of x.jpg, and a file that
    is named after no image is an image. Otherwise, a file that is listed as a mask is a mask. `kind` is mask or edges.
    """
    both, stems = set(images) & set(others), {path.stem for path in images}
    if len(both) < len(images):
        return [path for path in images if path not in both], others
    matched = {path for path in both if _image_stem(path, kind) != path.stem and _image_stem(path, kind) in stems}
    if not matched:
        return images, others
    return [path for path in images if path not in matched], [path for path in others if path not in both - matched]


def match_by_name(
    images: Sequence[Path], others: Sequence[Path], kind: str, *, one_for_all: bool = False
) -> dict[Path, Path]:
    """Match each image x.jpg with the file x.*, x_<kind>.* or x_<kind>001.* (any digits).

    A single image and a single file match whatever their names are; `one_for_all` matches the only file with every
    image. `kind` is "mask" or "edges", which is also the option that lists `others`.
    """
    if one_for_all:
        if len(others) != 1:
            raise InputError(f"one_{kind}_for_all=true needs exactly one file, but {kind}= has {len(others)}")
        return dict.fromkeys(images, others[0])
    if len(images) == len(others) == 1:
        return {images[0]: others[0]}
    if len(others) == 1:
        alternative = ", or pass one_mask_for_all=true" if kind == "mask" else ""
        raise InputError(
            f"{kind}={others[0]} is one file but there are {len(images)} images: pass a directory with one file per "
            f"image, named after it{alternative}"
        )
    by_stem: dict[str, list[Path]] = {}
    for other in others:
        for stem in {other.stem, _image_stem(other, kind)}:
            by_stem.setdefault(stem, []).append(other)
    matches = {}
    for image in images:
        found = by_stem.get(image.stem, [])
        if len(found) != 1:
            names = f"{image.stem}.* or {image.stem}_{kind}.*"
            if not found:
                raise InputError(f"{image}: no file in {others[0].parent} matches {names}")
            raise InputError(f"{image}: {len(found)} files match {names}, expected one: {', '.join(map(str, found))}")
        matches[image] = found[0]
    return matches


def _image_stem(other: Path, kind: str) -> str:
    """Return the stem of the image that a file is named after; x_mask001.png, as LaMa names masks, belongs to x.png."""
    return re.sub(rf"_{kind}\d*$", "", other.stem)
