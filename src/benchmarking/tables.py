"""What `src.benchmark` measured as tables: for the terminal, as Markdown, and for the report."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from src.rendering.text_table import NO_VALUE, Heading, Section, TextTable, escape_markdown

Record = Mapping[Any, Any]

MIB = 2**20


@dataclass(frozen=True)
class _Kind:
    title: str
    columns: Mapping[str, Callable[[Record], str]]
    notes: tuple[str, ...]


def number(value: Any, factor: float = 1.0) -> str:
    """Four digits, or all before the point; `NO_VALUE` where there is none."""
    if _absent(value):
        return NO_VALUE
    scaled = factor * float(value)
    return f"{scaled:,.0f}" if abs(scaled) >= 1000 else f"{scaled:.4g}"


def _absent(value: Any) -> bool:
    return value is None or bool(pd.isna(value))


def _of(key: str, factor: float = 1.0) -> Callable[[Record], str]:
    return lambda record: number(record.get(key), factor)


def _whole(key: str) -> Callable[[Record], str]:
    return lambda record: NO_VALUE if _absent(record.get(key)) else f"{int(record[key])}"


def _between(lower: str, upper: str, factor: float) -> Callable[[Record], str]:
    def text(record: Record) -> str:
        return "" if _absent(record.get(lower)) else f"{number(record[lower], factor)}-{number(record[upper], factor)}"

    return text


def _percent(key: str) -> Callable[[Record], str]:
    return lambda record: NO_VALUE if _absent(record.get(key)) else f"{100 * record[key]:.0f}%"


_PLACE = {"px": _whole("side_px"), "batch": _whole("batch_size")}
_TIME = {"ms": _of("median_s", 1e3), "quartiles": _between("lower_quartile_s", "upper_quartile_s", 1e3)}
_RATE, _MEMORY = {"per s": _of("per_second")}, {"MiB": _of("peak_bytes", 1 / MIB)}
_SIZE = {"M params": _of("parameters", 1e-6), "GFLOP": _of("flops", 1e-9)}
_PICTURES = "Of noise with irregular holes of 30%; MPGA/GLA's work grows with that share."
_BEYOND = "MiB: the most memory at once, beyond"
_KINDS = {
    "forward": _Kind(
        "networks, forward",
        {**_PLACE, **_SIZE, **_TIME, **_RATE, **_MEMORY, "share": _percent("product_share")},
        (
            f"{_PICTURES} GFLOP: of one picture, a multiplication and an addition being two. "
            f"ms: the median of a batch's times. {_BEYOND} weights and pictures. share: work a second over "
            "that of a large matrix product, plain or as a 1x1 convolution, whichever is faster here.",
        ),
    ),
    "training": _Kind(
        "training, one step of the generator with its critics'",
        {**_PLACE, "images": _whole("images_per_step"), **_TIME, **_RATE, **_MEMORY},
        (
            f"{_PICTURES} images: that a step takes, over all its batches. per s: images. "
            f"{_BEYOND} all weights: activations, gradients, optimisers' states. Features of the loss are of random "
            "filters where VGG-16's are meant, which cost the same.",
        ),
    ),
    "layer": _Kind(
        "attention layers, forward",
        {**_PLACE, **_TIME, **_RATE, **_MEMORY},
        (f"On features as large as those of a picture of so many px. {_BEYOND} them.",),
    ),
    "loading": _Kind(
        "loading, samples a second",
        {**_PLACE, "workers": _whole("workers"), "samples": _whole("samples"), **_RATE},
        (
            "workers: processes; 0 loads in the process itself. A model that learns edges has Canny's in its batches. "
            "Files were read before: they are warm in the page cache, if they fit.",
        ),
    ),
    "masks": _Kind("masks a second, one thread", {**_PLACE, **_TIME, **_RATE}, ()),
}


def speed_tables(frame: pd.DataFrame) -> list[TextTable]:
    """A table for each kind and device, and one beside the baseline if there is one."""
    return [*_measured(frame), *_beside_baselines(frame)]


def _measured(frame: pd.DataFrame) -> Iterator[TextTable]:
    order = frame["what"].map(list(_KINDS).index)
    for (what, device), group in frame.iloc[order.argsort(kind="stable")].groupby(["what", "device"], sort=False):
        kind, records = _KINDS[str(what)], group.to_dict("records")
        constant, columns = _apart(kind.columns, records)
        rows = [(record["name"], *(text(record) for text in columns.values())) for record in records]
        title = ", ".join([kind.title, *constant, str(device), *_setting(records)])
        notes = (*kind.notes, *_read(records), *_layouts(records), *_failures(records, "failure"))
        yield _text_table(title, columns, rows, notes)


def _apart(
    columns: Mapping[str, Callable[[Record], str]], records: Sequence[Record]
) -> tuple[list[str], dict[str, Callable[[Record], str]]]:
    """The place, where all rows have the same, in words for the title; and the other columns."""
    texts = {heading: {text(record) for record in records} for heading, text in _PLACE.items()}
    same = {heading: next(iter(found)) for heading, found in texts.items() if len(found) == 1}
    said = [f"{text} px" if heading == "px" else f"{heading} {text}" for heading, text in same.items()]
    return said, {heading: text for heading, text in columns.items() if heading not in same}


def _beside_baselines(frame: pd.DataFrame) -> Iterator[TextTable]:
    if "baseline" not in frame:
        return
    compared = frame[frame["baseline"].notna()]
    for (what, device), group in compared.groupby(["what", "device"], sort=False):
        records, name = group.to_dict("records"), str(group["baseline"].iloc[0])
        had = [record for record in records if not _absent(record.get("ratio"))]
        columns: dict[str, Callable[[Record], str]] = {
            **_PLACE,
            "ms": _of("median_s", 1e3),
            f"{name} ms": _of("baseline_median_s", 1e3),
            "ratio": _of("ratio"),
            "95%": lambda r: _between("ratio_lower", "ratio_upper", 1)(r) or NO_VALUE,
            "MiB": _of("peak_bytes", 1 / MIB),
            f"{name} MiB": _of("baseline_peak_bytes", 1 / MIB),
        }
        constant, columns = _apart(columns, had)
        rows = [(r["name"], *(text(r) for text in columns.values())) for r in had]
        notes = []
        if had:
            notes.append("ratio: of the medians, below 1 where ours is faster; both were run in turn, in one process.")
        if any(_absent(record.get("ratio_lower")) for record in had):
            notes.append(f"95%: {NO_VALUE} where rounds were too few for such an interval.")
        title = ", ".join([f"{_KINDS[str(what)].title}, beside baseline={name}", *constant, str(device)])
        notes += _failures(records, "baseline_failure")
        if notes:
            yield _text_table(title, columns, rows, notes)


def _setting(records: Sequence[Record]) -> list[str]:
    """What is not as by default, in words; the layout, which networks may choose themselves, if it is that of all."""
    record = records[0]
    precision = record.get("precision")
    said = [] if _absent(precision) else ["float32" if precision == "32-true" else str(precision)]
    words = {"compile": "compiled", "channels_last": "channels last", "gradient_checkpointing": "checkpointed"}
    return said + [word for key, word in words.items() if all(r.get(key) is True for r in records)]


def _read(records: Sequence[Record]) -> list[str]:
    """What was loaded."""
    return [f"Read: {read}." for read in dict.fromkeys(r["read"] for r in records if not _absent(r.get("read")))]


def _layouts(records: Sequence[Record]) -> list[str]:
    """Whose filters lie channels last, if some do and some don't."""
    names = dict.fromkeys(str(r["name"]) for r in records if r.get("channels_last") is True)
    mixed = 0 < len(names) < len({r["name"] for r in records})
    return [f"Filters lie channels last in {', '.join(names)}."] if mixed else []


def _failures(records: Sequence[Record], key: str) -> list[str]:
    """A sentence for each reason, with whom it concerns."""
    concerned: dict[str, list[str]] = {}
    for record in records:
        if not _absent(record.get(key)):
            place = f"{int(record['side_px'])} px, batch {int(record['batch_size'])}"
            workers = "" if _absent(record.get("workers")) else f", workers {int(record['workers'])}"
            place = f"{record['name']} ({place}{workers})"
            concerned.setdefault(str(record[key]), []).append(place)
    return [f"{', '.join(places)}: {reason}." for reason, places in concerned.items()]


def _text_table(
    title: str, headings: Iterable[str], rows: Iterable[tuple[str, ...]], notes: Iterable[str]
) -> TextTable:
    names = (Heading("", left=True), *map(Heading, headings))
    return TextTable(title, names, (Section(tuple(rows)),), tuple(notes))


def to_markdown(tables: Sequence[TextTable], made_by: Sequence[str]) -> str:
    """Write the tables one after the other; what produced the numbers comes last."""
    return "\n".join([*(table.to_markdown() for table in tables), *map(escape_markdown, made_by)]) + "\n"
