"""Questions of a study: reading its directory, errors that name the file, and random, reproducible, balanced orders."""

import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from src.common.errors import InputError
from src.voting.questions import read_study


def voters(count):
    return [hashlib.sha256(str(i).encode()).hexdigest()[:32] for i in range(count)]


def test_a_directory_is_read_completely(study_dir):
    (study_dir / "notes.txt").write_text("not a method")
    (study_dir / ".cache").mkdir()
    Image.new("RGB", (16, 12)).save(study_dir / "lbam" / "photo_9.png")  # input/ has no such image
    study = read_study(study_dir, None, 0)
    assert study.methods == ("PatchMatch", "lbam", "pconv")
    assert [question.name for question in study.questions] == ["photo_0", "photo_1", "photo_2"]
    second = study.questions[1]
    assert second.input[0, 0].tolist() == [0, 100, 30]
    assert {method: pixels[0, 0, 0] for method, pixels in second.results.items()} == {
        "PatchMatch": 60, "lbam": 120, "pconv": 180,
    }  # fmt: skip


def test_questions_are_drawn_with_the_seed(study_dir):
    for k in range(3, 40):
        for folder in study_dir.iterdir():
            Image.new("RGB", (4, 4), (k, 0, 0)).save(folder / f"photo_{k}.png")
    drawn = [tuple(q.name for q in read_study(study_dir, 5, seed).questions) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 5


def test_facts_depend_on_pixels_not_on_files(study_dir):
    before = read_study(study_dir, None, 0).facts
    assert json.loads(json.dumps(before)) == before
    path = study_dir / "pconv" / "photo_1.png"
    with Image.open(path) as image:
        image.save(path.with_suffix(".bmp"))
        changed = image.copy()
    path.unlink()
    assert read_study(study_dir, None, 0).facts == before
    changed.putpixel((3, 4), (181, 100, 30))
    changed.save(path.with_suffix(".bmp"))
    after = read_study(study_dir, None, 0).facts
    assert [name for name in before["images"] if before["images"][name] != after["images"][name]] == ["photo_1"]
    assert read_study(study_dir, None, 1).facts != after


def test_orders_are_a_hash_of_seed_voter_and_question(study_dir):
    study = read_study(study_dir, None, 7)
    voter = voters(1)[0]

    def by_hand(items, *key):
        return sorted(items, key=lambda item: hashlib.sha256(json.dumps([*key, item]).encode()).hexdigest())

    names = [question.name for question in study.questions]
    assert [question.name for question in study.questions_for(voter)] == by_hand(names, 7, voter)
    for question in study.questions:
        assert study.methods_for(voter, question) == by_hand(study.methods, 7, voter, question.name)


def test_all_orders_are_equally_frequent(study_dir):
    study = read_study(study_dir, None, 0)
    # 6 orders of three methods, over voters and, of one voter, over questions that are independent of each other.
    orders = Counter(tuple(study.methods_for(v, q)) for v in voters(600) for q in study.questions)
    pairs = Counter(tuple(tuple(study.methods_for(v, q)) for q in study.questions[:2]) for v in voters(1800))
    of_questions = Counter(tuple(q.name for q in study.questions_for(v)) for v in voters(1800))
    for counts, kinds in ((orders, 6), (pairs, 36), (of_questions, 6)):
        assert len(counts) == kinds
        assert stats.chisquare(list(counts.values())).pvalue > 0.001


def wrong_size(folder):
    Image.new("RGB", (17, 12)).save(folder / "lbam" / "photo_1.png")


def hidden_methods(folder):
    for method in ("PatchMatch", "lbam", "pconv"):
        (folder / method).rename(folder / f".{method}")


def cut_off(folder):
    path = folder / "lbam" / "photo_0.png"
    path.write_bytes(path.read_bytes()[:50])


def empty_input(folder):
    for path in (folder / "input").iterdir():
        path.unlink()


WRONG = {
    "has no subdirectory input/": lambda folder: (folder / "input").rename(folder / "inputs"),
    "must have 2 to 26 methods.*got none": hidden_methods,
    "pconv has no result for photo_2 of input/": lambda folder: (folder / "pconv/photo_2.png").unlink(),
    r"lbam/photo_1.png is 17x12 but .*input/photo_1.png is 16x12": wrong_size,
    "lbam/photo_0.png: is corrupt or truncated": cut_off,
    "photo_0.jpg and photo_0.png have the same name photo_0": lambda folder: Image.new("RGB", (16, 12)).save(
        folder / "input" / "photo_0.jpg"
    ),
    "input has 0$": empty_input,
}


@pytest.mark.parametrize("message", WRONG)
def test_errors_name_the_file(study_dir, message):
    WRONG[message](study_dir)
    with pytest.raises(InputError, match=message):
        read_study(study_dir, None, 0)


@pytest.mark.parametrize("count", [0, -1, 4])
def test_an_invalid_number_of_questions_raises_an_error(study_dir, count):
    with pytest.raises(
        InputError, match=f"questions={count} must be between 1 and the number of images: .*input has 3$"
    ):
        read_study(study_dir, count, 0)


def test_questions_may_have_different_sizes(study_dir):
    for folder in study_dir.iterdir():
        Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(folder / "photo_0.png")
    assert read_study(study_dir, None, 0).questions[0].input.shape == (5, 7, 3)
