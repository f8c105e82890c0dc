"""Which mask belongs to which picture: what `predict` is given on the command line becomes pairs of files."""

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
    found = sorted(p for p in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if p.is_file())
    if not found:
        raise InputError(f"{key}={place}: no such file or folder, and no file matches it as a pattern")
    return found


def pair_with_masks(images: list[Path], masks: list[Path], one_mask_for_all: bool) -> list[tuple[Path, Path]]:
    """Give every picture its mask: the one of the same name without suffix, or of that name followed by `_mask`.

    One picture and one mask belong together whatever they are called. One mask serves several pictures only if told to.

    Raises:
        InputError: a picture has no mask or two, or one mask stands for several pictures unasked.
    """
    if one_mask_for_all:
        if len(masks) != 1:
            raise InputError(f"one_mask_for_all=true wants one mask file, mask= names {len(masks)}")
        return [(image, masks[0]) for image in images]
    if len(images) == len(masks) == 1:
        return [(images[0], masks[0])]
    if len(masks) == 1:
        raise InputError(
            f"{masks[0]} is one mask for {len(images)} pictures: name a folder of masks called like the pictures, "
            "or say one_mask_for_all=true"
        )
    pairs = []
    for image in images:
        own = [mask for mask in masks if mask.stem in (image.stem, f"{image.stem}_mask")]
        if len(own) != 1:
            wanted = f"{image.stem}.* or {image.stem}_mask.*"
            raise InputError(
                f"{image}: {len(own) or 'no'} masks called {wanted} where one is needed, {own or masks[0].parent}"
            )
        pairs.append((image, own[0]))
    return pairs
