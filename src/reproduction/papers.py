"""What the papers print: their tables and figures as experiments/ holds them, each with the rows that reproduce it."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from src.common.errors import InputError

KINDS = {
    "training": "rows are trained and evaluated",
    "benchmark": "rows are timed",
    "votes": "people choose between rows",
    "unprinted": "rows are trained and evaluated; the paper tells of them without numbers",
}
MEASURES = ("ms", "parameters_m")
"""What tables whose rows are timed have of ours: milliseconds a picture, millions of the network's parameters."""

DEVICES = ("cuda", "cpu")
SHOWS = ("comparison", "attention_maps", "updated_masks", "features", "edges", "attention", "stages")
DIRECTIONS = ("higher", "lower")

T = TypeVar("T")


@dataclass(frozen=True)
class PaperMetric:
    """A column of a table.

    Attributes:
        direction: which values are better, `higher` or `lower`.
        decimals: of the printed values.
        ours: the name of a score of this suite with that definition; None where there is none, and then `why`.
        factor: what our score is multiplied by to be in the printed unit.
        device: what times are of, one of `DEVICES`, where the paper has columns for both; None where it has one column,
            which is of whatever device ours are timed on.
        definition: the paper's words.
        printed: whether the paper has this column; False for a second definition of ours beside it, for which rows
            have no values.
    """

    name: str
    direction: str
    ours: str | None
    unit: str | None = None
    decimals: int | None = None
    factor: float = 1.0
    device: str | None = None
    why: str | None = None
    definition: str | None = None
    printed: bool = True

    def __post_init__(self) -> None:
        _one_of("direction", self.direction, DIRECTIONS)
        _reason("ours", self.ours, self.why)
        if self.device is not None:
            _one_of("device", self.device, DEVICES)
            if self.ours != "ms":
                raise InputError(f"{self.name} has a device: then ours must be ms, got {self.ours!r}")


@dataclass(frozen=True)
class PaperRow:
    """A row of a table.

    Attributes:
        method: as printed.
        row: name of its configuration in the table's folder; None where the method is not built here, and then `why`.
        reference: whether an ablation's other rows are compared with this one.
        values: printed, by metric and bin; None where nothing is printed, and then `unprinted` says why.
    """

    method: str
    row: str | None
    values: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    description: str | None = None
    reference: bool = False
    why: str | None = None
    unprinted: str | None = None

    def __post_init__(self) -> None:
        _reason("row", self.row, self.why)
        if any(value is None for values in self.values.values() for value in values.values()) and not self.unprinted:
            raise InputError(f"{self.method} has values that are null: say why in unprinted")


@dataclass(frozen=True)
class Choice:
    """What a paper leaves open."""

    open: str
    choice: str
    reason: str


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper, or numbers of its text.

    Attributes:
        kind: one of `KINDS`.
        data, mask: configurations of conf/data and conf/mask; None where the paper names none.
        protocol: the paper's facts.
        bins: of hole ratios, as `bin_name` has them, or others as printed, or `all`.
        side_px: of the square pictures that a benchmark's rows are timed on; None for other kinds.
        test_size: (H, W) of the test images in px; None where they are of the training's size.
        test_mask: of conf/mask, what rows are tested on; None where that is `mask`, on which they train.
    """

    title: str
    paper: str
    source: str
    kind: str
    data: str | None
    mask: str | None
    protocol: Mapping[str, str]
    choices: tuple[Choice, ...]
    bins: tuple[str, ...]
    metrics: tuple[PaperMetric, ...]
    rows: tuple[PaperRow, ...]
    notes: tuple[str, ...] = ()
    side_px: int | None = None
    test_size: tuple[int, int] | None = None
    test_mask: str | None = None

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, KINDS)
        self._refuse_half_a_benchmark()
        self._refuse_a_test_without_runs()
        if sum(row.reference for row in self.rows) > 1:
            raise InputError("more than one row is the reference")
        metrics = {metric.name for metric in self.metrics if metric.printed}
        for row in self.rows:
            if row.values and row.values.keys() != metrics:
                raise InputError(f"{row.method} has values of {sorted(row.values)}, the table's are {sorted(metrics)}")
            for name, values in row.values.items():
                if set(values) - set(self.bins):
                    raise InputError(f"{row.method}, {name}: bins must be of {self.bins}, got {list(values)}")

    def _refuse_a_test_without_runs(self) -> None:
        size = self.test_size
        is_size = isinstance(size, tuple) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
        if not (size is None or is_size):
            raise InputError(f"test_size must be [height, width] in pixels, got {size!r}")
        if self.kind == "benchmark" and (size is not None or self.test_mask is not None):
            raise InputError("a benchmark tests nothing: it has side_px, and neither test_size nor test_mask")

    def _refuse_half_a_benchmark(self) -> None:
        timed, side = self.kind == "benchmark", self.side_px
        if not (type(side) is int and side > 0 if timed else side is None):
            raise InputError(f"a benchmark needs side_px, pixels, and no other table has it; got {side!r}")
        if timed and "hardware" not in self.protocol:
            raise InputError("a benchmark's protocol names the hardware of the printed times")
        for metric in self.metrics:
            if metric.ours is not None and (metric.ours in MEASURES) != timed:
                raise InputError(
                    f"{metric.name}: ours is one of {', '.join(MEASURES)} in a benchmark, and in no other table; "
                    f"got {metric.ours!r}"
                )


@dataclass(frozen=True)
class FigureRow:
    """A column of a comparison, or the model whose inside a figure shows; `row` as `<table>/<row>` of the paper."""

    method: str
    row: str | None
    why: str | None = None
    description: str | None = None

    def __post_init__(self) -> None:
        _reason("row", self.row, self.why)


@dataclass(frozen=True)
class PaperFigure:
    """A figure of a paper.

    Attributes:
        shows: one of `SHOWS`.
        data, mask: as of `PaperTable`.
    """

    title: str
    paper: str
    source: str
    kind: str
    data: str | None
    mask: str | None
    shows: str
    rows: tuple[FigureRow, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _one_of("shows", self.shows, SHOWS)
        built = [row.row for row in self.rows if row.row is not None]
        if len({row.method for row in self.rows}) < len(self.rows) or len(set(built)) < len(built):
            raise InputError("two rows are of the same method, or of the same configuration: they name what is drawn")


def read_paper_file(path: Path) -> PaperTable | PaperFigure:
    """A table or, by its `kind`, a figure.

    Raises:
        InputError: the file is missing or no YAML, or a key is unknown, missing or wrong; the message names both.
    """
    if not path.is_file():
        raise InputError(f"no table or figure at {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise InputError("it must be a mapping")
        if content.get("kind") == "figure":
            return _made(PaperFigure, content, rows=FigureRow)
        return _made(PaperTable, content, rows=PaperRow, metrics=PaperMetric, choices=Choice)
    except (InputError, yaml.YAMLError) as error:
        raise InputError(f"{path}: {error}") from error


def _made(of: type[T], content: Mapping[str, Any], **parts: type) -> T:
    """A dataclass of a mapping; lists become tuples, of those dataclasses that are named."""
    known = {f.name: f for f in fields(of)}  # type: ignore[arg-type]  # mypy does not see that they are dataclasses
    needed = {name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    if not isinstance(content, Mapping) or content.keys() - known or needed - content.keys():
        raise InputError(
            f"a {of.__name__} has {', '.join(known)}, and needs {', '.join(sorted(needed))}; got {content}"
        )
    made = dict(content)
    for key in parts.keys() & made.keys():
        made[key] = [_made(parts[key], item) for item in made[key]]
    return of(**{key: tuple(value) if isinstance(value, list) else value for key, value in made.items()})


def _one_of(key: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise InputError(f"{key} must be one of {', '.join(choices)}, got {value!r}")


def _reason(key: str, value: str | None, why: str | None) -> None:
    if (value is None) != (why is not None):
        raise InputError(f"{key} is null with a reason in `why`, or there is none; got {value!r} and {why!r}")
