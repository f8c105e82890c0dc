"""Plan the files that a prediction writes: names, formats, and no overwriting of inputs."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from src.common.errors import InputError
from src.image_files.reading import IMAGE_SUFFIXES
from src.image_files.writing import file_format
from src.prediction.matching import InputFiles
from src.rendering.network_figures import FIGURES

T = TypeVar("T")

FORMAT_SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "bmp": ".bmp", "tiff": ".tif"}
"""Suffixes of the values of format=."""

MAX_SHEET_ROWS = 100  # larger comparison sheets are hard to view and take gigabytes of memory


@dataclass(frozen=True)
class OutputFiles:
    """The files that are written for one image."""

    filled: dict[str, Path]
    """By method, or by sample of a method: see `sample_label`."""
    figures: dict[str, dict[str, Path]]
    """By method, or by sample of a method, and figure; empty if no figures are written."""
    sheet: Path | None
    """The comparison sheet that has this image's row."""


def plan_outputs(
    inputs: Sequence[InputFiles],
    methods: Sequence[str],
    output: str,
    *,
    image_format: str | None = None,
    sheet: str | None = None,
    figures: str | None = None,
    samples: int | None = None,
) -> list[OutputFiles]:
    """Return the files to write for each image.

    Args:
        output: a file for one image and one method, else a directory; several methods have a subdirectory each. A path
            that ends with a slash is a directory.
        image_format: a key of `FORMAT_SUFFIXES`; None keeps the image's format, or that of the file `output`. Images in
            formats that are only read, such as GIF, are written as PNG.
        sheet: a PNG file for all comparison sheets, or a directory for one sheet per image.
        figures: directory for figures of the networks; several methods have a subdirectory each.
        samples: number of results of each method; their names end with _1, _2, ...; None for one result without number.
    """
    planned = []
    filled = _plan_filled([files.target for files in inputs], methods, output, image_format)
    for files, by_method in zip(inputs, filled, strict=True):
        drawn = {}
        if figures is not None:
            folders = {method: _method_dir(_expand(figures), method, methods) for method in methods}
            drawn = {m: {f: folder / f"{files.label}_{f}.png" for f in FIGURES} for m, folder in folders.items()}
        row_of = None if sheet is None else _expand(sheet) / ("" if _is_file(sheet) else f"{files.label}.png")
        if samples is None:
            planned.append(OutputFiles(by_method, drawn, row_of))
        else:
            numbered = _number(drawn, samples, lambda of, n: {f: _numbered(path, n) for f, path in of.items()})
            planned.append(OutputFiles(_number(by_method, samples, _numbered), numbered, row_of))
    if sheet is not None and _is_file(sheet):
        if not sheet.lower().endswith(".png"):
            raise InputError(f"sheet={sheet}: a comparison sheet must be a PNG file, or a directory for one per image")
        if len(inputs) > MAX_SHEET_ROWS:
            raise InputError(
                f"sheet={sheet} would have {len(inputs)} rows, at most {MAX_SHEET_ROWS} are supported: pass a "
                "directory, for one sheet per image"
            )
    _reject_overwriting(inputs, planned)
    return planned


def sample_label(method: str, number: int) -> str:
    """Return the name of a method's sample, counted from 1, in outputs and on comparison sheets."""
    return f"{method} {number}"


def _numbered(path: Path, number: int) -> Path:
    return path.with_stem(f"{path.stem}_{number}")


def _number(by_method: Mapping[str, T], samples: int, number: Callable[[T, int], T]) -> dict[str, T]:
    """Return what `number` makes for each sample of each method, by `sample_label`."""
    return {sample_label(m, n): number(of, n) for m, of in by_method.items() for n in range(1, samples + 1)}


def _plan_filled(
    images: Sequence[Path], methods: Sequence[str], output: str, image_format: str | None
) -> list[dict[str, Path]]:
    if image_format is not None and image_format not in FORMAT_SUFFIXES:
        raise InputError(
            f"format={image_format}: must be one of {', '.join(FORMAT_SUFFIXES)}, or null to keep the images'"
        )
    path, is_directory = _expand(output), _is_directory(output)
    if len(images) == len(methods) == 1 and not is_directory and path.suffix:
        try:
            written_format = file_format(path)
        except InputError as error:
            raise InputError(f"output={error}; end a directory's name with /") from None
        if image_format is not None and written_format != image_format.upper():
            raise InputError(f"output={output} and format={image_format} are different formats: omit one of them")
        return [{methods[0]: path}]
    if path.is_file() or _is_file(output):
        count = f"{len(images)} images" if len(methods) == 1 else f"{len(methods)} methods"
        raise InputError(f"output={output} is one file but there are {count}: pass a directory")
    suffixes = [_written_suffix(image) if image_format is None else FORMAT_SUFFIXES[image_format] for image in images]
    names = [str(image.with_suffix(suffix)) for image, suffix in zip(images, suffixes, strict=True)]
    if len(set(names)) < len(names):
        raise InputError(
            f"image= has images that would be written to the same file in {output}, as they differ only in suffix or "
            "directory: run them separately"
        )
    return [{method: _method_dir(path, method, methods) / name for method in methods} for name in names]


def _method_dir(directory: Path, method: str, methods: Collection[str]) -> Path:
    return directory if len(methods) == 1 else directory / method


def _written_suffix(image: Path) -> str:
    """Return the suffix of an image's result: its own, or .png for formats that are read but not written."""
    try:
        file_format(image)
    except InputError:
        if image.suffix.lower() not in IMAGE_SUFFIXES:
            raise
        return ".png"
    return image.suffix


def _expand(path: str) -> Path:
    return Path(path).expanduser()


def _is_directory(path: str) -> bool:
    """Whether a path, which may not exist yet, is marked as a directory; run1.0 has no suffix of a format."""
    return path.endswith("/") or _expand(path).is_dir() or Path(path).suffix[1:].isdigit()


def _is_file(path: str) -> bool:
    """Whether a path, which may not exist yet, names an image file and not a directory."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES and not _is_directory(path)


def _reject_overwriting(inputs: Sequence[InputFiles], planned: Sequence[OutputFiles]) -> None:
    protected = {path.resolve(): "an input" for f in inputs for path in (f.image, f.mask, f.edges) if path is not None}
    written = {
        "output": ("a filled image", [path for files in planned for path in files.filled.values()]),
        "sheet": ("a comparison sheet", [files.sheet for files in planned if files.sheet is not None]),
        "figures": ("a figure", [path for files in planned for of in files.figures.values() for path in of.values()]),
    }
    for key, (name, paths) in written.items():
        for path in paths:
            if path.resolve() in protected:
                raise InputError(f"{key}={path} would overwrite {protected[path.resolve()]}: choose another path")
        protected |= {path.resolve(): name for path in paths}
