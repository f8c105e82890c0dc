"""Shares of votes: each method's share with its intervals, and the paper's share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from src.common.errors import InputError
from src.evaluation.bootstrap import Bootstrap, Interval
from src.reproduction.papers import PaperTable
from src.voting.agreement import Agreement

_FEWEST_EXPECTED = 5
"""Expected votes per method below which the p value of a chi-square test is rough. Source: Cochran 1954, Sec. 2."""


@dataclass(frozen=True)
class VoteShare:
    """Our result for one method that voters saw. Shares are between 0 and 1, relative to all votes.

    Attributes:
        wilson: Wilson's interval, which treats all votes as independent.
        over_voters, over_images: bootstrap intervals that resample voters or images; None if there is only one.
    """

    votes: int
    share: float
    wilson: Interval
    over_voters: Interval | None
    over_images: Interval | None

    @property
    def widest(self) -> Interval:
        """The widest of the three intervals."""
        found = (self.wilson, self.over_voters, self.over_images)
        return max((interval for interval in found if interval is not None), key=lambda i: i[1] - i[0])


@dataclass(frozen=True)
class VoteRow:
    """One method; shares are between 0 and 1.

    Attributes:
        ours: our result; None if our voters did not see the method.
        paper: its share of the printed votes; None if not printed.
        paper_of_shown: its share of the votes printed for the methods that our voters saw.
    """

    method: str
    ours: VoteShare | None
    paper: float | None = None
    paper_of_shown: float | None = None


@dataclass(frozen=True)
class VoteTable:
    """The result of a study.

    Attributes:
        paper_source: the paper that is compared with, and its table; None if there is none.
        summary: number of votes, voters and images.
        notes: how to interpret the table.
        agreement: of scores with the votes, if there are records.
    """

    paper_source: str | None
    rows: tuple[VoteRow, ...]
    summary: str
    notes: tuple[str, ...]
    agreement: Agreement | None = None


def match_methods(paper: PaperTable, methods: Sequence[str]) -> dict[str, str]:
    """Map the paper's method names to ours, matched by the row's name or by the printed name.

    Raises:
        InputError: the table is of another kind, has none of our methods, or matches two of them to one of its own.
    """
    if paper.kind != "votes" or len(paper.metrics) != 1 or len(paper.bins) != 1:
        raise InputError(f"{paper.title!r} is not a table of votes: pass one, such as table=lbam/user_study")
    found: dict[str, str] = {}
    for method in methods:
        for row in paper.rows:
            if method == row.row or method.casefold() == row.method.casefold():
                if row.method in found:
                    raise InputError(
                        f"{found[row.method]} and {method} both match the table's {row.method}: rename one"
                    )
                found[row.method] = method
    if not found:
        known = ", ".join(row.row or row.method for row in paper.rows)
        raise InputError(
            f"none of the methods {', '.join(methods)} is in the paper's table: rename them; available: {known}"
        )
    return found


def vote_table(
    votes: pd.DataFrame, facts: Mapping[str, Any], paper: PaperTable | None = None, bootstrap: Bootstrap | None = None
) -> VoteTable:
    """Count votes; rows are in the paper's order, further methods in the order of their votes.

    Args:
        votes, facts: `Votes.table()` and `Votes.facts`.
        paper: a table of kind votes.
        bootstrap: how to compute the intervals over voters and over images.
    Raises:
        InputError: there are no votes, or the table does not match (see `match_methods`).
    """
    if votes.empty:
        raise InputError("there are no votes to report: collect some with images=<directory>")
    bootstrap = bootstrap or Bootstrap()
    methods: list[str] = facts["methods"]
    ours = _vote_shares(votes, methods, bootstrap)
    by_votes = sorted(methods, key=lambda method: -ours[method].votes)
    directories = {} if paper is None else match_methods(paper, methods)
    printed = {} if paper is None else _printed_shares(paper)
    total_of_shown = sum(printed[name] or 0 for name in directories)
    rows = []
    for name, share in printed.items():
        method = directories.get(name, "")
        label = name if method.casefold() in ("", name.casefold()) else f"{name} ({method})"
        of_shown = share / total_of_shown if method and share is not None else None
        rows.append(VoteRow(label, ours.get(method), share, of_shown))
    rows += [VoteRow(method, ours[method]) for method in by_votes if method not in directories.values()]
    notes = [
        f"{bootstrap.confidence:.0%} intervals in brackets. Wilson's interval assumes independent votes, but votes of "
        "one voter depend on each other, and so do votes on one image. The percentile bootstrap intervals therefore "
        f"resample whole voters and whole images ({bootstrap.resamples} resamples, seed {bootstrap.seed}). Use the "
        "widest interval for conclusions about other voters or other images.",
        *_chance_notes(votes, methods),
        *([] if paper is None else _paper_notes(paper, directories, methods)),
    ]
    asked, by_voter = len(facts["images"]), votes.groupby("voter").size()
    summary = (
        f"{len(votes)} votes by {len(by_voter)} voters, of whom {int((by_voter == asked).sum())} answered all {asked} "
        f"questions; {votes['question'].nunique()} images; median answer time {votes['seconds'].median():.1f} s"
    )
    source = None if paper is None else f"{paper.paper}; {paper.source}"
    return VoteTable(source, tuple(rows), summary, tuple(notes))


def _vote_shares(votes: pd.DataFrame, methods: Sequence[str], bootstrap: Bootstrap) -> dict[str, VoteShare]:
    picks = (votes["method"].to_numpy()[:, None] == np.array(methods, dtype=object)).astype(np.float64)
    by_voter = bootstrap.intervals(picks, votes["voter"].to_numpy(str))
    by_image = bootstrap.intervals(picks, votes["question"].to_numpy(str))
    shares = {}
    for i, method in enumerate(methods):
        count = int(picks[:, i].sum())
        low, high = stats.binomtest(count, len(votes)).proportion_ci(bootstrap.confidence, method="wilson")
        shares[method] = VoteShare(count, count / len(votes), (float(low), float(high)), by_voter[i], by_image[i])
    return shares


def _printed_shares(paper: PaperTable) -> dict[str, float | None]:
    (metric,), (bin_,) = paper.metrics, paper.bins
    printed = {row.method: row.values.get(metric.name, {}).get(bin_) for row in paper.rows}
    total = sum(value or 0 for value in printed.values())  # of votes, or of percentages that sum to about 100
    return {method: None if value is None else value / total for method, value in printed.items()}


def _chance_notes(votes: pd.DataFrame, methods: Sequence[str]) -> list[str]:
    by_method = [int((votes["method"] == method).sum()) for method in methods]
    places = [shown.index(method) for shown, method in zip(votes["shown"], votes["method"], strict=True)]
    by_place = [places.count(place) for place in range(len(methods))]
    few = len(votes) < _FEWEST_EXPECTED * len(methods)
    rough = f" (rough: fewer than {_FEWEST_EXPECTED} expected votes per method)" if few else ""
    return [
        f"Test against random choice, with equal shares for all methods: {_chi_square(by_method)}{rough}. The order is "
        "random for each voter and image, so random choices would be independent, as the test requires.",
        f"Votes by position on the page, first to last: {', '.join(map(str, by_place))}. Test against equal shares: "
        f"{_chi_square(by_place)}{rough}.",
    ]


def _chi_square(counts: Sequence[int]) -> str:
    test = stats.chisquare(counts)
    p = f"p = {test.pvalue:.2g}" if test.pvalue >= 1e-4 else "p < 0.0001"
    return f"chi-square = {test.statistic:.2f} with {len(counts) - 1} degrees of freedom, {p}"


def _paper_notes(paper: PaperTable, directories: Mapping[str, str], methods: Sequence[str]) -> list[str]:
    protocol = "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in paper.protocol.items())
    notes = [f"The paper's study: {protocol}. Its shares are relative to the total of the printed column."]
    absent = [row.why or f"{row.method} was not shown" for row in paper.rows if row.method not in directories]
    extra = [method for method in methods if method not in directories.values()]
    if absent or extra:
        notes.append(
            "Shares depend on the methods that voters choose from, which differ between our study and the paper's. The "
            "last column is the paper's share among the methods that our voters saw, as if votes for other methods had "
            "been distributed proportionally."
            + (f" Only in the paper: {'; '.join(absent)}." if absent else "")
            + (f" Only here: {', '.join(extra)}." if extra else "")
        )
    return notes
