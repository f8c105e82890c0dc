"""A study's result written down: Markdown, CSV, HTML, and for the terminal."""

import csv
import io
import math
from pathlib import Path

from rich import box
from rich import table as rich_table
from rich.text import Text

from src.common.atomic_files import atomic_write
from src.evaluation.bootstrap import Interval
from src.evaluation.formats import NO_VALUE, escape_markdown
from src.rendering.html import ENVIRONMENT
from src.voting.shares import Line, VoteTable

TITLE = "User study: which result looks most plausible"
_COLUMNS = (
    "method", "votes", "share_percent", "wilson_low", "wilson_high", "voters_low", "voters_high", "pictures_low",
    "pictures_high", "paper_percent", "paper_of_shown_percent",
)  # fmt: skip


def write_vote_report(table: VoteTable, votes: Path) -> list[Path]:
    """Write the table beside the file of votes, under its name.

    Returns:
        The files written: .md, .csv and .html.
    """
    texts = {".md": to_markdown(table), ".csv": to_csv(table), ".html": to_html(table)}
    for suffix, text in texts.items():
        with atomic_write(votes.with_suffix(suffix)) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [votes.with_suffix(suffix) for suffix in texts]


def percent(share: float | None) -> str:
    """Ours: one decimal, which is what a study of a thousand votes can tell apart."""
    return NO_VALUE if share is None else f"{100 * share:.1f}"


def printed_percent(share: float | None) -> str:
    """The paper's: up to two decimals, as it prints them."""
    return NO_VALUE if share is None else f"{round(100 * share, 2):g}"


def interval_percent(interval: Interval | None) -> str:
    """As ``[low, high]``; a dash where there is none."""
    return NO_VALUE if interval is None else f"[{percent(interval[0])}, {percent(interval[1])}]"


def cells(line: Line, beside: bool) -> list[str]:
    """What a line says, column by column; the paper's two columns only where a paper stands beside."""
    ours = line.ours
    shown = (
        [""] * 5
        if ours is None
        else [
            str(ours.votes),
            percent(ours.share),
            *(interval_percent(interval) for interval in (ours.wilson, ours.over_voters, ours.over_pictures)),
        ]
    )
    return [*shown, *([printed_percent(line.paper), printed_percent(line.paper_of_shown)] if beside else [])]


def heads(table: VoteTable) -> list[str]:
    """Names of the columns after the method's."""
    return ["votes", "%", "Wilson", "over voters", "over pictures", *_paper_heads(table)]


def to_markdown(table: VoteTable) -> str:
    """A GitHub-flavoured Markdown table with notes."""
    columns = heads(table)
    lines = [
        f"**{TITLE}**",
        "",
        f"{escape_markdown(table.summary)}.",
        "",
        f"| method | {' | '.join(columns)} |",
        f"| --- |{' ---: |' * len(columns)}",
    ]
    for line in table.lines:
        lines.append(f"| {' | '.join([escape_markdown(line.method), *cells(line, table.beside is not None)])} |")
    if table.beside is not None:
        lines += ["", f"Beside it, {escape_markdown(table.beside)}."]
    for note in table.notes:
        lines += ["", escape_markdown(note)]
    return "\n".join(lines) + "\n"


def to_csv(table: VoteTable) -> str:
    """All numbers, in percent, with more digits than they deserve; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)

    def percents(*shares: float | None) -> list[float | None]:
        return [None if share is None else round(100 * share, 6) for share in shares]

    for line in table.lines:
        ours = line.ours
        votes = [None] if ours is None else [ours.votes]
        intervals = [None] * 3 if ours is None else [ours.wilson, ours.over_voters, ours.over_pictures]
        bounds = [bound for interval in intervals for bound in interval or (None, None)]
        share = None if ours is None else ours.share
        writer.writerow([line.method, *votes, *percents(share, *bounds, line.paper, line.paper_of_shown)])
    return text.getvalue()


def to_html(table: VoteTable) -> str:
    """One file that fetches nothing: bars with their widest intervals, the paper's shares as marks, and the table."""
    drawn = [bound for line in table.lines for bound in (line.paper or 0, line.ours.widest[1] if line.ours else 0)]
    scale = min(1.0, math.ceil(10 * max(drawn)) / 10)  # to the next ten percent
    template = ENVIRONMENT.get_template("votes.html.jinja")
    return template.render(title=TITLE, table=table, heads=heads(table), cells=cells, scale=scale)


def to_console(table: VoteTable) -> rich_table.Table:
    """A table for `rich.print`; of intervals the widest alone, so that it fits 80 characters."""
    shown = rich_table.Table(
        title=Text(f"{TITLE}\n{table.summary}"), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False
    )
    shown.add_column("", overflow="fold")
    for head in ("votes", "%", "widest interval", *_paper_heads(table)):
        shown.add_column(head, justify="right")
    for line in table.lines:
        votes, share, *_, paper, paper_of_shown = cells(line, beside=True)
        widest = interval_percent(line.ours.widest) if line.ours else ""
        texts = [line.method, votes, share, widest, *([paper, paper_of_shown] if table.beside else [])]
        shown.add_row(*(Text(text) for text in texts))
    return shown


def _paper_heads(table: VoteTable) -> list[str]:
    return ["paper %", "paper %, of these methods"] if table.beside else []
