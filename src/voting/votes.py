"""The file that votes are kept in: SQLite, so that many voters at once and a server that is killed do no harm."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from src.common.errors import InputError

_WAIT_S = 30
"""For another voter's vote to be written, which takes milliseconds."""

_APPLICATION_ID = 0x766F7465
"""In the file's header, so that other programs' databases are known as such."""

_BEGINNING = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    "CREATE TABLE study (fact TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE votes (voter TEXT NOT NULL, question TEXT NOT NULL, method TEXT NOT NULL, shown TEXT NOT NULL,"
    " seconds REAL NOT NULL, time TEXT NOT NULL, PRIMARY KEY (voter, question))",
)


@dataclass(frozen=True)
class Vote:
    """One pick.

    Attributes:
        voter: a random name that the voter's browser keeps.
        question: the picture's name.
        method: whose result was picked.
        shown: all methods, in the order in which this voter saw them.
        seconds: from the pictures' appearance, the last one if the page was reloaded, to the vote.
    """

    voter: str
    question: str
    method: str
    shown: Sequence[str]
    seconds: float


class Votes:
    """The votes of one study, in a file.

    Every call has a connection and a transaction of its own: threads and processes may call at once, a vote is in the
    file or not, and between calls the file is whole.

    Attributes:
        facts: of the study that the votes belong to, as `Study.facts` has them.
    Raises:
        InputError: the file is missing, damaged or no file of votes; of every method: it can't be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise InputError(f"results={path}: no such file; with pictures=<folder> people are asked, and it is made")
        with _database(path) as database:
            if database.execute("PRAGMA application_id").fetchone() != (_APPLICATION_ID,):
                raise InputError(f"results={path} is no file of votes: name another")
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise InputError(f"results={path} is damaged: {' '.join(verdict.split())}")
            self.facts: dict[str, Any] = {
                fact: json.loads(value) for fact, value in database.execute("SELECT fact, value FROM study")
            }

    @classmethod
    def of(cls, path: Path, facts: Mapping[str, Any]) -> "Votes":
        """Go on with a study's file, or begin it.

        Args:
            facts: as `Study.facts` has them; what makes it this study.
        Raises:
            InputError: the file is another study's; the message says what differs.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"results={path} can't be written: {error.strerror}") from error
        with _database(path, mode="rwc") as database:
            _begin_if_empty(database, facts)
        votes = cls(path)
        for fact, value in facts.items():
            if votes.facts.get(fact) != value:
                raise InputError(
                    f"results={path} holds votes of another study: {_difference(fact, votes.facts, facts)}"
                )
        # Readers and the one writer don't wait for each other then. Unlike all else, this does not wait itself: it
        # fails where another server, which began in this moment, is about to do the same.
        with _database(path) as database, suppress(sqlite3.OperationalError):
            database.execute("PRAGMA journal_mode = WAL")
        return votes

    def record(self, vote: Vote) -> bool:
        """Keep a vote, unless this voter has answered this question: the first answer counts.

        Returns:
            Whether it was kept.
        """
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        row = (vote.voter, vote.question, vote.method, json.dumps(list(vote.shown)), vote.seconds, time)
        with _database(self.path) as database:
            kept = database.execute("INSERT INTO votes VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)
            return kept.rowcount == 1

    def answered(self, voter: str) -> set[str]:
        """The questions that a voter has answered."""
        with _database(self.path) as database:
            return {name for (name,) in database.execute("SELECT question FROM votes WHERE voter = ?", (voter,))}

    def table(self) -> pd.DataFrame:
        """All votes by time: a column for each attribute of `Vote`, and `time`, UTC in ISO 8601."""
        with _database(self.path) as database:
            cursor = database.execute(
                "SELECT voter, question, method, shown, seconds, time FROM votes ORDER BY time, voter, question"
            )
            frame = pd.DataFrame(cursor.fetchall(), columns=[column for column, *_ in cursor.description])
            return frame.assign(shown=frame["shown"].map(json.loads))


@contextmanager
def _database(path: Path, mode: str = "rw") -> Iterator[sqlite3.Connection]:
    """A connection on which every statement is a transaction, unless one is begun."""
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=_WAIT_S, isolation_level=None)) as database:
            yield database
    except InputError:
        raise
    except (sqlite3.Error, ValueError, LookupError, TypeError) as error:  # texts that are no UTF-8 or no JSON; columns
        raise InputError(f"results={path} can't be read or written, or is damaged: {error}") from error


def _begin_if_empty(database: sqlite3.Connection, facts: Mapping[str, Any]) -> None:
    # One transaction: of two servers that begin at once the second finds what the first wrote.
    database.execute("BEGIN IMMEDIATE")
    if database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
        for statement in _BEGINNING:
            database.execute(statement)
        rows = [(fact, json.dumps(value)) for fact, value in facts.items()]
        database.executemany("INSERT INTO study VALUES (?, ?)", rows)
    database.execute("COMMIT")


def _difference(fact: str, kept: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    advice = "name another file, or bring back what it was"
    if fact != "pictures":
        return f"its {fact} is {kept.get(fact)}, now it is {given[fact]}; {advice}"
    old, new = kept.get(fact, {}), given[fact]
    if old.keys() != new.keys():
        return f"it asks about {len(old)} pictures, now there are {len(new)}, or others; {advice}"
    changed = [name for name in new if old[name] != new[name]]
    return f"in it {', '.join(changed[:3])} looked different; {advice}"
