import io

import pandas as pd
import pytest
from rich.console import Console

from src.benchmarking.tables import benchmark_tables, number, to_markdown
from src.rendering.text_table import NO_VALUE

TIMED = {"runs": 5, "lower_quartile_s": 0.1, "median_s": 0.1234567, "upper_quartile_s": 0.2, "per_second": 8.1}
NETWORK = {"side_px": 256, "batch_size": 1, "device": "a processor", "precision": "bf16-mixed", "compile": True}
BASELINE = {"baseline": "literal", "baseline_median_s": 0.5, "ratio": 0.247, "ratio_lower": 0.2, "ratio_upper": 0.3}


def labels(table):
    return [heading.label for heading in table.headings]


def rows(table):
    (section,) = table.sections
    return section.rows


@pytest.fixture
def frame():
    size = {"parameters": 69_300_000, "flops": 20.1e9, "peak_bytes": 2.0**30, "product_share": 0.513}
    return pd.DataFrame(
        [
            {"what": "masks", "name": "strokes", "side_px": 256, "batch_size": 100, "device": "a processor", **TIMED},
            {"what": "forward", "name": "lbam", **NETWORK, **TIMED, **size, **BASELINE, "baseline_peak_bytes": 2**31},
            {"what": "forward", "name": "a|b", **NETWORK, "failure": "out of memory: no more", "baseline": "literal"},
            {"what": "forward", "name": "telea", **NETWORK, **TIMED, "baseline": "literal", "baseline_failure": "none"},
        ]
    )


def test_networks_come_first_and_say_how_they_were_run(frame):
    forward, masks, beside = benchmark_tables(frame)
    assert forward.caption == "networks, forward, 256 px, batch 1, a processor, bf16-mixed, compiled"
    assert masks.caption == "masks per second, one thread, 256 px, batch 100, a processor"
    row = dict(zip(labels(forward), rows(forward)[0], strict=True))
    assert row | {"": "lbam"} == {
        "": "lbam",
        "M params": "69.3",
        "GFLOP": "20.1",
        "ms": "123.5",
        "quartiles": "100-200",
        "per s": "8.1",
        "MiB": "1,024",
        "share": "51%",
    }
    assert dict(zip(labels(beside), rows(beside)[0], strict=True)) == {
        "": "lbam",
        "ms": "123.5",
        "literal ms": "500",
        "ratio": "0.247",
        "95%": "0.2-0.3",
        "MiB": "1,024",
        "literal MiB": "2,048",
    }


def test_what_was_not_measured_says_why(frame):
    forward, _, beside = benchmark_tables(frame)
    assert rows(forward)[1] == ("a|b", NO_VALUE, NO_VALUE, NO_VALUE, "", NO_VALUE, NO_VALUE, NO_VALUE)
    assert forward.notes[-1] == "a|b (256 px, batch 1): out of memory: no more."
    assert beside.notes[-1] == "telea (256 px, batch 1): none."


def test_ratios_of_few_rounds_and_rows_without_a_ratio(frame):
    few = frame.assign(ratio_lower=float("nan"), ratio_upper=float("nan"))
    *_, beside = benchmark_tables(few)
    (row,) = rows(beside)  # that of the only one with a ratio
    assert dict(zip(labels(beside), row, strict=True))["95%"] == NO_VALUE
    assert any("rounds were too few" in note for note in beside.notes)
    without = frame[frame["ratio"].isna()].drop(columns=[c for c in frame if c.startswith("ratio")])
    assert not any(
        "compared" in table.caption and not (rows(table) or table.notes) for table in benchmark_tables(without)
    )


def test_a_failure_names_the_number_of_workers(frame):
    failed = {**NETWORK, "what": "loading", "name": "photos, lbam", "workers": 2, "failure": "no"}
    (table,) = benchmark_tables(pd.DataFrame([failed]))
    assert table.notes[-1] == "photos, lbam (256 px, batch 1, workers 2): no."


def test_what_differs_between_rows_stays_a_column(frame):
    forward, *_ = benchmark_tables(frame.assign(side_px=[256, 256, 256, 512]))
    assert labels(forward)[:2] == ["", "px"]
    assert "batch 1" in forward.caption
    assert "px" not in forward.caption


def test_markdown_escapes_names_and_names_what_made_it(frame):
    text = to_markdown(benchmark_tables(frame), ["Code: abc."])
    assert rf"| a\|b | {NO_VALUE} |" in text
    assert text.endswith("Code: abc.\n")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    assert all(line.replace(r"\|", "").count("|") == lines[0].count("|") for lines in tables for line in lines)


@pytest.mark.parametrize("columns", [80, 100])
def test_a_terminal_shows_every_number_and_names_of_some_length(frame, columns):
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
