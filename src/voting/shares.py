"""What votes say: every method's share with its intervals, beside the paper's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from src.common.errors import InputError
from src.evaluation.bootstrap import Bootstrap, Interval
from src.reproduction.papers import PaperTable

_FEWEST_EXPECTED = 5
"""Votes a method, by chance, below which a chi-square test's p is rough. Source: Cochran 1954, Sec. 2."""


@dataclass(frozen=True)
class Shown:
    """Our half of a line: a method that voters saw. Shares are of all votes, from 0 to 1.

    Attributes:
        wilson: as if every vote were a voter's and a picture's only one.
        over_voters, over_pictures: of whole voters and of whole pictures drawn anew; None where there is one alone.
    """

    votes: int
    share: float
    wilson: Interval
    over_voters: Interval | None
    over_pictures: Interval | None

    @property
    def widest(self) -> Interval:
        """Of the three."""
        found = (self.wilson, self.over_voters, self.over_pictures)
        return max((interval for interval in found if interval is not None), key=lambda i: i[1] - i[0])


@dataclass(frozen=True)
class VoteRow:
    """A method; shares are from 0 to 1.

    Attributes:
        ours: None where voters did not see it.
        paper: its share of the printed votes; None where nothing is printed.
        paper_of_shown: its share of what the paper prints for the methods that our voters saw.
    """

    method: str
    ours: Shown | None
    paper: float | None = None
    paper_of_shown: float | None = None


@dataclass(frozen=True)
class VoteTable:
    """The result of a study.

    Attributes:
        beside: the paper and the place in it; None where there is none.
        summary: how many voted, on how much.
        notes: how to read it.
    """

    beside: str | None
    rows: tuple[VoteRow, ...]
    summary: str
    notes: tuple[str, ...]


def methods_in(paper: PaperTable, methods: Sequence[str]) -> dict[str, str]:
    """By what the paper calls it, our name of each method that voters see: that of its row, or what the paper says.

    Raises:
        InputError: the table is of another kind, has none of them, or one of its methods is two of ours.
    """
    if paper.kind != "votes" or len(paper.metrics) != 1 or len(paper.bins) != 1:
        raise InputError(f"{paper.title!r} is no table of votes: name one, as lbam/user_study")
    found: dict[str, str] = {}
    for method in methods:
        for row in paper.rows:
            if method == row.row or method.casefold() == row.method.casefold():
                if row.method in found:
                    raise InputError(f"{found[row.method]} and {method} are both the table's {row.method}: rename one")
                found[row.method] = method
    if not found:
        known = ", ".join(row.row or row.method for row in paper.rows)
        raise InputError(f"none of {', '.join(methods)} is in the table, which has {known}")
    return found


def vote_table(
    votes: pd.DataFrame, facts: Mapping[str, Any], paper: PaperTable | None = None, bootstrap: Bootstrap | None = None
) -> VoteTable:
    """Count votes; lines stand in the paper's order, then by votes.

    Args:
        votes, facts: as `Votes` has them.
        paper: a table of kind votes, as `methods_in` reads it.
        bootstrap: how to find the intervals over voters and over pictures.
    Raises:
        InputError: there are no votes, or `methods_in` refuses the table.
    """
    if votes.empty:
        raise InputError("nobody has voted yet: there is nothing to report")
    bootstrap = bootstrap or Bootstrap()
    methods: list[str] = facts["methods"]
    ours = _shown(votes, methods, bootstrap)
    by_votes = sorted(methods, key=lambda method: -ours[method].votes)
    folders = {} if paper is None else methods_in(paper, methods)
    printed = {} if paper is None else _printed_shares(paper)
    total_of_shown = sum(printed[name] or 0 for name in folders)
    rows = [
        VoteRow(
            _label(name, folders.get(name)),
            ours.get(folders.get(name, "")),
            share,
            share / total_of_shown if name in folders and share is not None else None,
        )
        for name, share in printed.items()
    ]
    rows += [VoteRow(method, ours[method]) for method in by_votes if method not in folders.values()]
    notes = [
        f"In brackets, {bootstrap.confidence:.0%} intervals: Wilson's, as if votes did not depend on each other; but "
        "votes of one voter do, and so do votes on one picture. Hence percentile bootstrap intervals beside it, over "
        f"whole voters and over whole pictures ({bootstrap.resamples} resamples, seed {bootstrap.seed}): to say what "
        "others would vote, or what holds for other pictures, take the widest.",
        *_chance_notes(votes, methods),
        *([] if paper is None else _paper_notes(paper, folders, methods)),
    ]
    return VoteTable(
        None if paper is None else f"{paper.paper}; {paper.source}", tuple(rows), _summary(votes, facts), tuple(notes)
    )


def _shown(votes: pd.DataFrame, methods: Sequence[str], bootstrap: Bootstrap) -> dict[str, Shown]:
    picks = (votes["method"].to_numpy()[:, None] == np.array(methods, dtype=object)).astype(np.float64)
    by_voter = bootstrap.intervals(picks, votes["voter"].to_numpy(str))
    by_picture = bootstrap.intervals(picks, votes["question"].to_numpy(str))
    shown = {}
    for i, method in enumerate(methods):
        count = int(picks[:, i].sum())
        low, high = stats.binomtest(count, len(votes)).proportion_ci(bootstrap.confidence, method="wilson")
        wilson = (float(low), float(high))
        shown[method] = Shown(count, count / len(votes), wilson, by_voter[i], by_picture[i])
    return shown


def _printed_shares(paper: PaperTable) -> dict[str, float | None]:
    (metric,), (bin_,) = paper.metrics, paper.bins
    printed = {row.method: row.values.get(metric.name, {}).get(bin_) for row in paper.rows}
    total = sum(value or 0 for value in printed.values())  # of votes, or of percents that sum to about 100
    return {method: None if value is None else value / total for method, value in printed.items()}


def _label(printed: str, folder: str | None) -> str:
    return printed if folder is None or folder.casefold() == printed.casefold() else f"{printed} ({folder})"


def _summary(votes: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    asked = len(facts["pictures"])
    by_voter = votes.groupby("voter").size()
    return (
        f"{len(votes)} votes by {len(by_voter)} voters, of whom {int((by_voter == asked).sum())} answered all {asked} "
        f"questions; {votes['question'].nunique()} pictures; half of the answers took less than "
        f"{votes['seconds'].median():.1f} s"
    )


def _chance_notes(votes: pd.DataFrame, methods: Sequence[str]) -> list[str]:
    by_method = [int((votes["method"] == method).sum()) for method in methods]
    places = [shown.index(method) for shown, method in zip(votes["shown"], votes["method"], strict=True)]
    by_place = [places.count(place) for place in range(len(methods))]
    few = len(votes) < _FEWEST_EXPECTED * len(methods)
    rough = f" (rough: chance gives each fewer than {_FEWEST_EXPECTED} votes)" if few else ""
    return [
        f"Against chance, which picks every method equally often: {_chi_square(by_method)}{rough}. Orders are random "
        "for every voter and picture, so picks by chance would not depend on each other, and the test needs no more.",
        f"Picks by place on the page, first to last: {', '.join(map(str, by_place))}. Against equally many: "
        f"{_chi_square(by_place)}{rough}.",
    ]


def _chi_square(counts: Sequence[int]) -> str:
    test = stats.chisquare(counts)
    p = f"p = {test.pvalue:.2g}" if test.pvalue >= 1e-4 else "p < 0.0001"
    return f"chi-square = {test.statistic:.2f} with {len(counts) - 1} degrees of freedom, {p}"


def _paper_notes(paper: PaperTable, folders: Mapping[str, str], methods: Sequence[str]) -> list[str]:
    protocol = "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in paper.protocol.items())
    notes = [f"The paper's study: {protocol}. Its shares are of the printed column's total."]
    absent = [row.why or f"{row.method} was left out" for row in paper.rows if row.method not in folders]
    extra = [method for method in methods if method not in folders.values()]
    if absent or extra:
        notes.append(
            "What a result can win depends on what stands beside it, and our voters and the paper's did not choose "
            "among the same methods. The last column is the paper's share among the methods that ours saw, as if those "
            "who picked another had spread over them in proportion."
            + (f" Only in the paper: {'; '.join(absent)}." if absent else "")
            + (f" Only here: {', '.join(extra)}." if extra else "")
        )
    return notes
