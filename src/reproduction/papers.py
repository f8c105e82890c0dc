"""The papers' tables and figures, read from experiments/*/*.yaml, and the rows that reproduce them."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from src.common.errors import InputError

KINDS = ("training", "benchmark", "votes", "unprinted")
MEASURES = ("ms", "parameters_m")
"""Our measurements in benchmark tables: milliseconds per image, millions of parameters of the network."""

DEVICES = ("cuda", "cpu")
SHOWS = ("comparison", "attention_maps", "updated_masks", "features", "edges", "attention", "stages")
DIRECTIONS = ("higher", "lower")

T = TypeVar("T")


@dataclass(frozen=True)
class PaperMetric:
    """A column of a table.

    Attributes:
        direction: which values are better, `higher` or `lower`.
        decimals: decimals of the printed values.
        ours: name of our score with the same definition; None if there is none, with the reason in `why`.
        factor: factor that converts our score to the printed unit.
        device: device of the printed times, one of `DEVICES`, if the paper has a column for each; otherwise None, and
            ours are timed on any device.
        definition: the paper's definition.
        printed: whether the paper has this column; False for a second definition of ours without printed values.
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
        _require_reason("ours", self.ours, self.why)
        if self.device is not None:
            _one_of("device", self.device, DEVICES)
            if self.ours != "ms":
                raise InputError(f"{self.name}: a metric with a device must have ours: ms, got {self.ours!r}")


@dataclass(frozen=True)
class PaperRow:
    """A row of a table, a column of a comparison, or the model whose internals a figure shows.

    Attributes:
        method: as printed.
        row: name of its config in the table's directory, in figures `<table>/<row>` of the paper; None if not
            implemented here, with the reason in `why`.
        reference: whether the other rows are compared with this one.
        values: printed values by metric and bin; None if not printed, with the reason in `unprinted`.
    """

    method: str
    row: str | None
    values: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    description: str | None = None
    reference: bool = False
    why: str | None = None
    unprinted: str | None = None

    def __post_init__(self) -> None:
        _require_reason("row", self.row, self.why)
        if any(value is None for values in self.values.values() for value in values.values()) and not self.unprinted:
            raise InputError(f"{self.method} has null values without a reason: give it in unprinted")


@dataclass(frozen=True)
class Choice:
    """A setting that a paper leaves open, our choice, and its reason."""

    open: str
    choice: str
    reason: str


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper, or numbers from its text.

    Attributes:
        kind: training (rows are trained and scored), benchmark (rows are timed), votes (people choose between rows) or
            unprinted (as training, but the paper describes the rows without numbers).
        data, mask: configs in conf/data and conf/mask; None if the paper names none.
        protocol: facts about the paper's experiment.
        bins: hole ratio bins, in the form of `bin_name` or as printed, or `all`.
        side_px: side of the square images that a benchmark's rows are timed on; None for other kinds.
        test_size: (H, W) of the test images in px; None if they have the size of the training crops.
        test_mask: config in conf/mask that rows are tested on; None if that is `mask`, which they train on.
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
        if sum(row.reference for row in self.rows) > 1:
            raise InputError("more than one row has reference: true, keep one of them")
        metrics = {metric.name for metric in self.metrics if metric.printed}
        for row in self.rows:
            if row.values and row.values.keys() != metrics:
                raise InputError(
                    f"{row.method} has values of {sorted(row.values)}, expected those of the metrics {sorted(metrics)}"
                )
            for name, values in row.values.items():
                if set(values) - set(self.bins):
                    raise InputError(f"{row.method}, {name}: bins must be among {self.bins}, got {list(values)}")
        timed, side, size = self.kind == "benchmark", self.side_px, self.test_size
        if not (_is_px(side) if timed else side is None):
            raise InputError(f"side_px must be pixels in a benchmark and absent in other tables, got {side!r}")
        if not (size is None or (isinstance(size, tuple) and len(size) == 2 and all(map(_is_px, size)))):
            raise InputError(f"test_size must be [height, width] in pixels, got {size!r}")
        if timed and (size is not None or self.test_mask is not None):
            raise InputError("a benchmark has no test: remove test_size and test_mask, and set side_px")
        if timed and "hardware" not in self.protocol:
            raise InputError("add protocol.hardware, the hardware of the printed times, which a benchmark must name")
        for metric in self.metrics:
            if metric.ours is not None and (metric.ours in MEASURES) != timed:
                raise InputError(
                    f"{metric.name}: ours must be one of {', '.join(MEASURES)} in a benchmark and an image score in "
                    f"other tables, got {metric.ours!r}"
                )


@dataclass(frozen=True)
class PaperFigure:
    """A figure of a paper.

    Attributes:
        shows: one of `SHOWS`.
        data, mask: as in `PaperTable`.
    """

    title: str
    paper: str
    source: str
    kind: str
    data: str | None
    mask: str | None
    shows: str
    rows: tuple[PaperRow, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _one_of("shows", self.shows, SHOWS)
        built = [row.row for row in self.rows if row.row is not None]
        if len({row.method for row in self.rows}) < len(self.rows) or len(set(built)) < len(built):
            raise InputError(
                "two rows have the same method or the same config, but both must be unique: rename or remove one"
            )


def read_paper_file(path: Path) -> PaperTable | PaperFigure:
    """Read a table or, if its `kind` says so, a figure.

    Raises:
        InputError: the file is missing or not YAML, or a key is unknown, missing or invalid; the message names both.
    """
    if not path.is_file():
        raise InputError(f"no table or figure at {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise InputError("the file must contain a mapping")
        if content.get("kind") == "figure":
            return _build(PaperFigure, content, rows=PaperRow)
        return _build(PaperTable, content, rows=PaperRow, metrics=PaperMetric, choices=Choice)
    except (InputError, yaml.YAMLError) as error:
        raise InputError(f"{path}: {error}") from error


def _build(of: type[T], content: Mapping[str, Any], **parts: type) -> T:
    """Build a dataclass from a mapping; lists become tuples, whose items are built from the dataclasses in `parts`."""
    known = {f.name: f for f in fields(of)}  # type: ignore[arg-type]  # T is a dataclass
    required = {name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    if not isinstance(content, Mapping) or content.keys() - known or required - content.keys():
        raise InputError(
            f"{of.__name__}: keys must be among {', '.join(known)}, with {', '.join(sorted(required))} required; "
            f"got {content}"
        )
    made = dict(content)
    for key in parts.keys() & made.keys():
        made[key] = [_build(parts[key], item) for item in made[key]]
    return of(**{key: tuple(value) if isinstance(value, list) else value for key, value in made.items()})


def _is_px(value: object) -> bool:
    return type(value) is int and value > 0


def _one_of(key: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise InputError(f"{key} must be one of {', '.join(choices)}, got {value!r}")


def _require_reason(key: str, value: str | None, why: str | None) -> None:
    if (value is None) != (why is not None):
        raise InputError(f"{key} must be null if and only if `why` gives a reason, got {value!r} and {why!r}")
