"""Outcomes of rows: their states, and records brought together only where they are of one test."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.common.errors import InputError
from src.reproduction.outcomes import Failure, RowOutcome, read_outcomes

SCORES = np.arange(6.0).reshape(3, 2)
FAILURE = Failure("ValueError: no", Path("log.txt"))


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (RowOutcome({0: Path("a")}), "ok"),
        (RowOutcome({0: Path("a")}, {1: FAILURE}), "some seeds failed"),
        (RowOutcome(failures={1: FAILURE}), "failed"),
        (RowOutcome(), "not run"),
    ],
)
def test_a_row_has_one_of_four_states(outcome, status):
    assert outcome.status == status


def test_records_come_in_one_order_whatever_they_were_written_in(write_run):
    shuffle = lambda frame: frame.sample(frac=1, random_state=1)  # noqa: E731
    outcomes = {
        "a": RowOutcome({1: write_run("a", 1, SCORES, change=shuffle), 0: write_run("a", 0, SCORES)}),
        "b": RowOutcome(failures={0: FAILURE}),
    }
    scored = read_outcomes(outcomes)
    assert {row: list(frames) for row, frames in scored.frames.items()} == {"a": [0, 1]}
    for frame in scored.frames["a"].values():
        assert frame["composite_psnr"].tolist() == SCORES.ravel().tolist()
    assert scored.absent == {"a": {"lpips": "AlexNet weights not found"}}
    assert len(scored.first) == 6


def test_nothing_finished_is_no_records():
    assert len(read_outcomes({"b": RowOutcome(failures={0: FAILURE})}).first) == 0


OTHER = {
    "mask bank": lambda origin: replace(origin, mask_bank_hash="00"),
    "data": lambda origin: replace(origin, data={**origin.data, "crop_seed": 1}),
    "mask bank and data": lambda origin: replace(origin, mask_bank_hash="00", data={}),
}


@pytest.mark.parametrize("what", OTHER)
def test_other_tests_are_refused_with_both_files(write_run, provenance, what):
    first, second = write_run("a", 0, SCORES), write_run("b", 0, SCORES, origin=OTHER[what](provenance))
    with pytest.raises(InputError, match=f"{first} and {second} differ in their {what}, so"):
        read_outcomes({"a": RowOutcome({0: first}), "b": RowOutcome({0: second})})


@pytest.mark.parametrize(
    "change",
    [lambda frame: frame[:-1], lambda frame: frame.assign(hole_ratio=frame["hole_ratio"] + 0.01)],
    ids=["fewer", "other masks"],
)
def test_other_records_are_refused_also_between_seeds(write_run, change):
    paths = {0: write_run("a", 0, SCORES), 1: write_run("a", 1, SCORES, change=change)}
    with pytest.raises(InputError, match=r"a, seed 0 .* and a, seed 1 .* not scored on the same images"):
        read_outcomes({"a": RowOutcome(paths)})


def test_the_same_data_may_lie_elsewhere_and_have_more_to_train_on(write_run, provenance):
    elsewhere = replace(provenance, data={**provenance.data, "root": "/mnt", "files": {"train": 3}})
    moved = write_run("b", 0, SCORES, origin=elsewhere,
                      change=lambda frame: frame.assign(path=frame["path"].str.replace("/photos", "/mnt")))  # fmt: skip
    scored = read_outcomes({"a": RowOutcome({0: write_run("a", 0, SCORES)}), "b": RowOutcome({0: moved})})
    assert len(scored.frames) == 2
