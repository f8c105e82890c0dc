"""The result of a user study as Markdown, CSV, HTML and console output."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from src.evaluation.bootstrap import Interval
from src.rendering.html import ENVIRONMENT
from src.rendering.spreadsheet import to_csv
from src.rendering.text_table import NO_VALUE, Heading, Section, TextTable, write_texts
from src.voting.agreement import Agreement
from src.voting.shares import VoteTable

TITLE = "User study: which result looks most plausible"
AGREEMENT_TITLE = "Agreement of scores with the votes"
_AGREEMENT_HEADINGS = ("tau", "over voters", "images")


def write_vote_report(table: VoteTable, votes: Path) -> list[Path]:
    """Write the table next to the file of votes, under its name, and return the .md, .csv and .html file.

    If scores were compared with the votes, their agreement is in the .md and .html file, and in <name>_scores.csv.
    """
    csv = to_csv(to_frame(table))
    texts = {".md": text_table(table).to_markdown(), ".csv": csv, ".html": to_html(table)}
    written = {votes.with_suffix(suffix).name: text for suffix, text in texts.items()}
    if table.agreement is not None:
        written[votes.with_suffix(".md").name] += f"\n{agreement_table(table.agreement).to_markdown()}"
        written[f"{votes.stem}_scores.csv"] = to_csv(agreement_frame(table.agreement))
    return write_texts(votes.parent, written)


def percent(share: float | None) -> str:
    """Return a share of our votes in percent with one decimal, the resolution of a thousand votes."""
    return NO_VALUE if share is None else f"{100 * share:.1f}"


def printed_percent(share: float | None) -> str:
    """Return a share of a paper's votes in percent with up to two decimals, as printed."""
    return NO_VALUE if share is None else f"{round(100 * share, 2):g}"


def interval_percent(interval: Interval | None) -> str:
    """Return ``[low, high]``; a dash if there is no interval."""
    return NO_VALUE if interval is None else f"[{percent(interval[0])}, {percent(interval[1])}]"


def text_table(table: VoteTable, *, narrow: bool = False) -> TextTable:
    """Return all columns and notes; if `narrow`, at most 80 characters: only the widest interval and no notes."""
    labels = ["widest interval"] if narrow else ["Wilson", "over voters", "over images"]
    paper_labels = ["paper %", "paper %, of these methods"] if table.paper_source else []
    rows = []
    for row in table.rows:
        cells, ours = ["", "", *[""] * len(labels)], row.ours
        if ours is not None:
            intervals = [ours.widest] if narrow else [ours.wilson, ours.over_voters, ours.over_images]
            cells = [str(ours.votes), percent(ours.share), *map(interval_percent, intervals)]
        paper = [printed_percent(row.paper), printed_percent(row.paper_of_shown)]
        rows.append((row.method, *cells, *paper[: len(paper_labels)]))
    headings = (Heading("method", left=True), *map(Heading, ["votes", "%", *labels, *paper_labels]))
    source = [] if table.paper_source is None else [f"Compared with {table.paper_source}."]
    notes = () if narrow else (*source, *table.notes)
    return TextTable(f"{TITLE}: {table.summary}", headings, (Section(tuple(rows)),), notes)


def agreement_table(agreement: Agreement, *, notes: bool = True) -> TextTable:
    """Return the agreement of scores with votes, the best score first."""
    rows = []
    for each in agreement.scores:
        interval = NO_VALUE if each.interval is None else f"[{each.interval[0]:.2f}, {each.interval[1]:.2f}]"
        better = "higher" if each.metric.higher_is_better else "lower"
        rows.append((each.metric.label, better, f"{each.tau:.2f}", interval, str(each.images)))
    headings = (Heading("score", left=True), Heading("better", left=True), *map(Heading, _AGREEMENT_HEADINGS))
    return TextTable(AGREEMENT_TITLE, headings, (Section(tuple(rows)),), agreement.notes if notes else ())


def agreement_frame(agreement: Agreement) -> pd.DataFrame:
    """Return one row per score with unrounded values."""
    return pd.DataFrame(
        [
            {
                "score": each.metric.name,
                "tau": each.tau,
                **dict(zip(("low", "high"), each.interval or (None, None), strict=True)),
                "images": each.images,
            }
            for each in agreement.scores
        ]
    )


def to_frame(table: VoteTable) -> pd.DataFrame:
    """Return one row per method with unrounded percentages."""
    rows: list[dict[str, Any]] = []
    for row in table.rows:
        ours, shares = row.ours, dict[str, float | None]()
        if ours is not None:
            shares["share_percent"] = ours.share
            bounds = {"wilson": ours.wilson, "voters": ours.over_voters, "images": ours.over_images}
            for name, interval in bounds.items():
                shares[f"{name}_low"], shares[f"{name}_high"] = interval or (None, None)
        shares |= {"paper_percent": row.paper, "paper_of_shown_percent": row.paper_of_shown}
        percents = {name: None if share is None else round(100 * share, 6) for name, share in shares.items()}
        rows.append({"method": row.method, "votes": None if ours is None else ours.votes, **percents})
    columns = ["method", "votes", "share_percent", "wilson_low", "wilson_high", "voters_low", "voters_high"]
    columns += ["images_low", "images_high", "paper_percent", "paper_of_shown_percent"]
    return pd.DataFrame(rows, columns=columns).astype({"votes": "Int64"})


def to_html(table: VoteTable) -> str:
    """Write a self-contained page: bars with the widest intervals, marks for the paper's shares, and the table."""
    drawn = [bound for row in table.rows for bound in (row.paper or 0, row.ours.widest[1] if row.ours else 0)]
    scale = min(1.0, math.ceil(10 * max(drawn)) / 10)  # rounded up to ten percent
    template = ENVIRONMENT.get_template("votes.html.jinja")
    agreement = None if table.agreement is None else agreement_table(table.agreement)
    return template.render(title=TITLE, table=table, text=text_table(table), scale=scale, agreement=agreement)
