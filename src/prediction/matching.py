"""Which mask, and which edges, belong to which picture: what `predict` is given becomes pairs of files."""

import re
from pathlib import Path

from src.common.errors import InputError
from src.image_files.reading import IMAGE_SUFFIXES


def pictures_at(place: str, key: str) -> list[Path]:
    """The pictures that a path names, by name: one file, a folder's (not its subfolders'), or a pattern's.

    Args:
        key: what the user called it, for messages.
    Raises:
        InputError: there is none.
    """
    path = Path(place).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise InputError(f"{key}={place}: no picture in this folder ({', '.join(sorted(IMAGE_SUFFIXES))})")
        return found
    try:
        found = sorted(p for p in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if p.is_file())
    except ValueError as error:  # as of ** within a name
        raise InputError(f"{key}={place}: is no file or folder, nor a pattern ({error})") from error
    if not found:
        raise InputError(f"{key}={place}: no such file or folder, and no file matches it as a pattern")
    return found


def told_apart(images: list[Path], others: list[Path], kind: str) -> tuple[list[Path], list[Path]]:
    """Pictures and their masks, or edges, where the same files are named as both.

    If all pictures are, as those of one folder, x_mask.png is the mask of x.jpg and no picture, and what is nobody's
    mask is none; else what is named as a mask is one.

    Args:
        kind: "mask" or "edges".
    """
    both, stems = set(images) & set(others), {path.stem for path in images}
    if len(both) < len(images):
        return [path for path in images if path not in both], others
    theirs = {path for path in both if _whose(path, kind) != path.stem and _whose(path, kind) in stems}
    if not theirs:
        return images, others
    return [path for path in images if path not in theirs], [path for path in others if path not in both - theirs]


def paired(images: list[Path], others: list[Path], kind: str, one_for_all: bool = False) -> list[tuple[Path, Path]]:
    """Give every picture its mask, or its edges: of x.jpg the file x.*, x_<kind>.* or x_<kind>001.*, in any digits.

    One picture and one file belong together whatever they are called. One serves several pictures only if told to.

    Args:
        kind: "mask" or "edges", the key that named `others`.
    Raises:
        InputError: a picture has no such file or several, or one file stands for several pictures unasked.
    """
    if one_for_all:
        if len(others) != 1:
            raise InputError(f"one_{kind}_for_all=true wants one file, {kind}= names {len(others)}")
        return [(image, others[0]) for image in images]
    if len(images) == len(others) == 1:
        return [(images[0], others[0])]
    if len(others) == 1:
        unless = "" if kind != "mask" else ", or say one_mask_for_all=true"
        raise InputError(
            f"{kind}={others[0]} is one file for {len(images)} pictures: name a folder of files called like the "
            f"pictures{unless}"
        )
    of_stem: dict[str, list[Path]] = {}
    for other in others:
        for stem in {other.stem, _whose(other, kind)}:
            of_stem.setdefault(stem, []).append(other)
    pairs = []
    for image in images:
        own = of_stem.get(image.stem, [])
        if len(own) != 1:
            wanted = f"{image.stem}.* or {image.stem}_{kind}.*"
            found = ", ".join(map(str, own)) or others[0].parent
            raise InputError(f"{image}: {len(own) or 'no'} files called {wanted} where one is needed, {found}")
        pairs.append((image, own[0]))
    return pairs


def _whose(other: Path, kind: str) -> str:
    """The stem of the picture that a file is called after; with digits as where LaMa is run: x_mask001.png of x.png."""
    return re.sub(rf"_{kind}\d*$", "", other.stem)
