"""The file of votes: many voters at once, no vote twice, nothing lost to a kill, and no other study's votes."""

import multiprocessing
import sqlite3
import time

import pytest

from src.common.errors import InputError
from src.voting.votes import Vote, Votes

FACTS = {"methods": ["a", "b"], "seed": 0, "pictures": {"photo_0": "00", "photo_1": "11"}}


def a_vote(voter="v", question="photo_0", method="a"):
    return Vote(voter, question, method, ["b", "a"], 1.5)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "votes.db"


def test_votes_are_read_back(path):
    votes = Votes.of(path, FACTS)
    assert votes.table().empty
    assert votes.record(a_vote())
    assert votes.record(a_vote(question="photo_1", method="b"))
    assert (votes.answered("v"), votes.answered("w")) == ({"photo_0", "photo_1"}, set())
    table = Votes(path).table()
    assert table.drop(columns="time").to_dict("records") == [
        {"voter": "v", "question": "photo_0", "method": "a", "shown": ["b", "a"], "seconds": 1.5},
        {"voter": "v", "question": "photo_1", "method": "b", "shown": ["b", "a"], "seconds": 1.5},
    ]
    assert table["time"].str.endswith("+00:00").all()
    assert Votes.of(path, FACTS).facts == FACTS  # the file goes on, and votes stay
    assert len(Votes(path).table()) == 2


def test_the_first_answer_counts(path):
    votes = Votes.of(path, FACTS)
    assert [votes.record(a_vote(method=method)) for method in ("a", "b", "b")] == [True, False, False]
    assert votes.table()["method"].tolist() == ["a"]


# Forked, as a new process would take seconds to import; newer Pythons warn of it where threads are about.
FORK = multiprocessing.get_context("fork")
forking = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def begin_and_vote(path, voter, kept):
    votes = Votes.of(path, FACTS)
    for i in range(20):
        kept.value += votes.record(a_vote(voter, f"photo_{i}"))
    kept.value += votes.record(a_vote("everybody"))


@forking
def test_processes_begin_and_vote_at_once(path):
    voters = ["voter_0", "voter_1", "voter_2", "voter_0"]  # the first in two tabs
    kept = [FORK.Value("i", 0) for _ in voters]
    processes = [FORK.Process(target=begin_and_vote, args=(path, *of)) for of in zip(voters, kept, strict=True)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert sum(count.value for count in kept) == 3 * 20 + 1
    expected = dict.fromkeys(voters, 20) | {"everybody": 1}
    assert Votes(path).table()["voter"].value_counts().to_dict() == expected


def begin_many(folder, together):
    for i in range(40):
        together.wait(timeout=60)
        Votes.of(folder / f"{i}.db", FACTS).record(a_vote(multiprocessing.current_process().name))


@forking
def test_processes_that_begin_in_the_same_moment_share_the_file(tmp_path):
    together = FORK.Barrier(2)
    processes = [FORK.Process(target=begin_many, args=(tmp_path, together)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert all(len(Votes(path).table()) == 2 for path in tmp_path.iterdir())


def vote_for_ever(path, kept):
    votes = Votes.of(path, FACTS)
    while True:
        votes.record(a_vote(question=f"photo_{kept.value}"))
        kept.value += 1


@forking
def test_a_kill_loses_no_vote_that_was_kept(path):
    kept = FORK.Value("i", 0)
    process = FORK.Process(target=vote_for_ever, args=(path, kept))
    process.start()
    while kept.value < 5:
        time.sleep(0.01)
    process.kill()
    process.join()
    votes = Votes.of(path, FACTS)
    assert len(votes.table()) in (kept.value, kept.value + 1)  # the last may not have been counted
    assert votes.record(a_vote("another"))


def test_a_file_in_which_nothing_was_begun_is_begun(path):
    path.parent.mkdir()
    path.touch()  # as a server leaves it that is killed in its first moment
    assert Votes.of(path, FACTS).record(a_vote())


@pytest.mark.parametrize(
    ("fact", "value", "message"),
    [
        ("seed", 1, "its seed is 0, now it is 1"),
        ("methods", ["a", "c"], r"its methods is \['a', 'b'\], now it is \['a', 'c'\]"),
        ("pictures", {"photo_0": "00"}, "it asks about 2 pictures, now there are 1, or others"),
        ("pictures", {"photo_0": "00", "photo_1": "12"}, "in it photo_1 looked different"),
    ],
)
def test_another_studys_file_is_refused(path, fact, value, message):
    Votes.of(path, FACTS).record(a_vote())
    with pytest.raises(InputError, match=f"votes.db holds votes of another study: {message}; name another file"):
        Votes.of(path, FACTS | {fact: value})
    assert len(Votes(path).table()) == 1


def test_other_files_are_refused_and_left_alone(tmp_path):
    database = sqlite3.connect(tmp_path / "shop.db")
    database.execute("CREATE TABLE votes (customer TEXT)")
    database.commit()
    database.close()
    (tmp_path / "notes.db").write_text("SQLite? Not at all, but long enough to have a header of a hundred bytes." * 9)
    (tmp_path / "folder.db").mkdir()
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*[sp].db")}
    for name, message in {
        "shop.db": "shop.db is no file of votes",
        "notes.db": "notes.db can't be read or written, or is damaged: file is not a database",
        "folder.db": "folder.db can't be read or written",
    }.items():
        with pytest.raises(InputError, match=message):
            Votes.of(tmp_path / name, FACTS)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*[sp].db")} == before
    with pytest.raises(InputError, match=r"there\.db: no such file; with pictures=<folder> people are asked"):
        Votes(tmp_path / "there.db")


def test_a_damaged_file_is_refused(path):
    votes = Votes.of(path, FACTS)
    for i in range(60):
        votes.record(a_vote(f"voter_{i}", "a picture with a name so long that votes fill several pages" * 4))
    whole, page = path.read_bytes(), 4096
    for damaged in (
        whole[: len(whole) // 2],
        whole[:page] + bytes(page) + whole[2 * page :],
        whole[:-page] + bytes(page),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="damaged"):
            Votes.of(path, FACTS)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE votes SET voter = CAST(x'ff' AS TEXT)",
        "UPDATE votes SET shown = 'no JSON'",
        "UPDATE study SET value = 'no JSON'",
        "ALTER TABLE votes RENAME COLUMN shown TO other",
        "ALTER TABLE votes RENAME COLUMN seconds TO other",
    ],
)
def test_what_fuzzing_found_is_a_sentence(path, damage):
    Votes.of(path, FACTS).record(a_vote())
    with sqlite3.connect(path) as database:
        database.execute(damage)
    database.close()
    with pytest.raises(InputError, match=f"results={path} can't be read or written, or is damaged"):
        Votes(path).table()


def test_a_file_that_is_removed_does_not_come_back_empty(path):
    votes = Votes.of(path, FACTS)
    path.unlink()
    with pytest.raises(InputError, match="unable to open"):
        votes.record(a_vote())
    assert not path.exists()
