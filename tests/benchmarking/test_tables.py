import io

import pandas as pd
import pytest
from rich.console import Console

from src.benchmarking.tables import benchmark_tables, number, to_markdown
from src.common.provenance import PACKAGES
from src.rendering.text_table import NO_VALUE

TIMED = {"runs": 5, "lower_quartile_s": 0.1, "median_s": 0.1234567, "upper_quartile_s": 0.2, "per_second": 8.1}
NETWORK = {"side_px": 256, "batch_size": 1, "device": "a processor", "precision": "bf16-mixed", "compile": True}
LOADING = {"what": "loading", "side_px": 256, "batch_size": 16, "device": "a processor"}
VERSIONS = {"scale": "paper", "revision": "abc", **dict.fromkeys(("python", *PACKAGES), "1.0")}


def labels(table):
    return [heading.label for heading in table.headings]


def rows(table):
    (section,) = table.sections
    return section.rows


@pytest.fixture
def frame():
    size = {"parameters": 69_300_000, "flops": 20.1e9, "peak_bytes": 2.0**30, "literal": True}
    records = [
        {**LOADING, "name": "photos, lbam", "workers": 2, "samples": 1234, "read": "data=photos", **TIMED},
        {"what": "forward", "name": "lbam", **NETWORK, **TIMED, **size},
        {"what": "forward", "name": "a|b", **NETWORK, "failure": "out of memory: no more", "literal": True},
    ]
    return pd.DataFrame(records).assign(**VERSIONS)


def test_captions_give_device_and_setting(frame):
    forward, loading = benchmark_tables(frame)
    assert forward.caption == "networks, forward, a processor, bf16-mixed, compiled, literal layers"
    assert loading.caption == "loading, samples per second, a processor"
    assert "Read: data=photos." in loading.notes
    assert dict(zip(labels(forward), rows(forward)[0], strict=True)) == {
        "": "lbam",
        "input": "1x256",
        "M params": "69.3",
        "GFLOP": "20.1",
        "ms": "123.5",
        "quartiles": "100-200",
        "per s": "8.1",
        "MiB": "1,024",
    }
    assert rows(loading)[0] == ("photos, lbam", "16x256", "2", "1,234", "8.1")


def test_failures_are_listed_with_their_reason(frame):
    forward, _ = benchmark_tables(frame)
    assert rows(forward)[1] == ("a|b", "1x256", NO_VALUE, NO_VALUE, NO_VALUE, "", NO_VALUE, NO_VALUE)
    assert forward.notes[-1] == "a|b (256 px, batch 1): out of memory: no more."
    failed = {**LOADING, "name": "photos, lbam", "workers": 2, "failure": "no"}
    (table,) = benchmark_tables(pd.DataFrame([failed]))
    assert table.notes[-1] == "photos, lbam (256 px, batch 16, workers 2): no."


def test_markdown_escapes_names_and_ends_with_the_provenance(frame):
    text = to_markdown(benchmark_tables(frame), frame)
    assert rf"| a\|b | 1x256 | {NO_VALUE} |" in text
    assert text.splitlines()[-1].startswith("Scale: paper. Versions: python 1.0, ")
    assert text.endswith("Code: abc.\n")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 2
    assert all(line.replace(r"\|", "").count("|") == lines[0].count("|") for lines in tables for line in lines)


@pytest.mark.parametrize("columns", [80, 100])
def test_a_terminal_shows_all_numbers_and_long_names(frame, columns):
    long = frame.assign(name="released_contextual_attention/joint")
    console = Console(width=columns, record=True, file=io.StringIO())
    for table in benchmark_tables(long):
        console.print(table.to_console())
        shown = console.export_text()
        assert "…" not in shown
        assert "released_contextual_" in shown
        for text in rows(table)[0][1:]:
            assert text in shown


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234567.8, "1,234,568"), (123.456, "123.5"), (0.00123456, "0.001235"), (None, NO_VALUE), (0, "0")],
)
def test_numbers_have_four_digits(value, text):
    assert number(value) == text
