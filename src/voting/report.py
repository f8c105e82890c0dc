"""The result of a user study as Markdown, CSV, HTML and console output."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from src.evaluation.bootstrap import Interval
from src.rendering.html import ENVIRONMENT
from src.rendering.text_table import NO_VALUE, Cell, Heading, Section, TextTable, write_texts
from src.voting.shares import VoteRow, VoteTable

TITLE = "User study: which result looks most plausible"


def write_vote_report(table: VoteTable, votes: Path) -> list[Path]:
    """Write the table next to the file of votes, under its name, and return the .md, .csv and .html file."""
    csv = to_frame(table).to_csv(index=False, lineterminator="\n")
    texts = {".md": text_table(table).to_markdown(), ".csv": csv, ".html": to_html(table)}
    return write_texts(votes.parent, {votes.with_suffix(suffix).name: text for suffix, text in texts.items()})


def percent(share: float | None) -> str:
    """Return a share of our votes in percent with one decimal, the resolution of a thousand votes."""
    return NO_VALUE if share is None else f"{100 * share:.1f}"


def printed_percent(share: float | None) -> str:
    """Return a share of a paper's votes in percent with up to two decimals, as printed."""
    return NO_VALUE if share is None else f"{round(100 * share, 2):g}"


def interval_percent(interval: Interval | None) -> str:
    """Return ``[low, high]``; a dash if there is no interval."""
    return NO_VALUE if interval is None else f"[{percent(interval[0])}, {percent(interval[1])}]"


def text_table(table: VoteTable) -> TextTable:
    """Return all columns and notes."""
    labels = ["votes", "%", "Wilson", "over voters", "over images", *_paper_labels(table)]
    rows = []
    for row in table.rows:
        ours = row.ours
        cells = [""] * 5
        if ours is not None:
            intervals = (ours.wilson, ours.over_voters, ours.over_images)
            cells = [str(ours.votes), percent(ours.share), *map(interval_percent, intervals)]
        rows.append((row.method, *cells, *_paper_cells(table, row)))
    source = [] if table.paper_source is None else [f"Compared with {table.paper_source}."]
    return _table(table, labels, rows, (*source, *table.notes))


def console_table(table: VoteTable) -> TextTable:
    """Return a table of at most 80 characters, with only the widest interval and without notes."""
    rows = []
    for row in table.rows:
        ours = row.ours
        cells = ["", "", ""]
        if ours is not None:
            cells = [str(ours.votes), percent(ours.share), interval_percent(ours.widest)]
        rows.append((row.method, *cells, *_paper_cells(table, row)))
    return _table(table, ["votes", "%", "widest interval", *_paper_labels(table)], rows, ())


def to_frame(table: VoteTable) -> pd.DataFrame:
    """Return one row per method with unrounded percentages."""

    def percents(*shares: float | None) -> list[float | None]:
        return [None if share is None else round(100 * share, 6) for share in shares]

    rows = []
    for row in table.rows:
        ours = row.ours
        intervals = [None] * 3 if ours is None else [ours.wilson, ours.over_voters, ours.over_images]
        bounds = [bound for interval in intervals for bound in interval or (None, None)]
        share = None if ours is None else ours.share
        votes = None if ours is None else ours.votes
        rows.append([row.method, votes, *percents(share, *bounds, row.paper, row.paper_of_shown)])
    columns = ["method", "votes", "share_percent", "wilson_low", "wilson_high", "voters_low", "voters_high"]
    columns += ["images_low", "images_high", "paper_percent", "paper_of_shown_percent"]
    return pd.DataFrame(rows, columns=columns).astype({"votes": "Int64"})


def to_html(table: VoteTable) -> str:
    """Write a self-contained page: bars with the widest intervals, marks for the paper's shares, and the table."""
    drawn = [bound for row in table.rows for bound in (row.paper or 0, row.ours.widest[1] if row.ours else 0)]
    scale = min(1.0, math.ceil(10 * max(drawn)) / 10)  # rounded up to ten percent
    template = ENVIRONMENT.get_template("votes.html.jinja")
    return template.render(title=TITLE, table=table, text=text_table(table), scale=scale)


def _table(table: VoteTable, labels: list[str], rows: Sequence[tuple[Cell, ...]], notes: tuple[str, ...]) -> TextTable:
    headings = (Heading("method", left=True), *map(Heading, labels))
    return TextTable(f"{TITLE}: {table.summary}", headings, (Section(tuple(rows)),), notes)


def _paper_labels(table: VoteTable) -> list[str]:
    return ["paper %", "paper %, of these methods"] if table.paper_source else []


def _paper_cells(table: VoteTable, row: VoteRow) -> list[str]:
    return [printed_percent(row.paper), printed_percent(row.paper_of_shown)] if table.paper_source else []
