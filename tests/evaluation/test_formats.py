"""Scores as text: numbers, intervals, best values, and the content of each format."""

import math

import pytest
from rich.console import Console

from src.evaluation.bootstrap import Estimate
from src.evaluation.formats import HOW_TO_READ, mean_by_name, number, text_table, to_frame
from src.evaluation.tables import Column, ScoreGroup, ScoreRow, ScoreTable


@pytest.fixture
def table(psnr, l1):
    rows = (
        ScoreRow("edge_lbam", (Estimate(31.239, (30.0, 32.5)), Estimate(math.nan))),
        ScoreRow("<script>|50%", (Estimate(30.0), Estimate(math.inf))),
    )
    columns = (Column("(0.1,0.2]", 2), Column("all", 3))
    groups = (ScoreGroup(psnr, rows), ScoreGroup(l1, rows))
    return ScoreTable("100% made_up <b>", columns, groups, ("LPIPS: put it into ~/a_b",), "In brackets: 95% intervals")


def test_markdown_of_a_score_table(table):
    assert text_table(table).to_markdown().splitlines() == [
        "**100% made_up &lt;b>**",
        "",
        "| Metric | Method | (0.1,0.2], n=2 | all, n=3 |",
        "| --- | --- | ---: | ---: |",
        "| PSNR (dB) ↑ | edge_lbam | **31.24** [30.00, 32.50] | – |",  # noqa: RUF001
        r"|  | &lt;script>\|50% | 30.00 | ∞ |",
        "| l1 (%) ↓ | edge_lbam | 31.24 [30.00, 32.50] | – |",  # noqa: RUF001
        r"|  | &lt;script>\|50% | **30.00** | ∞ |",
        "",
        f"- {HOW_TO_READ}",
        "- LPIPS: put it into ~/a_b",
        "- In brackets: 95% intervals",
    ]


def test_console_table_without_intervals_fits_seven_columns_into_80_characters(psnr):
    columns = tuple(Column(f"(0.{i},0.{i + 1}]", 100) for i in range(6))
    rows = tuple(
        ScoreRow(name, (Estimate(31.24, (30.11, 32.22)),) * 7) for name in ("[bold]lbam[/bold]", "navier_stokes")
    )
    made = ScoreTable("Made", (*columns, Column("all", 600)), (ScoreGroup(psnr, rows),), ("a note",), "In brackets")
    console = Console(width=80)
    with console.capture() as capture:
        console.print(text_table(made, intervals=False).to_console())
    text = capture.get()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("31.24") == 14
    assert "[bold]lbam[/bold]" in text  # a name is not markup
    assert "a note" in text
    assert "30.11" not in text
    assert "In brackets" not in text


def test_frame_has_unrounded_means_and_loggers_get_those_of_the_first_method(table):
    frame = to_frame(table)
    assert len(frame) == 8
    assert frame.iloc[0].to_dict() == {
        "method": "edge_lbam", "metric": "PSNR", "unit": "dB", "better": "higher", "hole ratio": "(0.1,0.2]", "n": 2,
        "mean": 31.239, "low": 30.0, "high": 32.5,
    }  # fmt: skip
    means = mean_by_name(table)
    assert list(means) == ["psnr/(0.1,0.2]", "psnr", "l1_percent/(0.1,0.2]", "l1_percent"]
    assert means["psnr/(0.1,0.2]"] == 31.239


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.005, "1.00"), (math.nan, "–"), (math.inf, "∞"), (-math.inf, "-∞"), (-0.5, "-0.50")],  # noqa: RUF001
)
def test_number_has_the_metrics_decimals(psnr, value, text):
    assert number(value, psnr) == text
