"""The text table: the same content in every format, and nothing unescaped."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from src.rendering.text_table import (
    NO_VALUE,
    Heading,
    Section,
    Span,
    TextTable,
    escape_latex,
    escape_markdown,
    write_texts,
)

INTERVAL = Span("[30.00, 32.50]", small=True)
TABLE = TextTable(
    "100% made_up <b>",
    (Heading("Method", left=True), Heading("(0.1,0.2]", "n=2"), Heading("all", "n=3")),
    (
        Section(
            (
                ("edge_lbam", (Span("31.24", bold=True), INTERVAL), NO_VALUE),
                ("<script>|50%", "30.00", (Span("28.0 / "), Span("∞", bold=True))),
            ),
            "PSNR (dB) ↑",
        ),
        Section((("edge_lbam", "0.25", ""),), "l1 (%) ↓"),
    ),
    ("LPIPS: put it into ~/a_b", "In brackets: 95% intervals"),
)


def test_markdown_of_a_table():
    assert TABLE.to_markdown().splitlines() == [
        "**100% made_up &lt;b>**",
        "",
        "| Metric | Method | (0.1,0.2], n=2 | all, n=3 |",
        "| --- | --- | ---: | ---: |",
        "| PSNR (dB) ↑ | edge_lbam | **31.24** [30.00, 32.50] | – |",  # noqa: RUF001
        r"|  | &lt;script>\|50% | 30.00 | 28.0 / **∞** |",
        "| l1 (%) ↓ | edge_lbam | 0.25 |  |",
        "",
        "- LPIPS: put it into ~/a_b",
        "- In brackets: 95% intervals",
    ]


def test_markdown_without_section_headings_has_no_column_for_them():
    plain = replace(TABLE, sections=(Section((("a", "1", "2"),)),), notes=())
    assert plain.to_markdown().splitlines()[2:] == [
        "| Method | (0.1,0.2], n=2 | all, n=3 |",
        "| --- | ---: | ---: |",
        "| a | 1 | 2 |",
    ]


def test_latex_escapes_text_marks_bold_and_puts_small_print_below():
    text = TABLE.to_latex()
    assert r"\caption{100\% made\_up \textless{}b\textgreater{}}" in text
    assert (
        "\n".join(
            [
                r"\begin{tabular}{lrr}",
                r"\toprule",
                r"Method & (0.1,0.2] & all \\",
                r" & n=2 & n=3 \\",
                r"\midrule",
                r"\multicolumn{3}{l}{\emph{PSNR (dB) $\uparrow$}} \\",
                r"edge\_lbam & \textbf{31.24} & -- \\",
                r" & {\scriptsize {[}30.00, 32.50]} &  \\",
                r"\textless{}script\textgreater{}|50\% & 30.00 & 28.0 / \textbf{$\infty$} \\",
                r"\midrule",
                r"\multicolumn{3}{l}{\emph{l1 (\%) $\downarrow$}} \\",
                r"edge\_lbam & 0.25 &  \\",
                r"\bottomrule",
            ]
        )
        in text
    )
    assert r"put it into \textasciitilde{}/a\_b" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert text.isascii()


@pytest.mark.parametrize(
    ("character", "escaped"),
    [("\\", r"\textbackslash{}"), ("&", r"\&"), ("$", r"\$"), ("#", r"\#"), ("{", r"\{"), ("^", r"\textasciicircum{}")],
)
def test_latex_escapes_every_special_character(character, escaped):
    assert escape_latex(f"a{character}b") == f"a{escaped}b"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("CA | [14]", r"CA \| [14]"), ("[a](b)", r"[a\](b)"), ("*`\\", r"\*\`\\"), ("a\n<b>", "a &lt;b>")],
)
def test_markdown_escapes_markup(text, escaped):
    assert escape_markdown(text) == escaped


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.text.append(data.strip())


def test_html_escapes_text_and_marks_bold():
    html = TABLE.to_html()
    page = Page(html)
    assert page.open == []
    assert "script" not in page.tags
    assert "<script>|50%" in page.text
    assert (page.tags.count("b"), page.tags.count("tbody"), page.tags.count("li")) == (2, 2, 2)
    assert "<b>31.24</b><small>[30.00, 32.50]</small></td>" in html
    assert '<th scope="col">all<small>n=3</small></th>' in html


def test_console_shows_every_number_in_80_characters_and_no_markup_of_names():
    headings = (Heading("Method", left=True), *(Heading(f"(0.{i},0.{i + 1}]", "n=100") for i in range(7)))
    rows = tuple((name, *((Span("31.24", bold=True),) * 7)) for name in ("[bold]lbam[/bold]", "navier_stokes"))
    wide = TextTable(
        "Made", headings, (Section(tuple((n, *((c,) for c in cs)) for n, *cs in rows), "PSNR"),), ("note",)
    )
    console = Console(width=80)
    with console.capture() as capture:
        console.print(wide.to_console())
    text = capture.get()
    assert "…" not in text
    assert text.count("31.24") == 14
    assert max(map(len, text.splitlines())) <= 80
    for shown in ("[bold]lbam[/bold]", "note", "Made", "PSNR"):
        assert shown in text


def test_empty_columns_are_left_out():
    empty = replace(TABLE, sections=(Section((("a", "", NO_VALUE), ("b", "1", ""))),))
    found = empty.without_empty_columns()
    assert [heading.label for heading in found.headings] == ["Method", "(0.1,0.2]"]
    assert found.sections[0].rows == (("a", ""), ("b", "1"))


def test_text_files_are_written_into_a_new_directory(tmp_path):
    written = write_texts(tmp_path / "new", {"a.md": "é\n", "b.csv": ""})
    assert [path.read_text(encoding="utf-8") for path in written] == ["é\n", ""]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.md", "b.csv"]
