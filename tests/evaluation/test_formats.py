import math
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from src.evaluation.formats import number, to_console, to_html, to_latex, to_markdown
from src.evaluation.tables import Cell, Column, Group, Row, Table


@pytest.fixture
def table(psnr, l1):
    rows = (
        Row("edge_lbam", (Cell(31.239, (30.0, 32.5), best=True), Cell(math.nan))),
        Row("<script>|50%", (Cell(30.0), Cell(math.inf, best=True))),
    )
    return Table(
        "100% made_up <b>",
        (Column("(0.1,0.2]", 2), Column("all", 3)),
        (Group(psnr, rows), Group(l1, rows)),
        ("LPIPS: put it into ~/a_b",),
        "In brackets: 95% intervals",
    )


def test_markdown(table):
    assert to_markdown(table).splitlines() == [
        "**100% made_up &lt;b>**",
        "",
        "| Metric | Method | (0.1,0.2], n=2 | all, n=3 |",
        "| --- | --- | ---: | ---: |",
        "| PSNR (dB) ↑ | edge_lbam | **31.24** [30.00, 32.50] | – |",  # noqa: RUF001
        r"|  | &lt;script>\|50% | 30.00 | **∞** |",
        "| l1 (%) ↓ | edge_lbam | **31.24** [30.00, 32.50] | – |",  # noqa: RUF001
        r"|  | &lt;script>\|50% | 30.00 | **∞** |",
        "",
        "LPIPS: put it into ~/a_b",
        "",
        "In brackets: 95% intervals",
    ]


def test_latex_escapes_and_marks_the_best(table):
    text = to_latex(table)
    assert r"\caption{100\% made\_up \textless{}b\textgreater{}}" in text
    assert r"edge\_lbam & \textbf{31.24} {\scriptsize {[}30.00, 32.50]} & -- \\" in text
    assert r"\textless{}script\textgreater{}|50\% & 30.00 & \textbf{$\infty$} \\" in text
    assert r"\emph{l1 (\%) $\downarrow$}" in text
    assert r"put it into \textasciitilde{}/a\_b" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


@pytest.mark.parametrize(
    ("character", "escaped"),
    [("\\", r"\textbackslash{}"), ("&", r"\&"), ("$", r"\$"), ("#", r"\#"), ("{", r"\{"), ("^", r"\textasciicircum{}")],
)
def test_latex_escapes_every_special_character(table, character, escaped):
    assert f"a{escaped}b" in to_latex(replace(table, caption=f"a{character}b"))


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        if data.strip():
            self.text.append(data.strip())


def test_html_escapes_and_marks_the_best(table):
    html = to_html(table)
    parsed = Cells()
    parsed.feed(html)
    assert "script" not in parsed.tags
    assert parsed.text.count("<script>|50%") == 2
    assert parsed.tags.count("b") == 4
    assert "In brackets: 95% intervals" in parsed.text
    assert "<b>31.24</b><small>[30.00, 32.50]</small>" in html
    assert '<th colspan="1" scope="colgroup" class="over">Hole ratio of the picture</th>' in html
    assert parsed.tags.count("tbody") == 2


def test_console_fits_80_characters_by_leaving_intervals_out(psnr):
    columns = tuple(Column(f"(0.{i},0.{i + 1}]", 100) for i in range(6))
    rows = tuple(Row(name, (Cell(31.24, (30.11, 32.22)),) * 7) for name in ("[bold]lbam[/bold]", "navier_stokes"))
    console = Console(width=80)
    with console.capture() as capture:
        console.print(
            to_console(Table("Made", (*columns, Column("all", 600)), (Group(psnr, rows),), ("a note",), "In brackets"))
        )
    text = capture.get()
    assert "…" not in text
    assert text.count("31.24") == 14
    assert "[bold]lbam[/bold]" in text  # a name is not markup
    assert "a note" in text
    assert "30.11" not in text
    assert "In brackets" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.005, "1.00"), (math.nan, "–"), (math.inf, "∞"), (-math.inf, "-∞"), (-0.5, "-0.50")],  # noqa: RUF001
)
def test_numbers(psnr, value, text):
    assert number(value, psnr) == text
