"""The inputs of a prediction: images with their masks and edges, and the names of their results."""

from dataclasses import dataclass
from pathlib import Path

from src.common.errors import InputError
from src.image_files.matching import find_files, match_by_name, separate_masks


@dataclass(frozen=True)
class InputFiles:
    """An image file with one mask and, optionally, its edges.

    Attributes:
        target: relative path of the result: the image's, with the mask's stem if the image has several masks.
        label: begins the names of figures and sheets: `target`, without its suffix if it is unique without it.
    """

    image: Path
    mask: Path
    edges: Path | None
    target: Path
    label: str


def find_inputs(
    image: str, mask: str, edges: str | None, *, one_mask_for_all: bool
) -> tuple[list[InputFiles], list[Path]]:
    """Find and match the files of three paths, each a file, a directory or a glob pattern; two may be the same.

    Subdirectories of a directory are read if `mask` has masks in a subdirectory of the same name.

    Returns:
        The inputs, and the images that are left out as their subdirectory has no masks.
    """
    images, masks = separate_masks(find_files(image, "image"), find_files(mask, "mask"), "mask")
    edge_files = None
    if edges is not None:
        images, edge_files = separate_masks(images, find_files(edges, "edges"), "edges")
    with_masks = {".", *(masks.parent(path) for path in masks.paths)}
    is_directory = Path(image).expanduser().is_dir()
    used = images.only(lambda path: not is_directory or images.parent(path) in with_masks)
    if not used.paths:
        raise InputError(f"image={image}: the images are in subdirectories that mask={mask} does not have")
    masks_of = match_by_name(used, masks, "mask", one_for_all=one_mask_for_all)
    edges_of = {} if edge_files is None else match_by_name(used, edge_files, "edges")
    pairs = []
    for path in used.paths:
        for one in masks_of[path]:
            name = path.name if len(masks_of[path]) == 1 else f"{one.stem}{path.suffix}"
            pairs.append((path, one, Path(used.parent(path)) / name))
    unique = len({target.with_suffix("") for *_, target in pairs}) == len(pairs)
    inputs = [
        InputFiles(
            path,
            one,
            next(iter(edges_of.get(path, [])), None),
            target,
            str(target.with_suffix("") if unique else target),
        )
        for path, one, target in pairs
    ]
    return inputs, [path for path in images.paths if path not in used.paths]
