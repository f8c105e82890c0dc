"""Where filled pictures go: by what name, in which format, and never over what they were made of."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from src.common.errors import InputError
from src.image_files.reading import IMAGE_SUFFIXES
from src.image_files.writing import file_format

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "bmp": ".bmp", "tiff": ".tif"}
"""By what format= calls them."""


def output_paths(
    images: Sequence[Path], methods: Sequence[str], output: Path, asked: str | None
) -> list[dict[str, Path]]:
    """Every picture's files, by method: of its own name, in `output`, or in a folder a method if there are several.

    Args:
        output: a folder; or a file's name where there is one picture and one method.
        asked: a format of `SUFFIXES`; None keeps the pictures', or what the file's name says.
    Raises:
        InputError: a format is not to be written, `output` is a file for several, or two pictures would share one.
    """
    if asked is not None and asked not in SUFFIXES:
        raise InputError(f"format={asked}: formats are {', '.join(SUFFIXES)}; null keeps the pictures'")
    if len(images) == len(methods) == 1 and not output.is_dir() and output.suffix:
        if output.suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(f"output={output}: the suffix must be one of {', '.join(sorted(IMAGE_SUFFIXES))}")
        if asked is not None and file_format(output) != file_format(output.with_suffix(SUFFIXES[asked])):
            raise InputError(f"output={output} and format={asked} are two formats: leave one of them out")
        return [{methods[0]: output}]
    if output.is_file() or (output.suffix.lower() in IMAGE_SUFFIXES and not output.is_dir()):
        count = f"{len(images)} pictures" if len(methods) == 1 else f"{len(methods)} methods"
        raise InputError(f"output={output} is one file for {count}: name a folder")
    names = [image.name if asked is None else f"{image.stem}{SUFFIXES[asked]}" for image in images]
    for image, name in zip(images, names, strict=True):
        try:
            file_format(Path(name))
        except InputError as error:
            raise InputError(f"{image}: {str(error).partition(': ')[2]}") from None
    if len(set(names)) < len(names):
        raise InputError(
            "image= holds pictures of one name, with several suffixes or from several folders, which would share a "
            f"file in {output}"
        )
    folders = {method: output if len(methods) == 1 else output / method for method in methods}
    return [{method: folder / name for method, folder in folders.items()} for name in names]


def labels(images: Sequence[Path]) -> list[str]:
    """What files beside a picture's are called after: its stem, or its name where stems are alike."""
    stems = [image.stem for image in images]
    return stems if len(set(stems)) == len(stems) else [image.name for image in images]


def figure_path(folder: Path, label: str, figure: str, method: str, methods: Collection[str]) -> Path:
    """Where a drawing of what a method did inside goes: in `folder`, or in one a method if there are several."""
    return (folder if len(methods) == 1 else folder / method) / f"{label}_{figure}.png"


def refuse_overwriting(key: str, written: Iterable[Path], kept: Iterable[Path], called: str = "its own input") -> None:
    """Refuse to write over what is read, or over what else is written.

    Args:
        called: what `kept` are, in the message.
    Raises:
        InputError: it names the file.
    """
    taken = {path.resolve() for path in kept}
    for path in written:
        if path.resolve() in taken:
            raise InputError(f"{key}={path} would overwrite {called}")
