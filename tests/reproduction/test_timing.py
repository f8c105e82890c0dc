"""Tables of times as text: printed decimals, our significant digits, reasons for missing numbers."""

import io

import pandas as pd
import pytest
from rich.console import Console

from src.rendering.text_table import NO_VALUE
from src.reproduction.papers import Choice, PaperMetric, PaperRow, PaperTable
from src.reproduction.timing import (
    TimedRow,
    measured_texts,
    text_table,
    timing_table,
    write_timing,
)


def record(median_s, parameters=25_780_000):
    quartiles = {"lower_quartile_s": median_s * 0.9, "median_s": median_s, "upper_quartile_s": median_s * 1.1}
    return {"device": "a CPU, 2 threads", "parameters": parameters, "flops": 3_000_000_000, **quartiles}


@pytest.fixture
def made():
    table = PaperTable(
        title="Sizes & times",
        paper="a paper",
        source="Table 4",
        kind="benchmark",
        data=None,
        mask=None,
        side_px=512,
        protocol={"hardware": "one Titan XP"},
        choices=(Choice("batch size", "1", "the time of one image"),),
        bins=("all",),
        metrics=(
            PaperMetric("parameters", "lower", "parameters_m", unit="k", factor=1000),
            PaperMetric("run_time", "lower", "ms", unit="s", decimals=2, factor=0.001),
            PaperMetric("train_hours", "lower", None, why="training takes too long"),
        ),
        rows=(
            PaperRow(
                "CA | [14]", "ca", {"parameters": {"all": 10.0}, "run_time": {"all": 0.2}, "train_hours": {"all": 120}}
            ),
            PaperRow(
                "GC",
                None,
                {"parameters": {"all": 85.75}, "run_time": {"all": None}, "train_hours": {"all": None}},
                description="gated",
                why="GC is not implemented here",
                unprinted="only its size is",
            ),
        ),
    )
    measured = {("parameters", "ca"): record(0.0123), ("run_time", "ca"): record(0.0123)}
    return timing_table(table, measured, {}, ["Ours: so."])


def test_ours_are_in_the_printed_unit_and_missing_numbers_have_reasons(made):
    parameters, run_time, hours = made.metrics
    assert parameters.rows[0] == TimedRow("CA | [14]", 10.0, 25780.0)
    assert run_time.rows[0].ours == pytest.approx(0.0123)
    assert run_time.rows[0].quartiles == pytest.approx((0.01107, 0.01353))
    assert run_time.rows[1] == TimedRow(
        "GC", None, why_not_printed="only its size is", why_not_measured="GC is not implemented here"
    )
    assert (hours.rows[0].why_not_measured, hours.rows[1].why_not_measured) == (
        "training takes too long",
        "GC is not implemented here",
    )
    assert [timed.device for timed in made.metrics] == [None, "a CPU, 2 threads", None]


def test_markdown(made):
    text = text_table(made).to_markdown()
    assert "| parameters (k) ↓ | CA \\| [14] | 10.0 | 25780 |" in text
    assert "| run time (s) ↓; ours on a CPU, 2 threads | CA \\| [14] | 0.20 | 0.0123 [0.0111, 0.0135] |" in text
    assert f"|  | GC | {NO_VALUE} | {NO_VALUE} |" in text
    for note in (
        "measured on: one Titan XP.",
        "Ours: so.",
        "counting a multiply-add as two: CA \\| [14] 3.0.",
        "GC: gated.",
        "GC is not measured: GC is not implemented here.",
        "GC, not printed: only its size is.",
        "train hours is not measured: training takes too long.",
        "Not stated in the paper: batch size. Here: 1 (the time of one image).",
    ):
        assert note in text


def test_latex(made):
    text = text_table(made).to_latex()
    assert r"\caption{Sizes \& times}" in text
    assert "\n".join([r"CA | {[}14] & 0.20 & 0.0123 \\", r" &  & {\scriptsize {[}0.0111, 0.0135]} \\"]) in text
    assert r"GC & 85.75 & -- \\" in text
    assert text.count(r"\midrule") == 3
    assert text.count("{") == text.count("}")


def test_the_terminal_gives_reasons_for_missing_numbers(made):
    out = io.StringIO()
    Console(file=out, width=80).print(text_table(made, reasons=True).to_console())
    text = " ".join(out.getvalue().split())
    assert "0.0123 [0.0111, 0.0135]" in text
    assert f"GC {NO_VALUE} {NO_VALUE} GC is not implemented here" in text
    assert "training takes too long" in text


def test_three_files_are_written(made, tmp_path):
    write_timing(tmp_path / "new", made)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["table.csv", "table.md", "table.tex"]
    frame = pd.read_csv(tmp_path / "new" / "table.csv")
    assert len(frame) == 6
    ours = frame[(frame["metric"] == "run_time") & (frame["method"] != "GC")].iloc[0]
    assert (ours["ours"], ours["device"], ours["printed"]) == (pytest.approx(0.0123), "a CPU, 2 threads", 0.2)
    assert frame[frame["method"] == "GC"]["ours"].isna().all()
    assert frame.iloc[-1]["why_not_printed"] == "only its size is"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (0.00842, "0.00842"), (0.2, "0.200"), (4.4, "4.40"), (51.546, "51.5"), (1234.5, "1234")],
)
def test_our_numbers_have_three_significant_digits(value, text):
    assert measured_texts(TimedRow("m", None, value)) == (text, "")
