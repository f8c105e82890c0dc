"""Outcomes of rows: their status, and records, which are combined only if they are from one test."""

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
def test_the_status_of_a_row(outcome, status):
    assert outcome.status == status


def test_records_are_sorted_regardless_of_their_order_in_the_file(write_run):
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


def test_without_finished_runs_there_are_no_records():
    assert len(read_outcomes({"b": RowOutcome(failures={0: FAILURE})}).first) == 0


OTHER = {
    "mask bank": lambda origin: replace(origin, mask_bank_hash="00"),
    "data": lambda origin: replace(origin, data={**origin.data, "crop_seed": 1}),
    "mask bank and data": lambda origin: replace(origin, mask_bank_hash="00", data={}),
}


@pytest.mark.parametrize("what", OTHER)
def test_rejects_records_of_different_tests_and_names_both_files(write_run, provenance, what):
    first, second = write_run("a", 0, SCORES), write_run("b", 0, SCORES, origin=OTHER[what](provenance))
    with pytest.raises(InputError, match=f"{first} and {second} differ in their {what}, so"):
        read_outcomes({"a": RowOutcome({0: first}), "b": RowOutcome({0: second})})


@pytest.mark.parametrize(
    "change",
    [lambda frame: frame[:-1], lambda frame: frame.assign(hole_ratio=frame["hole_ratio"] + 0.01)],
    ids=["fewer", "other masks"],
)
def test_rejects_different_samples_also_between_seeds(write_run, change):
    paths = {0: write_run("a", 0, SCORES), 1: write_run("a", 1, SCORES, change=change)}
    with pytest.raises(InputError, match=r"a, seed 0 .* and a, seed 1 .* not scored on the same images"):
        read_outcomes({"a": RowOutcome(paths)})


def test_the_same_data_may_have_another_root_and_more_training_files(write_run, provenance):
    other_root = replace(provenance, data={**provenance.data, "root": "/mnt", "files": {"train": 3}})
    moved = write_run("b", 0, SCORES, origin=other_root,
                      change=lambda frame: frame.assign(path=frame["path"].str.replace("/photos", "/mnt")))  # fmt: skip
    scored = read_outcomes({"a": RowOutcome({0: write_run("a", 0, SCORES)}), "b": RowOutcome({0: moved})})
    assert len(scored.frames) == 2
