"""Tables of benchmark results for the terminal, Markdown and the report."""

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
    """Format with four significant digits, or all integer digits; `NO_VALUE` for a missing value."""
    if _absent(value):
        return NO_VALUE
    scaled = factor * float(value)
    return f"{scaled:,.0f}" if abs(scaled) >= 1000 else f"{scaled:.4g}"


def _absent(value: Any) -> bool:
    return value is None or bool(pd.isna(value))


def _scaled(key: str, factor: float = 1.0) -> Callable[[Record], str]:
    return lambda record: number(record.get(key), factor)


def _integer(key: str) -> Callable[[Record], str]:
    return lambda record: NO_VALUE if _absent(record.get(key)) else f"{int(record[key])}"


def _range(lower: str, upper: str, factor: float) -> Callable[[Record], str]:
    def text(record: Record) -> str:
        return "" if _absent(record.get(lower)) else f"{number(record[lower], factor)}-{number(record[upper], factor)}"

    return text


def _percent(key: str) -> Callable[[Record], str]:
    return lambda record: NO_VALUE if _absent(record.get(key)) else f"{100 * record[key]:.0f}%"


_PLACE = {"px": _integer("side_px"), "batch": _integer("batch_size")}
_TIME = {"ms": _scaled("median_s", 1e3), "quartiles": _range("lower_quartile_s", "upper_quartile_s", 1e3)}
_RATE, _MEMORY = {"per s": _scaled("per_second")}, {"MiB": _scaled("peak_bytes", 1 / MIB)}
_SIZE = {"M params": _scaled("parameters", 1e-6), "GFLOP": _scaled("flops", 1e-9)}
_INPUTS = "Inputs: noise with irregular holes of 30%; MPGA/GLA's work grows with the hole ratio."
_PEAK_MEMORY = "MiB: peak memory beyond"
_KINDS = {
    "forward": _Kind(
        "networks, forward",
        {**_PLACE, **_SIZE, **_TIME, **_RATE, **_MEMORY, "share": _percent("product_share")},
        (
            f"{_INPUTS} GFLOP: per image; a multiplication and an addition are two operations. "
            f"ms: median per batch. {_PEAK_MEMORY} weights and inputs. share: rate of operations divided by "
            "that of a large matrix product or 1x1 convolution, whichever is faster on this machine.",
        ),
    ),
    "training": _Kind(
        "training, one generator step with its discriminator steps",
        {**_PLACE, "images": _integer("images_per_step"), **_TIME, **_RATE, **_MEMORY},
        (
            f"{_INPUTS} images: per step, over all its batches. per s: images. "
            f"{_PEAK_MEMORY} all weights: activations, gradients, optimisers' states. VGG-16 features have random "
            "weights, which take the same time.",
        ),
    ),
    "layer": _Kind(
        "attention layers, forward",
        {**_PLACE, **_TIME, **_RATE, **_MEMORY},
        (f"Inputs: features of the size of an image with these px. {_PEAK_MEMORY} the inputs.",),
    ),
    "loading": _Kind(
        "loading, samples per second",
        {**_PLACE, "workers": _integer("workers"), "samples": _integer("samples"), **_RATE},
        (
            "workers: loader processes; 0 loads in the main process. Batches for Edge-LBAM include Canny edges. "
            "The files are in the page cache, if it is large enough.",
        ),
    ),
    "masks": _Kind("masks per second, one thread", {**_PLACE, **_TIME, **_RATE}, ()),
}


def benchmark_tables(frame: pd.DataFrame) -> list[TextTable]:
    """Return a table for each kind and device, and a comparison with the baseline if there is one."""
    return [*_measured(frame), *_baseline_tables(frame)]


def _measured(frame: pd.DataFrame) -> Iterator[TextTable]:
    order = frame["what"].map(list(_KINDS).index)
    for (what, device), group in frame.iloc[order.argsort(kind="stable")].groupby(["what", "device"], sort=False):
        kind, records = _KINDS[str(what)], group.to_dict("records")
        constant, columns = _split_constant_columns(kind.columns, records)
        rows = [(record["name"], *(text(record) for text in columns.values())) for record in records]
        title = ", ".join([kind.title, *constant, str(device), *_setting(records)])
        notes = (*kind.notes, *_read(records), *_failures(records, "failure"))
        yield _text_table(title, columns, rows, notes)


def _split_constant_columns(
    columns: Mapping[str, Callable[[Record], str]], records: Sequence[Record]
) -> tuple[list[str], dict[str, Callable[[Record], str]]]:
    """Return size and batch for the title if all rows share them, and the remaining columns."""
    texts = {heading: {text(record) for record in records} for heading, text in _PLACE.items()}
    same = {heading: next(iter(found)) for heading, found in texts.items() if len(found) == 1}
    said = [f"{text} px" if heading == "px" else f"{heading} {text}" for heading, text in same.items()]
    return said, {heading: text for heading, text in columns.items() if heading not in same}


def _baseline_tables(frame: pd.DataFrame) -> Iterator[TextTable]:
    if "baseline" not in frame:
        return
    compared = frame[frame["baseline"].notna()]
    for (what, device), group in compared.groupby(["what", "device"], sort=False):
        records, name = group.to_dict("records"), str(group["baseline"].iloc[0])
        with_ratio = [record for record in records if not _absent(record.get("ratio"))]
        columns: dict[str, Callable[[Record], str]] = {
            **_PLACE,
            "ms": _scaled("median_s", 1e3),
            f"{name} ms": _scaled("baseline_median_s", 1e3),
            "ratio": _scaled("ratio"),
            "95%": lambda r: _range("ratio_lower", "ratio_upper", 1)(r) or NO_VALUE,
            "MiB": _scaled("peak_bytes", 1 / MIB),
            f"{name} MiB": _scaled("baseline_peak_bytes", 1 / MIB),
        }
        constant, columns = _split_constant_columns(columns, with_ratio)
        rows = [(r["name"], *(text(r) for text in columns.values())) for r in with_ratio]
        notes = []
        if with_ratio:
            notes.append("ratio: of the medians, below 1 where ours is faster; both ran alternately in one process.")
        if any(_absent(record.get("ratio_lower")) for record in with_ratio):
            notes.append(f"95%: {NO_VALUE} if rounds were too few for an interval.")
        title = ", ".join([f"{_KINDS[str(what)].title}, compared with baseline={name}", *constant, str(device)])
        notes += _failures(records, "baseline_failure")
        if notes:
            yield _text_table(title, columns, rows, notes)


def _setting(records: Sequence[Record]) -> list[str]:
    """Return what differs from the default, in words."""
    precision = records[0].get("precision")
    words = [] if _absent(precision) else ["float32" if precision == "32-true" else str(precision)]
    return [*words, *(["compiled"] if all(r.get("compile") is True for r in records) else [])]


def _read(records: Sequence[Record]) -> list[str]:
    """Describe what was loaded."""
    return [f"Read: {read}." for read in dict.fromkeys(r["read"] for r in records if not _absent(r.get("read")))]


def _failures(records: Sequence[Record], key: str) -> list[str]:
    """Return a sentence for each reason, with the rows that it applies to."""
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
