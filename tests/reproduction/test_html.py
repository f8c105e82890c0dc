"""A reproduction as HTML: valid, escaped, with one axis per metric."""

import math
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from src.evaluation.bootstrap import Bootstrap, Estimate
from src.evaluation.report import write_report
from src.evaluation.significance import rank_agreement
from src.evaluation.tables import Column
from src.reproduction.comparison import ComparedCell, ComparedMetric, ComparedRow, Difference, Reproduction
from src.reproduction.html import Axis, to_html, verdict
from src.reproduction.papers import Choice, PaperTable

HOSTILE = "<script>alert(1)</script>"
OURS = Estimate(-0.5, (-0.75, -0.25), {0: -0.5, 1: -0.5})


class Page(HTMLParser):
    """Tags in order, attributes by tag, and the text; fails if a tag is not closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], "", []
        self.feed(str(text))  # as Markup escapes strings that are added to it

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attributes)))
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def found(psnr):
    def rows(columns):
        better = ComparedCell(
            28.0, Estimate(22.5, (21.0, 24.0), {0: 22.0, 1: 23.0}), Difference(-1.0, OURS, 0.001, 0.002)
        )
        statuses = {"Bad": "failed", "GL": "not implemented here"}
        return (
            ComparedRow(HOSTILE, "better", "ok", False, (better,) * columns),
            *(
                ComparedRow(n, None, s, False, (ComparedCell(27.0, None, Difference(-2.0)),) * columns)
                for n, s in statuses.items()
            ),
            ComparedRow("full", "full", "ok", True, (ComparedCell(29.0, Estimate(23.0)),) * columns),
        )

    def make(columns=1, reference="full"):
        protocol, choices = {HOSTILE: HOSTILE}, (Choice(HOSTILE, HOSTILE, HOSTILE),)
        table = PaperTable(
            HOSTILE, "P", "S", "training", None, None, protocol, choices, ("all",), (), (), (HOSTILE,)
        )  # fmt: skip
        agreement = rank_agreement([HOSTILE, "full"], [28.0, 29.0], [22.5, 23.0], higher_is_better=True)
        compared = ComparedMetric(psnr, 2, rows(columns), (agreement,) * columns)
        labels = ["all"] if columns == 1 else ["(0.1,0.2]", "(0.4,0.5]", "mean"]
        made = tuple(Column(label, 4) for label in labels)
        return Reproduction(table, HOSTILE, made, (compared,), reference, Bootstrap(), 1, (HOSTILE,))

    return make


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("reference", ["full", None])
def test_the_html_is_valid_and_names_are_escaped(found, columns, reference):
    page = Page(to_html(found(columns, reference)))
    assert page.open == []
    assert not {"script", "img", "link"} & set(page.tags)
    assert page.text.count(HOSTILE) >= 8  # caption, row, note, protocol, choice and a note of the paper's
    assert page.tags.count("details") == 3
    assert page.tags.count("table") == (2 if columns == 3 else 1)


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("reference", ["full", None])
def test_all_rows_of_a_table_have_the_same_width(found, columns, reference):
    for table in to_html(found(columns, reference)).split("<table")[1:]:
        body = table.split("</thead>")[1].split("</table>")[0]
        widths = set()
        for row in body.split("<tr")[1:]:
            cells = [dict(a) for tag, a in Page(f"<table><tr{row}".split("</tr>")[0] + "</tr></table>").attributes
                     if tag in ("td", "th")]  # fmt: skip
            widths.add(sum(int(cell.get("colspan", 1)) for cell in cells))
        assert len(widths) == 1


def test_values_differences_and_verdicts_are_shown(found):
    html = to_html(found())
    text = Page(html).text.replace("\N{MINUS SIGN}", "-")
    for expected in (
        "22.50", "[21.00, 24.00]", "22.00, 23.00", "-0.500*", "[-0.750, -0.250]", "0.002", "2/2", "same sign",
        "Difference to full", "the two rows are in the paper's order", "95% interval",
    ):  # fmt: skip
        assert expected in text
    assert '<span class="bad">failed</span>' in html
    assert "<small>not implemented here</small>" in html
    assert "not significant" not in text


def test_charts_of_a_metric_share_an_axis(found):
    page = Page(to_html(found()))
    drawn = [(tag, a) for tag, a in page.attributes if tag in ("path", "circle", "line") and a.get("class")]
    axis = Axis.over([0.0, -1.0, -2.0, -0.5, -0.75, -0.25])
    assert ("circle", {"class": "ours", "cx": f"{axis.x(-0.5)}", "cy": "10", "r": "3.5"}) in drawn
    assert any(a.get("d", "").startswith(f"M{axis.x(-1.0)} ") for _, a in drawn)
    assert sum(tag == "line" and a["class"] == "tick zero" for tag, a in drawn) == 4  # one per row
    assert "-0.5" in " ".join(a["aria-label"] for tag, a in page.attributes if a.get("role") == "img").replace(
        "\N{MINUS SIGN}", "-"
    )


def test_an_axis_covers_its_values_and_has_round_ticks():
    axis = Axis.over([-0.5, 0.0, 1.5, math.inf])
    assert (axis.low, axis.high) == (-0.5, 1.5)
    assert axis.x(-0.5) < axis.x(0.0) < axis.x(1.5) == axis.x(math.inf)
    assert [tick.label.replace("\N{MINUS SIGN}", "-") for tick in axis.ticks] == ["-0.5", "0", "0.5", "1", "1.5"]
    assert [tick.is_zero for tick in axis.ticks] == [False, True, False, False, False]
    assert Axis.over([1.0, 1.0]) is Axis.over([]) is None


def test_verdicts():
    significant = Difference(-1.0, OURS, 0.001, 0.002)
    assert verdict(significant)[0] == "same sign"
    assert verdict(replace(significant, printed=1.0))[0] == "opposite sign"
    assert verdict(replace(significant, p_holm=0.06))[0] == "not significant"
    one_seed_up = replace(OURS, by_seed={0: OURS.mean, 1: -OURS.mean})
    assert verdict(replace(significant, ours=one_seed_up))[0] == "seeds disagree"
    assert verdict(replace(significant, printed=None))[0] == verdict(replace(significant, ours=None))[0] == ""


def test_the_report_contains_it_next_to_other_sections(tmp_path, found, provenance):
    write_report(tmp_path / "report.html", "t", tables=[to_html(found())], provenance={"a": provenance})
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert [a["href"] for tag, a in page.attributes if tag == "a"] == ["#results", "#provenance"]
    assert "22.50" in page.text
    style = text.split("<style>")[1].split("</style>")[0]
    for name in ("strip", "printed", "interval", "tick", "good", "bad", "reference", "choices"):
        assert f".{name}" in style
