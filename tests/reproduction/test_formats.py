"""Reproductions in Markdown, LaTeX, CSV and on the terminal: contents, layout and escaping."""

import io
import math
import re

import pandas as pd
import pytest
from rich.console import Console

from src.evaluation.bootstrap import Bootstrap, Estimate
from src.evaluation.significance import rank_agreement
from src.evaluation.tables import Column
from src.metrics.metric import Metric
from src.rendering.spreadsheet import to_csv
from src.reproduction.comparison import ComparedCell, ComparedMetric, ComparedRow, Difference, Reproduction
from src.reproduction.formats import console_table, summary_markdown, to_latex, to_markdown, write_reproduction
from src.reproduction.frame import to_frame
from src.reproduction.papers import PaperTable
from src.reproduction.text import order_sentence, p_text, signed_text

PSNR = Metric("psnr", "PSNR", "dB", 2, higher_is_better=True, formula="")
TABLE = PaperTable("T", "P", "Table 1", "training", None, None, {}, (), ("all",), (), ())


def estimate(mean, low=None, high=None, **by_seed):
    return Estimate(mean, None if low is None else (low, high), {int(seed[1:]): own for seed, own in by_seed.items()})


BETTER = ComparedCell(
    28.0,
    estimate(22.5, 21.0, 24.0, s0=22.25, s1=22.75),
    Difference(-0.5, estimate(-0.0625, -0.125, -0.001, s0=-0.25, s1=0.125), 0.002, 0.0004),
)
REFERENCE = ComparedCell(28.5, estimate(22.5625, 21.5, 24.5, s0=22.5, s1=22.625))
NOTHING = ComparedCell(29.25, None, Difference(0.75))
AGREEMENT = rank_agreement(["100%_b|<i>", "full"], [28.0, 28.5], [22.5, 22.5625], higher_is_better=True)


def made(*, columns=1, reference="full", cells=(BETTER, REFERENCE, NOTHING, NOTHING), agreement=AGREEMENT):
    better, full, failed, unbuilt = ((cell,) * columns for cell in cells)
    rows = (
        ComparedRow("100%_b|<i>", "better", "ok", False, better),
        ComparedRow("failed", "failed", "failed", False, failed),
        ComparedRow("GL", None, "not implemented here", False, unbuilt),
        ComparedRow("full", "full", "ok", True, full),
    )
    compared = ComparedMetric(PSNR, 1, rows, (agreement,) * columns)
    labels = [Column("all", 4)] if columns == 1 else [Column("(0.1,0.2]", 2), Column("(0.4,0.5]", 2), Column("mean", 4)]
    return Reproduction(TABLE, "Made_up 5%", tuple(labels), (compared,), reference, Bootstrap(), 1, ("a_note|",))


def test_markdown_of_one_column_has_one_line_per_row():
    assert to_markdown(made()).replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-").splitlines() == [
        "**Made_up 5%**",
        "",
        "| Metric | Method | Paper | Ours, 95% interval | Each seed | Paper, difference to full "
        "| Ours, difference to full, 95% interval | p (Holm) | Seeds with that sign |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        r"| PSNR (dB) ↑ | 100%_b\|&lt;i> | 28.0 | 22.50 [21.00, 24.00] | 22.25, 22.75 | -0.5 "
        "| -0.062 [-0.125, -0.001] | &lt; 0.001 | 1/2 |",
        "|  | failed | 29.2 | failed |  | +0.8 | - | - |  |",
        "|  | GL | 29.2 | - |  | +0.8 | - | - |  |",
        "|  | full | 28.5 | 22.56 [21.50, 24.50] | 22.50, 22.62 |  |  |  |  |",
        "",
        "- Order of the rows. PSNR: the two rows are in the paper's order, best for both is full.",
        r"- a_note\|",
    ]


def test_markdown_of_several_columns_has_values_and_differences():
    text = to_markdown(made(columns=3)).replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-")
    difference = r"| -0.5 / -0.062\* [-0.125, -0.001] 1/2 "
    assert text.splitlines() == [
        "**Made_up 5%: PSNR (dB) ↑, paper / ours, 95% interval**",
        "",
        "|  | Method | (0.1,0.2], n=2 | (0.4,0.5], n=2 | mean, n=4 |",
        "| --- | --- | ---: | ---: | ---: |",
        rf"| paper / ours | 100%_b\|&lt;i> {'| 28.0 / 22.50 [21.00, 24.00] ' * 3}|",
        f"|  | failed {'| **29.2** / failed ' * 3}|",
        f"|  | GL {'| **29.2** / - ' * 3}|",
        f"|  | full {'| 28.5 / **22.56** [21.50, 24.50] ' * 3}|",
        rf"| difference to full, seeds with that sign | 100%_b\|&lt;i> {difference * 3}|",
        f"|  | failed {'| +0.8 / - ' * 3}|",
        f"|  | GL {'| +0.8 / - ' * 3}|",
        "",
        "- Order of the rows. PSNR: the two rows are in the paper's order, best for both is full.",
        r"- a_note\|",
    ]


@pytest.mark.parametrize("columns", [1, 3])
def test_all_lines_of_a_markdown_table_have_the_same_number_of_cells(columns):
    for written in (to_markdown(made(columns=columns)), summary_markdown(made(columns=columns))):
        for table in re.findall(r"(?:^\|.*\n)+", written, flags=re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_empty_columns_are_omitted():
    nothing = ComparedCell(None, None, Difference(None))
    unprinted = ComparedCell(
        None, estimate(22.5, s0=22.5), Difference(None, estimate(0.5, 0.25, 0.75, s0=0.5), 0.5, 1.0)
    )
    found = made(cells=(unprinted, ComparedCell(None, estimate(22.0, s0=22.0)), nothing, nothing), agreement=None)
    heads = "| Metric | Method | Ours, 95% interval | Ours, difference to full, 95% interval | p (Holm) | Seeds with that sign |"  # noqa: E501
    assert summary_markdown(found).splitlines()[2] == heads
    without = made(
        reference=None,
        cells=(ComparedCell(1.0, estimate(2.0)), ComparedCell(2.0), ComparedCell(None), ComparedCell(None)),
        agreement=None,
    )
    assert summary_markdown(without).splitlines()[2] == "| Metric | Method | Paper | Ours, 95% interval |"


def test_the_summary_shows_the_last_column():
    found = made(columns=3)
    assert summary_markdown(found).splitlines()[2:] == to_markdown(made()).splitlines()[2:-1]


def test_csv_has_one_line_per_row_metric_and_column():
    frame = pd.read_csv(io.StringIO(to_csv(to_frame(made(columns=3)))))
    assert len(frame) == 12
    first = frame.iloc[0].to_dict()
    assert {name: first[name] for name in ("row", "status", "metric", "unit", "better", "column", "paper", "ours")} == {
        "row": "better", "status": "ok", "metric": "PSNR", "unit": "dB", "better": "higher", "column": "(0.1,0.2]",
        "paper": 28.0, "ours": 22.5,
    }  # fmt: skip
    assert (first["ours_low"], first["ours_high"], first["ours_less_paper"]) == (21.0, 24.0, -5.5)
    assert first["ours_by_seed"] == "0:22.25 1:22.75"
    assert (first["paper_difference"], first["difference"], first["p"], first["p_holm"]) == (-0.5, -0.0625, 0.002, 4e-4)
    assert (first["seeds"], first["seeds_with_mean_sign"], first["pairs"], first["pairs_alike"]) == (2, 1, 1, 1)
    unbuilt = frame[(frame["method"] == "GL") & (frame["column"] == "mean")].iloc[0]
    assert (unbuilt["status"], unbuilt["paper"]) == ("not implemented here", 29.25)
    assert unbuilt[["row", "ours", "ours_low", "difference", "p", "seeds", "seeds_with_mean_sign"]].isna().all()
    assert frame["spearman"].isna().all()


@pytest.mark.parametrize("columns", [1, 3])
def test_latex_is_escaped_and_all_lines_have_the_same_number_of_cells(columns):
    text = to_latex(made(columns=columns))
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(rows) >= 10
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {columns}
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert r"\caption{Made\_up 5\%: PSNR (dB) $\uparrow$, paper / ours, 95\% interval}" in text
    assert r"100\%\_b|\textless{}i\textgreater{} & 28.0 / 22.50" in text
    assert r" & {\scriptsize {[}21.00, 24.00]}" in text
    assert r"$-$0.5 / $-$0.062*" in text
    assert r"{\scriptsize {[}$-$0.125, $-$0.001] 1/2}" in text
    assert r"\textbf{29.2} / failed" in text
    assert r"\par\raggedright a\_note|" in text
    assert text.isascii()


def test_the_console_table_fits_80_characters():
    console = Console(width=80)
    with console.capture() as capture:
        console.print(console_table(made(columns=3)).to_console())
    text = capture.get()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "-0.062*" in text.replace("\N{MINUS SIGN}", "-")
    assert "failed" in text
    assert "100%_b|<i>" in text


def test_four_files_are_written(tmp_path):
    write_reproduction(tmp_path / "new", made())
    assert {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "new").iterdir()} == {
        "table.md": to_markdown(made()),
        "summary.md": summary_markdown(made()),
        "table.tex": to_latex(made()),
        "table.csv": to_csv(to_frame(made())),
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.125, "+0.12"), (-1.0, "-1.00"), (-0.001, "0.00"), (0.0, "0.00"), (math.inf, "+∞"), (-math.inf, "-∞")],
)
def test_differences_other_than_0_have_a_sign(value, text):
    assert signed_text(value, 2).replace("\N{MINUS SIGN}", "-") == text


def test_small_p_values_are_not_printed_as_0():
    assert [p_text(p) for p in (0.0004, 0.001, 0.04996, 1.0)] == ["< 0.001", "= 0.001", "= 0.050", "= 1.000"]


@pytest.mark.parametrize(
    ("printed", "ours", "words"),
    [
        ([1, 2, 3], [1, 2, 3], "Spearman 1.00 (p = 0.333), Kendall 1.00 (p = 0.333), 3/3 pairs in the paper's order, "
                               "best for both is c"),
        ([1, 2, 3], [2, 3, 1], "Spearman -0.50 (p = 1.000), Kendall -0.33 (p = 1.000), 1/3 pairs in the paper's order, "
                               "best is c in the paper, b here"),
        ([1, 2], [2, 1], "not in the paper's order, best is b in the paper, a here"),
        ([1, 1], [2, 1], "best for both is a"),
    ],
)  # fmt: skip
def test_the_agreement_of_orders_in_words(printed, ours, words):
    found = rank_agreement("abc"[: len(printed)], printed, ours, higher_is_better=True)
    assert order_sentence(found).replace("\N{MINUS SIGN}", "-") == words
