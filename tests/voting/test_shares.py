"""Shares of votes: intervals against closed forms, printed percentages and counts, and matching of methods."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from src.common.errors import InputError
from src.common.resolvers import FOLDER
from src.evaluation.bootstrap import Bootstrap
from src.reproduction.papers import PaperTable, read_paper_file
from src.voting.shares import vote_table

STUDIES = sorted(
    path.relative_to(FOLDER).with_suffix("").as_posix()
    for path in FOLDER.glob("*/*.yaml")
    if getattr(read_paper_file(path), "kind", None) == "votes"
)


def paper(name):
    return read_paper_file(FOLDER / f"{name}.yaml")


def frame(picks, methods):
    """Build votes from (voter, question, method), all shown in the order of `methods`."""
    votes = pd.DataFrame(picks, columns=["voter", "question", "method"])
    return votes.assign(shown=[list(methods)] * len(votes), seconds=np.arange(len(votes), dtype=float))


def facts(methods, questions=2):
    return {"methods": list(methods), "seed": 0, "images": {f"photo_{i}": "" for i in range(questions)}}


def lines(table):
    return {row.method: row for row in table.rows}


def test_wilson_is_its_closed_form():
    picks = [(f"v{i}", "photo_0", "a" if i < 7 else "b") for i in range(20)]
    table = vote_table(frame(picks, "abc"), facts("abc"))
    z, n = stats.norm.ppf(0.975), 20
    for method, k in {"a": 7, "b": 13, "c": 0}.items():
        centre, spread = (k / n + z**2 / (2 * n)), z * math.sqrt(k * (n - k) / n**3 + z**2 / (4 * n**2))
        ours = lines(table)[method].ours
        assert (ours.votes, ours.share) == (k, k / n)
        assert np.allclose(ours.wilson, [(centre - spread) / (1 + z**2 / n), (centre + spread) / (1 + z**2 / n)])


def test_clusters_widen_intervals():
    # Each voter always chooses the same method: 10 voters are worth 10 votes, not 200.
    tastes = [(f"v{v}", f"photo_{q}", "a" if v < 5 else "b") for v in range(10) for q in range(20)]
    ours = lines(vote_table(frame(tastes, "ab"), facts("ab", 20)))["a"].ours
    assert ours.over_images == (0.5, 0.5)
    low, high = ours.over_voters
    assert high - low > 3 * (ours.wilson[1] - ours.wilson[0])
    assert ours.widest == ours.over_voters
    swapped = [(question, voter, method) for voter, question, method in tastes]
    other = lines(vote_table(frame(swapped, "ab"), facts("ab", 20)))["a"].ours
    assert (other.over_voters, other.over_images) == (ours.over_images, ours.over_voters)


def test_one_voter_alone_has_no_interval_over_voters():
    ours = lines(vote_table(frame([("v", "photo_0", "a"), ("v", "photo_1", "a")], "ab"), facts("ab")))["a"].ours
    assert (ours.over_voters, ours.over_images) == (None, (1.0, 1.0))


def test_rows_are_sorted_by_votes_and_the_summary_counts():
    picks = [("v", "photo_0", "b"), ("v", "photo_1", "b"), ("w", "photo_0", "a"), ("x", "photo_0", "b")]
    table = vote_table(frame(picks, "abc"), facts("abc"), bootstrap=Bootstrap(resamples=10))
    assert [row.method for row in table.rows] == ["b", "a", "c"]
    assert table.paper_source is None
    assert table.summary == (
        "4 votes by 3 voters, of whom 1 answered all 2 questions; 2 images; median answer time 1.5 s"
    )


def test_chance_and_places_by_hand():
    # 12 for a, 6 for b, 0 for c, where chance gives 6 each: (36 + 0 + 36) / 6 = 12; with 2 degrees p = exp(-6).
    picks = [(f"v{i}", "photo_0", "a" if i < 12 else "b") for i in range(18)]
    votes = frame(picks, "abc")
    votes.loc[:5, "shown"] = pd.Series([["c", "b", "a"]] * 6)
    chance, places = vote_table(votes, facts("abc")).notes[1:3]
    assert f"chi-square = 12.00 with 2 degrees of freedom, p = {math.exp(-6):.2g}." in chance
    assert "first to last: 6, 6, 6." in places
    assert "chi-square = 0.00 with 2 degrees of freedom, p = 1." in places
    few = vote_table(votes[:14], facts("abc"))
    assert all("(rough: fewer than 5 expected votes per method)" in note for note in few.notes[1:3])


def test_percents_and_votes_become_shares_of_the_printed_total():
    lbam = vote_table(
        frame([("v", "photo_0", "lbam")], ["lbam", "pconv"]), facts(["lbam", "pconv"]), paper("lbam/user_study")
    )
    shares = {row.method: row.paper for row in lbam.rows}
    assert shares["LBAM"] == pytest.approx(0.632)
    assert sum(shares.values()) == pytest.approx(1)
    edge = vote_table(
        frame([("v", "photo_0", "pconv")], ["pconv", "edge_lbam"]),
        facts(["pconv", "edge_lbam"]),
        paper("edge_lbam/table2_celeba_hq"),
    )
    shares = {row.method: row.paper for row in edge.rows}
    assert shares["Ours (edge_lbam)"] == pytest.approx(456 / 920)
    assert shares["MEDFE"] is None  # printed as a dash
    of_shown = {row.method: row.paper_of_shown for row in edge.rows if row.paper_of_shown is not None}
    assert of_shown == pytest.approx({"Ours (edge_lbam)": 456 / 552, "PConv": 96 / 552})
    assert lines(edge)["GL"].ours is None
    assert "GL was not shown; DF was not shown; EC was not shown; MEDFE was not shown" in edge.notes[-1]


def test_methods_are_matched_by_row_or_printed_name():
    methods = ["global&local", "lbam", "mine"]
    table = vote_table(frame([("v", "photo_0", "mine")], methods), facts(methods), paper("lbam/user_study"))
    names = ["LBAM", "PConv", "PatchMatch", "Context Attention", "Global&Local", "mine"]
    assert [row.method for row in table.rows] == names
    assert [row.method for row in table.rows if row.ours] == ["LBAM", "Global&Local", "mine"]
    assert (lines(table)["mine"].paper, lines(table)["mine"].ours.votes) == (None, 1)
    assert table.notes[-1].endswith(
        "Only in the paper: PConv was not shown; PatchMatch was not shown; "
        "Context Attention was not shown. Only here: mine."
    )


@pytest.mark.parametrize("name", STUDIES)
def test_every_papers_study_can_be_compared_with(name):
    table = paper(name)
    methods = [row.row or row.method for row in table.rows]
    result = vote_table(frame([("v", "photo_0", methods[0])], methods), facts(methods), table)
    assert len(result.rows) == len(methods)
    assert all(row.ours for row in result.rows)
    assert sum(row.paper or 0 for row in result.rows) == pytest.approx(1)
    assert all(row.paper_of_shown == row.paper for row in result.rows)
    assert not any("Shares depend on the methods" in note for note in result.notes)


def test_the_studies_of_the_papers_are_found():
    assert {"lbam/user_study", "edge_lbam/table2_places"} <= set(STUDIES)


@pytest.mark.parametrize(
    ("methods", "table", "message"),
    [
        (
            ["a", "b"],
            "lbam/user_study",
            "none of the methods a, b is in the paper's table: .*available: lbam, pconv, patchmatch",
        ),
        (["lbam", "LBAM"], "lbam/user_study", "lbam and LBAM both match the table's LBAM: rename one"),
        (["lbam", "pconv"], "lbam/table1", "is not a table of votes"),
    ],
)
def test_tables_that_do_not_match_raise_an_error(methods, table, message):
    assert isinstance(paper(table), PaperTable)
    with pytest.raises(InputError, match=message):
        vote_table(frame([("v", "photo_0", methods[0])], methods), facts(methods), paper(table))


def test_no_votes_raise_an_error():
    with pytest.raises(InputError, match="there are no votes to report"):
        vote_table(frame([], "ab"), facts("ab"))
