"""Agreement of scores with votes: a slow reference, answers known by hand, and how records are matched with a study."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from src.common.errors import InputError
from src.common.provenance import HashedFile
from src.evaluation.bootstrap import Bootstrap
from src.evaluation.records import MethodRecords, Origin
from src.voting.agreement import agreement_with_scores, mean_taus
from src.voting.report import write_vote_report
from src.voting.shares import vote_table

METHODS = ("a", "b", "c")
PSNR = {"a": [30.0, 20.0, 25.0, 20.0], "b": [29.0, 22.0, 25.0, 21.0], "c": [28.0, 24.0, 25.0, 22.0]}
BEST = ("a", "c", None, "c")  # method with the highest PSNR on each image


@pytest.fixture
def records(make_records, provenance):
    def make(names=METHODS, change=lambda frame: frame):
        found = []
        for name in names:
            frame = make_records(name, PSNR[name], [50 - value for value in PSNR[name]])
            frame["path"] = [f"photo_{i}.png" for i in range(4)]
            file = HashedFile(f"{name}.parquet", "0" * 64)
            found.append(MethodRecords(Origin(name, file, replace(provenance, data={}), ()), change(frame)))
        return found

    return make


def cast(choices):
    """Return votes and facts from (voter, number of the image, method)."""
    votes = pd.DataFrame(choices, columns=["voter", "question", "method"])
    votes = votes.assign(
        question="photo_" + votes["question"].astype(str), shown=[list(METHODS)] * len(votes), seconds=1.0
    )
    return votes, {"methods": list(METHODS), "seed": 0, "images": {f"photo_{i}": "" for i in range(4)}}


@pytest.fixture
def random_votes():
    rng = np.random.default_rng(0)
    return cast([(f"v{v}", i, METHODS[rng.integers(3)]) for v in range(9) for i in range(4) if rng.random() < 0.8])


def slow_mean_tau(votes, scores, weights):
    """Return the mean tau of voters who count `weights` times, and the number of images."""
    taus = []
    for i in range(4):
        own = votes[votes["question"] == f"photo_{i}"]
        counts = [
            sum(weights[v] for v, m in zip(own["voter"], own["method"], strict=True) if m == name) for name in METHODS
        ]
        tau = stats.kendalltau(counts, [scores[name][i] for name in METHODS]).statistic
        taus += [] if np.isnan(tau) else [tau]
    return (np.mean(taus) if taus else np.nan), len(taus)


def test_agreement_equals_a_slow_reference(records, random_votes):
    votes, facts = random_votes
    found = {each.metric.name: each for each in agreement_with_scores(votes, facts, records(), Bootstrap(50)).scores}
    voters = sorted(votes["voter"].unique())
    rng, resampled = np.random.default_rng(0), []
    for _ in range(50):
        drawn = rng.integers(len(voters), size=len(voters))
        weights = {voter: int((drawn == k).sum()) for k, voter in enumerate(voters)}
        resampled.append(slow_mean_tau(votes, PSNR, weights)[0])
    tau, images = slow_mean_tau(votes, PSNR, dict.fromkeys(voters, 1))
    assert (found["psnr"].tau, found["psnr"].images) == (pytest.approx(tau), images)
    assert found["psnr"].interval == pytest.approx(np.nanquantile(resampled, (0.025, 0.975)))
    # l1 is 50 - PSNR, and lower is better: the same order
    assert found["l1_percent"].tau == found["psnr"].tau


def test_voters_who_choose_by_a_score_agree_with_it(records):
    order = {0: "aab", 1: "ccb", 3: "ccb"}  # votes of three voters: 2, 1, 0 in the order of PSNR
    votes, facts = cast([(f"v{v}", i, order[i][v]) for v in range(3) for i in order])
    first = agreement_with_scores(votes, facts, records()).scores[0]
    assert (first.metric.name, first.tau, first.images) == ("psnr", 1.0, 3)  # image 2 has equal scores and no votes
    assert first.interval[1] == 1.0
    reverse = {"a": "c", "b": "b", "c": "a"}
    votes["method"] = votes["method"].map(reverse)
    assert agreement_with_scores(votes, facts, records()).scores[0].tau == -1.0
    one_voter = agreement_with_scores(*cast([("v", i, BEST[i]) for i in (0, 1, 3)]), records()).scores[0]
    assert one_voter.tau == pytest.approx(2 / np.sqrt(6))  # 2 of 3 pairs have different votes, all agree
    assert one_voter.interval is None


def test_equal_and_missing_scores_have_no_tau():
    votes = np.array([[3.0, 1.0], [1.0, 3.0]])
    scores = np.array([[[2.0, 1.0], [5.0, 5.0]], [[np.nan, 1.0], [1.0, 2.0]], [[np.inf, np.inf], [7.0, 7.0]]])
    taus, images = mean_taus(votes, scores)
    np.testing.assert_array_equal(taus, [1.0, 1.0, np.nan])
    assert images.tolist() == [1, 1, 0]


def test_records_are_matched_by_the_names_of_methods_and_images(records, random_votes):
    votes, facts = random_votes
    found = agreement_with_scores(votes, facts, records(("a", "b"), lambda frame: frame[:3]))
    assert "Without scores, and left out with their votes: c." in found.notes
    assert "1 of the 4 images of the study have no scores and are left out." in found.notes
    with pytest.raises(
        InputError, match=r"records has scores of a, but the study's methods are a, b, c: name at least"
    ):
        agreement_with_scores(votes, facts, records(("a",)))
    with pytest.raises(InputError, match="no scores of the study's images, such as photo_0"):
        agreement_with_scores(votes, facts, records(METHODS, lambda frame: frame.assign(path="other.png")))
    one_image = records(METHODS, lambda frame: frame.assign(path="photo_0.png"))
    with pytest.raises(InputError, match=r"4 scores of photo_0, of several crops or masks: .* such as photo_0_0"):
        agreement_with_scores(votes, facts, one_image)
    votes["question"] = votes["question"].replace("photo_1", "photo_0_1")
    facts["images"] = {"photo_0_1": ""}
    by_index = agreement_with_scores(votes, facts, one_image)
    assert by_index.scores[0].images == 1


def test_the_report_has_a_table_of_the_agreement(records, random_votes, tmp_path):
    votes, facts = random_votes
    constant = records(METHODS, lambda frame: frame.assign(composite_l1_relative_known_percent=0.0))
    agreement = agreement_with_scores(votes, facts, constant, Bootstrap(20))
    assert "equal for all methods in every image: l1 relative known." in agreement.notes[-1]
    written = write_vote_report(replace(vote_table(votes, facts), agreement=agreement), tmp_path / "votes.db")
    assert [path.name for path in written] == ["votes.md", "votes.csv", "votes.html", "votes_scores.csv"]
    markdown, page = (tmp_path / "votes.md").read_text(), (tmp_path / "votes.html").read_text()
    assert "| score | better | tau | over voters | images |" in markdown
    assert '<th scope="row">PSNR</th><td class="left">higher</td>' in page
    assert (tmp_path / "votes_scores.csv").read_text().startswith("score,tau,low,high,images\npsnr,")
