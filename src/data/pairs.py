"""Which mask, and which edges, belong to which picture: what `predict` is given becomes pairs of files."""

from pathlib import Path

from src.data.readers import PICTURE_SUFFIXES
from src.errors import InputError


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
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
        if not found:
            raise InputError(f"{key}={place}: no picture in this folder ({', '.join(sorted(PICTURE_SUFFIXES))})")
        return found
    try:
        found = sorted(p for p in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if p.is_file())
    except ValueError as error:  # as of ** within a name
        raise InputError(f"{key}={place}: is no file or folder, nor a pattern ({error})") from error
    if not found:
        raise InputError(f"{key}={place}: no such file or folder, and no file matches it as a pattern")
    return found


def paired(images: list[Path], others: list[Path], kind: str, one_for_all: bool = False) -> list[tuple[Path, Path]]:
    """Give every picture its mask, or its edges: the file of its name without suffix, or of that name and `_<kind>`.

    One picture and one file belong together whatever they are called. One serves several pictures only if told to.

    Args:
        kind: "mask" or "edges", the key that named `others`.
    Raises:
        InputError: a picture has no such file or two, or one file stands for several pictures unasked.
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
    pairs = []
    for image in images:
        own = [other for other in others if other.stem in (image.stem, f"{image.stem}_{kind}")]
        if len(own) != 1:
            wanted = f"{image.stem}.* or {image.stem}_{kind}.*"
            raise InputError(
                f"{image}: {len(own) or 'no'} files called {wanted} where one is needed, {own or others[0].parent}"
            )
        pairs.append((image, own[0]))
    return pairs
