"""The file of votes: concurrent voters, no duplicate votes, no loss if killed, and no votes of another study."""

import multiprocessing
import os
import sqlite3
import time

import pytest

from src.common.errors import InputError
from src.voting.votes import Vote, Votes

FACTS = {"methods": ["a", "b"], "seed": 0, "images": {"photo_0": "00", "photo_1": "11"}}

MANY = FACTS | {"images": {f"photo_{i}": "00" for i in range(20)}}


def a_vote(voter="v", question="photo_0", method="a"):
    return Vote(voter, question, method, ["b", "a"], 1.5)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "votes.db"


def test_votes_are_read_back(path):
    votes = Votes.open_or_create(path, FACTS)
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
    assert Votes.open_or_create(path, FACTS).facts == FACTS  # reopening the file keeps its votes
    assert len(Votes(path).table()) == 2


def test_the_first_answer_counts(path):
    votes = Votes.open_or_create(path, FACTS)
    assert [votes.record(a_vote(method=method)) for method in ("a", "b", "b")] == [True, False, False]
    assert votes.table()["method"].tolist() == ["a"]


# Forked, as a new process would take seconds to import; newer Python versions warn about forks with threads.
FORK = multiprocessing.get_context("fork")
forking = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def open_and_vote(path, voter, kept):
    votes = Votes.open_or_create(path, MANY)
    for i in range(20):
        kept.value += votes.record(a_vote(voter, f"photo_{i}"))
    kept.value += votes.record(a_vote("everybody"))


@forking
def test_processes_open_the_file_and_vote_concurrently(path):
    voters = ["voter_0", "voter_1", "voter_2", "voter_0"]  # the first in two tabs
    kept = [FORK.Value("i", 0) for _ in voters]
    processes = [FORK.Process(target=open_and_vote, args=(path, *of)) for of in zip(voters, kept, strict=True)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert sum(count.value for count in kept) == 3 * 20 + 1
    expected = dict.fromkeys(voters, 20) | {"everybody": 1}
    assert Votes(path).table()["voter"].value_counts().to_dict() == expected


def open_many(folder, together):
    for i in range(15):
        together.wait(timeout=60)
        Votes.open_or_create(folder / f"{i}.db", FACTS).record(a_vote(multiprocessing.current_process().name))


@forking
def test_processes_that_create_the_file_at_the_same_time_share_it(tmp_path):
    together = FORK.Barrier(2)
    processes = [FORK.Process(target=open_many, args=(tmp_path, together)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert all(len(Votes(path).table()) == 2 for path in tmp_path.iterdir())


def vote_forever(path, kept):
    votes = Votes.open_or_create(path, FACTS)
    while True:
        votes.record(a_vote(f"voter_{kept.value}"))
        kept.value += 1


@forking
def test_a_killed_process_loses_no_stored_vote(path):
    kept = FORK.Value("i", 0)
    process = FORK.Process(target=vote_forever, args=(path, kept))
    process.start()
    while kept.value < 5:
        time.sleep(0.01)
    process.kill()
    process.join()
    votes = Votes.open_or_create(path, FACTS)
    assert len(votes.table()) in (kept.value, kept.value + 1)  # the last may not have been counted
    assert votes.record(a_vote("another"))


def test_an_empty_file_is_initialized(path):
    path.parent.mkdir()
    path.touch()  # as left by a server that was killed right after its start
    assert Votes.open_or_create(path, FACTS).record(a_vote())


@pytest.mark.parametrize(
    ("fact", "value", "message"),
    [
        ("seed", 1, "its seed is 0, expected 1"),
        ("methods", ["a", "c"], r"its methods is \['a', 'b'\], expected \['a', 'c'\]"),
        ("images", {"photo_0": "00"}, "its 2 images are not the 1 images of this study"),
        ("images", {"photo_0": "00", "photo_1": "12"}, "its pixels of photo_1 differ"),
    ],
)
def test_the_file_of_another_study_raises_an_error(path, fact, value, message):
    Votes.open_or_create(path, FACTS).record(a_vote())
    with pytest.raises(InputError, match=f"votes.db holds votes of another study: {message}; pass another file"):
        Votes.open_or_create(path, FACTS | {fact: value})
    assert len(Votes(path).table()) == 1


def test_other_files_raise_an_error_and_stay_unchanged(tmp_path):
    database = sqlite3.connect(tmp_path / "shop.db")
    database.execute("CREATE TABLE votes (customer TEXT)")
    database.commit()
    database.close()
    (tmp_path / "notes.db").write_text("SQLite? Not at all, but long enough to have a header of a hundred bytes." * 9)
    (tmp_path / "folder.db").mkdir()
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*[sp].db")}
    for name, message in {
        "shop.db": "shop.db is not a file of votes",
        "notes.db": "notes.db can't be read or written, or is corrupt: file is not a database",
        "folder.db": "folder.db can't be read or written",
    }.items():
        with pytest.raises(InputError, match=message):
            Votes.open_or_create(tmp_path / name, FACTS)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*[sp].db")} == before
    with pytest.raises(InputError, match=r"there\.db does not exist: pass images=<directory> to start a study"):
        Votes(tmp_path / "there.db")


def test_a_corrupt_file_raises_an_error(path):
    votes = Votes.open_or_create(path, FACTS)
    for i in range(60):
        votes.record(a_vote(f"voter_{i}", "an image with a name so long that votes fill several pages" * 4))
    content, page = path.read_bytes(), 4096
    for corrupt in (
        content[: len(content) // 2],
        content[:page] + bytes(page) + content[2 * page :],
        content[:-page] + bytes(page),
    ):
        path.write_bytes(corrupt)
        with pytest.raises(InputError, match="corrupt"):
            Votes.open_or_create(path, FACTS)


@pytest.mark.parametrize(
    "corruption",
    [
        "UPDATE votes SET voter = CAST(x'ff' AS TEXT)",
        "UPDATE votes SET voter = x'00'",
        "UPDATE votes SET question = 'photo_9'",
        "UPDATE votes SET method = 'c'",
        """UPDATE votes SET shown = '["a", "a"]'""",
        """UPDATE votes SET shown = '["a"]'""",
        "UPDATE votes SET shown = '{}'",
        "UPDATE votes SET shown = replace(hex(zeroblob(50000)), '00', '[')",
        "UPDATE votes SET seconds = -1",
        "UPDATE votes SET seconds = 9e999",
        "UPDATE votes SET seconds = 'long'",
        "UPDATE votes SET time = 'yesterday'",
        """UPDATE study SET value = '["a"]' WHERE fact = 'methods'""",
        """UPDATE study SET value = '"ab"' WHERE fact = 'methods'""",
        "UPDATE study SET value = '[]' WHERE fact = 'images'",
        "UPDATE study SET value = replace(hex(zeroblob(50000)), '00', '[') WHERE fact = 'images'",
        "UPDATE study SET value = 'true' WHERE fact = 'seed'",
        "DELETE FROM study WHERE fact = 'methods'",
        "INSERT INTO study VALUES ('other', '1')",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE other (x)",
        "CREATE TRIGGER t AFTER INSERT ON votes BEGIN DELETE FROM votes; END",
        "CREATE INDEX i ON votes (abs(seconds))",
        "UPDATE votes SET shown = 'no JSON'",
        "UPDATE study SET value = 'no JSON'",
        "ALTER TABLE votes RENAME COLUMN shown TO other",
        "ALTER TABLE votes RENAME COLUMN seconds TO other",
    ],
)
def test_content_that_is_invalid_raises_an_error(path, corruption):
    Votes.open_or_create(path, FACTS).record(a_vote())
    with sqlite3.connect(path) as database:
        database.execute(corruption)
    database.close()
    with pytest.raises(InputError, match=f"results={path} can't be read or written, or is corrupt"):
        Votes(path).table()


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT "


@pytest.mark.parametrize(("table", "columns"), [("votes", 6), ("study", 2)])
def test_views_are_never_evaluated(path, table, columns):
    Votes.open_or_create(path, FACTS)
    with sqlite3.connect(path) as database:
        database.execute(f"DROP TABLE {table}")
        database.execute(f"CREATE VIEW {table} AS {ENDLESS}{', '.join(['i'] * columns)} FROM n")
    database.close()
    for opened in (Votes, lambda path: Votes.open_or_create(path, FACTS)):
        with pytest.raises(InputError, match="corrupt: its tables are not those of a file of votes"):
            opened(path)


def test_pipes_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "votes.db")
    for opened in (Votes, lambda path: Votes.open_or_create(path, FACTS)):
        with pytest.raises(InputError, match=r"votes\.db (does not exist|can't .*not a regular file)"):
            opened(tmp_path / "votes.db")


def test_the_key_is_kept_and_differs_between_files(path, tmp_path):
    first = Votes.open_or_create(path, FACTS)
    assert len(first.key) == 32
    assert Votes.open_or_create(path, FACTS).key == first.key
    assert Votes.open_or_create(tmp_path / "other.db", FACTS).key != first.key
    assert Votes(path).key == b""


def test_a_removed_file_is_not_created_again(path):
    votes = Votes.open_or_create(path, FACTS)
    path.unlink()
    with pytest.raises(InputError, match="unable to open"):
        votes.record(a_vote())
    assert not path.exists()
