"""Plan the files that a prediction writes: names, formats, and no overwriting of inputs."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from src.common.errors import InputError
from src.image_files.reading import IMAGE_SUFFIXES
from src.image_files.writing import file_format
from src.prediction.matching import InputFiles
from src.rendering.network_figures import FIGURES

FORMAT_SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "bmp": ".bmp", "tiff": ".tif"}
"""Suffixes of the values of format=."""

MAX_SHEET_ROWS = 100
"""Larger comparison sheets are hard to view and take gigabytes of memory."""


@dataclass(frozen=True)
class OutputFiles:
    """The files that are written for one image.

    Attributes:
        filled: by method.
        figures: by method and figure; empty if no figures are written.
        sheet: the comparison sheet that has this image's row; None if no sheet is written.
    """

    filled: dict[str, Path]
    figures: dict[str, dict[str, Path]]
    sheet: Path | None


def plan_outputs(
    inputs: Sequence[InputFiles],
    methods: Sequence[str],
    output: Path,
    *,
    image_format: str | None = None,
    sheet: Path | None = None,
    figures: Path | None = None,
) -> list[OutputFiles]:
    """Return the files to write for each image.

    Args:
        output: a file for one image and one method, else a directory; several methods have a subdirectory each.
        image_format: a key of `FORMAT_SUFFIXES`; None keeps the image's format, or that of the file `output`.
        sheet: a PNG file for all comparison sheets, or a directory for one sheet per image.
        figures: directory for figures of the networks; several methods have a subdirectory each.
    Raises:
        InputError: a format can't be written, two images would have the same file, or a file would be overwritten.
    """
    filled = _plan_filled([files.image for files in inputs], methods, output, image_format)
    if sheet is not None:
        _check_sheet(sheet, len(inputs))
    planned = [
        OutputFiles(
            by_method,
            {} if figures is None else _plan_figures(figures, files.label, methods),
            None if sheet is None else sheet if _is_file(sheet) else sheet / f"{files.label}.png",
        )
        for files, by_method in zip(inputs, filled, strict=True)
    ]
    _reject_overwriting(inputs, planned)
    return planned


def _plan_filled(
    images: Sequence[Path], methods: Sequence[str], output: Path, image_format: str | None
) -> list[dict[str, Path]]:
    if image_format is not None and image_format not in FORMAT_SUFFIXES:
        raise InputError(
            f"format={image_format}: must be one of {', '.join(FORMAT_SUFFIXES)}, or null to keep the images'"
        )
    if len(images) == len(methods) == 1 and not output.is_dir() and output.suffix:
        if output.suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(f"output={output}: the suffix must be one of {', '.join(sorted(IMAGE_SUFFIXES))}")
        if image_format is not None and file_format(output) != file_format(
            output.with_suffix(FORMAT_SUFFIXES[image_format])
        ):
            raise InputError(f"output={output} and format={image_format} are different formats: omit one of them")
        return [{methods[0]: output}]
    if output.is_file() or _is_file(output):
        count = f"{len(images)} images" if len(methods) == 1 else f"{len(methods)} methods"
        raise InputError(f"output={output} is one file but there are {count}: pass a directory")
    names = [image.name if image_format is None else f"{image.stem}{FORMAT_SUFFIXES[image_format]}" for image in images]
    for image, name in zip(images, names, strict=True):
        try:
            file_format(Path(name))
        except InputError as error:
            raise InputError(f"{image}: {str(error).partition(': ')[2]}") from None
    if len(set(names)) < len(names):
        raise InputError(
            f"image= has images that would be written to the same file in {output}, as they differ only in suffix or "
            "directory: run them separately"
        )
    return [{method: _method_dir(output, method, methods) / name for method in methods} for name in names]


def _plan_figures(directory: Path, label: str, methods: Sequence[str]) -> dict[str, dict[str, Path]]:
    return {
        method: {figure: _method_dir(directory, method, methods) / f"{label}_{figure}.png" for figure in FIGURES}
        for method in methods
    }


def _method_dir(directory: Path, method: str, methods: Collection[str]) -> Path:
    return directory if len(methods) == 1 else directory / method


def _is_file(path: Path) -> bool:
    """Whether a path, which may not exist yet, names an image file and not a directory."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()


def _check_sheet(sheet: Path, rows: int) -> None:
    if _is_file(sheet) and sheet.suffix.lower() != ".png":
        raise InputError(f"sheet={sheet}: a comparison sheet must be a PNG file, or a directory for one per image")
    if _is_file(sheet) and rows > MAX_SHEET_ROWS:
        raise InputError(
            f"sheet={sheet} would have {rows} rows, at most {MAX_SHEET_ROWS} are supported: pass a directory, for one "
            "sheet per image"
        )


def _reject_overwriting(inputs: Sequence[InputFiles], planned: Sequence[OutputFiles]) -> None:
    read = [path for files in inputs for path in files.paths()]
    filled = [path for files in planned for path in files.filled.values()]
    sheets = [files.sheet for files in planned if files.sheet is not None]
    figures = [path for files in planned for by_figure in files.figures.values() for path in by_figure.values()]
    for key, written in {"output": filled, "sheet": sheets, "figures": figures}.items():
        _require_disjoint(key, written, read, "an input")
    _require_disjoint("sheet", sheets, filled, "a filled image")
    _require_disjoint("figures", figures, filled, "a filled image")
    _require_disjoint("figures", figures, sheets, "a comparison sheet")


def _require_disjoint(key: str, written: Iterable[Path], protected: Iterable[Path], name: str) -> None:
    resolved = {path.resolve() for path in protected}
    for path in written:
        if path.resolve() in resolved:
            raise InputError(f"{key}={path} would overwrite {name}: choose another path")
