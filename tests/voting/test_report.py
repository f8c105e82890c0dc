"""A study's result as Markdown, CSV, HTML and on the terminal."""

import csv
import re

import pytest
from rich.console import Console

from src.rendering.text_table import NO_VALUE
from src.voting.report import text_table, write_vote_report
from src.voting.shares import VoteRow, VoteShare, VoteTable

TABLE = VoteTable(
    "A paper; Table 2",
    (
        VoteRow("LBAM", VoteShare(30, 0.6, (0.46, 0.72), (0.4, 0.8), None), 0.632, 0.806),
        VoteRow("<b>|my_method*", VoteShare(20, 0.4, (0.28, 0.54), (0.2, 0.6), (0.1, 0.7))),
        VoteRow("GL", None, 0.0417),
    ),
    "50 votes by 5 voters",
    ("A note with p < 0.05.",),
)
ALONE = VoteTable(None, (TABLE.rows[1],), TABLE.summary, TABLE.notes)


def test_markdown():
    rows = [line for line in text_table(TABLE).to_markdown().splitlines() if line.startswith("|")]
    assert rows[0] == (
        "| method | votes | % | Wilson | over voters | over images | paper % | paper %, of these methods |"
    )
    assert rows[2] == f"| LBAM | 30 | 60.0 | [46.0, 72.0] | [40.0, 80.0] | {NO_VALUE} | 63.2 | 80.6 |"
    assert rows[3].startswith(r"| &lt;b>\|my_method\* | 20 |")
    assert rows[4] == f"| GL |  |  |  |  |  | 4.17 | {NO_VALUE} |"
    assert "p &lt; 0.05" in text_table(TABLE).to_markdown()
    assert "paper" not in text_table(ALONE).to_markdown()


def test_csv(tmp_path):
    write_vote_report(TABLE, tmp_path / "votes.db")
    rows = list(csv.DictReader((tmp_path / "votes.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0] == {
        "method": "LBAM", "votes": "30", "share_percent": "60", "wilson_low": "46", "wilson_high": "72",
        "voters_low": "40", "voters_high": "80", "images_low": "", "images_high": "",
        "paper_percent": "63.2", "paper_of_shown_percent": "80.6",
    }  # fmt: skip
    assert list(rows[2].values()) == ["GL", *[""] * 8, "4.17", ""]


def test_html_is_escaped_self_contained_and_drawn_to_scale(tmp_path):
    written = write_vote_report(TABLE, tmp_path / "votes.db")
    assert sorted(path.name for path in written) == ["votes.csv", "votes.html", "votes.md"]
    html = (tmp_path / "votes.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;|my_method*" in html
    assert not re.search(r"(src|href)=|url\(|@import|<script", html)
    assert "0 to 80 %" in html
    bars = [float(width) for width in re.findall(r'class="bar" style="width: ([\d.]+)%', html)]
    assert bars == pytest.approx([75, 50])  # of 80 percent
    ranges = re.findall(r'between" style="left: ([\d.]+)%; width: ([\d.]+)%', html)
    assert [float(bound) for bounds in ranges for bound in bounds] == pytest.approx([50, 50, 12.5, 75])  # the widest
    marks = [float(left) for left in re.findall(r'class="paper" style="left: ([\d.]+)%', html)]
    assert marks == pytest.approx([79, 5.2125])


@pytest.mark.parametrize("table", [TABLE, ALONE])
def test_the_terminal_shows_the_widest_interval(table):
    console = Console(width=80)
    with console.capture() as capture:
        console.print(text_table(table, narrow=True).to_console())
    text = capture.get()
    assert "[10.0, 70.0]" in text
    assert ("paper %" in text) == (table is TABLE)
    assert max(map(len, text.splitlines())) <= 80
