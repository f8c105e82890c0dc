"""Tables of benchmark results for the terminal and Markdown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from src.common.provenance import PACKAGES
from src.rendering.text_table import NO_VALUE, Heading, Section, TextTable, escape_markdown

Record = Mapping[Any, Any]


def number(value: Any, factor: float = 1.0) -> str:
    """Format with four significant digits, or all integer digits; `NO_VALUE` for a missing value."""
    if pd.isna(value):
        return NO_VALUE
    scaled = factor * float(value)
    return f"{scaled:,.0f}" if abs(scaled) >= 1000 else f"{scaled:.4g}"


def _scaled(key: str, factor: float = 1.0) -> Callable[[Record], str]:
    return lambda record: number(record.get(key), factor)


def _quartiles_ms(record: Record) -> str:
    lower, upper = (record.get(f"{name}_quartile_s") for name in ("lower", "upper"))
    return "" if pd.isna(lower) else f"{number(lower, 1e3)}-{number(upper, 1e3)}"


_WORK = {"M params": _scaled("parameters", 1e-6), "GFLOP": _scaled("flops", 1e-9)}
_SIZE = {"input": lambda record: f"{int(record['batch_size'])}x{int(record['side_px'])}"}
_TIME = {"ms": _scaled("median_s", 1e3), "quartiles": _quartiles_ms}
_RATE, _MEMORY = {"per s": _scaled("per_second")}, {"MiB": _scaled("peak_bytes", 1 / 2**20)}
_INPUTS = "Inputs: noise with irregular holes of 30%; MPGA/GLA's work grows with the hole ratio."
_KINDS: dict[str, tuple[str, dict[str, Callable[[Record], str]], str]] = {
    "forward": (
        "networks, forward",
        {**_SIZE, **_WORK, **_TIME, **_RATE, **_MEMORY},
        f"{_INPUTS} GFLOP: per image; a multiplication and an addition are two operations. ms: median per batch. "
        "MiB: peak memory beyond weights and inputs.",
    ),
    "training": (
        "training, one generator step with its discriminator steps",
        {**_SIZE, "images": _scaled("images_per_step"), **_TIME, **_RATE, **_MEMORY},
        f"{_INPUTS} images: per step, over all its batches. per s: images. MiB: peak memory beyond all weights: "
        "activations, gradients, optimisers' states. VGG-16 has random weights, which take the same time as pretrained "
        "ones, and the width that the scale gives it (scale.features_width).",
    ),
    "loading": (
        "loading, samples per second",
        {**_SIZE, "workers": _scaled("workers"), "samples": _scaled("samples"), **_RATE},
        "workers: loader processes; 0 loads in the main process. Batches for Edge-LBAM include Canny edges. The files "
        "are in the page cache, if it is large enough.",
    ),
}
"""Title, columns and note by kind of benchmark."""


def benchmark_tables(frame: pd.DataFrame) -> list[TextTable]:
    """Return a table for each kind and device."""
    tables = []
    for what, (title, columns, note) in _KINDS.items():
        for device, group in frame[frame["what"] == what].groupby("device", sort=False):
            records = group.to_dict("records")
            rows = tuple((record["name"], *(text(record) for text in columns.values())) for record in records)
            read = [f"Read: {read}." for read in group.get("read", pd.Series(dtype=str)).dropna().unique()]
            tables.append(
                TextTable(
                    ", ".join([title, str(device), *_setting(records[0])]),
                    (Heading("", left=True), *map(Heading, columns)),
                    (Section(rows),),
                    (f"input: batch size x side in px. {note}", *read, *failures(records)),
                )
            )
    return tables


def _setting(record: Record) -> list[str]:
    """Return the setting that all records share, in words."""
    precision = record.get("precision")
    words = [] if pd.isna(precision) else ["float32" if precision == "32-true" else str(precision)]
    words += ["compiled"] if record.get("compile") is True else []
    return [*words, *(["literal layers"] if record.get("literal") is True else [])]


def failures(records: Sequence[Record]) -> list[str]:
    """Return a sentence for each reason of failed measurements, with the rows that it applies to."""
    concerned: dict[str, list[str]] = {}
    for record in records:
        if not pd.isna(reason := record.get("failure")):
            workers = "" if pd.isna(record.get("workers")) else f", workers {int(record['workers'])}"
            size = f"{int(record['side_px'])} px, batch {int(record['batch_size'])}"
            concerned.setdefault(str(reason), []).append(f"{record['name']} ({size}{workers})")
    return [f"{', '.join(places)}: {reason}." for reason, places in concerned.items()]


def to_markdown(tables: Sequence[TextTable], frame: pd.DataFrame) -> str:
    """Write the tables one after the other, then the scale, code revision and package versions of the records."""
    first = frame.iloc[0]
    versions = ", ".join(f"{name} {first[name]}" for name in ("python", *PACKAGES))
    made_by = f"Scale: {first['scale']}. Versions: {versions}. Code: {first['revision']}."
    return "\n".join([*(table.to_markdown() for table in tables), escape_markdown(made_by)]) + "\n"
