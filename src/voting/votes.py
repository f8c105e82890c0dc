"""The file of votes: an SQLite database, which is safe with concurrent voters and if the server is killed."""

import json
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, Json, TypeAdapter, ValidationError

from src.common.errors import InputError
from src.common.schema_files import describe_first

_WAIT_S = 30
"""How long to wait for concurrent writes, each of which takes milliseconds."""

_APPLICATION_ID = 0x766F7465
"""Value in the file's header that distinguishes it from other programs' databases."""

MAX_SECONDS = 86_400
"""Upper limit of the time of an answer."""

_KEY = "key"
"""Fact in the table `study` that holds `Votes.key`."""

_TABLES = {
    "study": "CREATE TABLE study (fact TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "votes": "CREATE TABLE votes (voter TEXT NOT NULL, question TEXT NOT NULL, method TEXT NOT NULL,"
    " shown TEXT NOT NULL, seconds REAL NOT NULL, time TEXT NOT NULL, PRIMARY KEY (voter, question))",
}

_Name = Annotated[str, Field(strict=True, min_length=1)]


class _Facts(BaseModel):
    """The table `study`, except the key: `Study.facts`, each as JSON."""

    model_config = ConfigDict(extra="forbid")
    methods: Json[Annotated[list[_Name], Field(min_length=2)]]
    seed: Json[Annotated[int, Field(strict=True)]]
    images: Json[Annotated[dict[_Name, _Name], Field(min_length=1)]]


class _Row(BaseModel):
    """A row of the table `votes`."""

    voter: _Name
    question: _Name
    method: _Name
    shown: Json[list[_Name]]
    seconds: float = Field(strict=True, ge=0, allow_inf_nan=False)
    time: AwareDatetime


_ROWS = TypeAdapter(list[_Row])


@dataclass(frozen=True)
class Vote:
    """One answer.

    Attributes:
        voter: a random ID that the voter's browser stores.
        question: name of the image.
        method: the chosen method.
        shown: all methods in the order in which this voter saw them.
        seconds: time from showing the images (the last time, if the page was reloaded) to the answer.
    """

    voter: str
    question: str
    method: str
    shown: Sequence[str]
    seconds: float


class Votes:
    """The votes of one study, in a file.

    Each call opens its own connection and transaction, so threads and processes may call concurrently, and the file is
    always consistent.

    Attributes:
        facts: the `Study.facts` of the study that the votes belong to.
        key: signs the tokens of voters; empty if the file was opened for a report only.
    Raises:
        InputError: the file is missing, corrupt or not a file of votes. All methods raise it if the file can't be read
            or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise InputError(
                f"results={path} does not exist: pass images=<directory> to start a study, or an existing file"
            )
        with _database(path) as database:
            if database.execute("PRAGMA application_id").fetchone() != (_APPLICATION_ID,):
                raise InputError(f"results={path} is not a file of votes: pass another path")
            _require_own_tables(database)
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise InputError(
                    f"results={path} is corrupt, restore a backup or pass another path: {' '.join(verdict.split())}"
                )
            facts = dict(database.execute("SELECT fact, value FROM study WHERE fact != ?", (_KEY,)))
            self.facts: dict[str, Any] = _Facts.model_validate(facts).model_dump()
        self.key = b""

    @classmethod
    def open_or_create(cls, path: Path, facts: Mapping[str, Any]) -> "Votes":
        """Open a study's file, or create it.

        Args:
            facts: the study's `Study.facts`.
        Raises:
            InputError: the file belongs to another study; the message names the difference.
        """
        if path.exists() and not path.is_file():
            raise InputError(f"results={path} can't be read or written, as it is not a regular file: pass another path")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"results={path} can't be written, pass another path: {error.strerror}") from error
        with _database(path, mode="rwc") as database:
            _initialize_if_empty(database, facts)
        votes = cls(path)
        for fact, value in facts.items():
            if votes.facts.get(fact) != value:
                raise InputError(
                    f"results={path} holds votes of another study: {_difference(fact, votes.facts, facts)}"
                )
        with _database(path) as database:
            fresh = (_KEY, json.dumps(secrets.token_hex(32)))
            database.execute("INSERT INTO study VALUES (?, ?) ON CONFLICT DO NOTHING", fresh)
            (kept,) = database.execute("SELECT value FROM study WHERE fact = ?", (_KEY,)).fetchone()
            votes.key = bytes.fromhex(json.loads(kept))
        # In WAL mode, readers and the writer do not block each other. Unlike other statements, this one does not wait
        # for locks: it fails if another server is just setting the same mode.
        with _database(path) as database, suppress(sqlite3.OperationalError):
            database.execute("PRAGMA journal_mode = WAL")
        return votes

    def record(self, vote: Vote) -> bool:
        """Store a vote, unless this voter has already answered the question: the first answer counts.

        Returns:
            Whether it was stored.
        """
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        row = (vote.voter, vote.question, vote.method, json.dumps(list(vote.shown)), vote.seconds, time)
        with _database(self.path) as database:
            kept = database.execute("INSERT INTO votes VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)
            return kept.rowcount == 1

    def answered(self, voter: str) -> set[str]:
        """Return the questions that a voter has answered."""
        with _database(self.path) as database:
            return {name for (name,) in database.execute("SELECT question FROM votes WHERE voter = ?", (voter,))}

    def table(self) -> pd.DataFrame:
        """Return all votes in the order of `time` (UTC, ISO 8601), with one column per attribute of `Vote`."""
        with _database(self.path) as database:
            names = list(_Row.model_fields)
            cursor = database.execute(f"SELECT {', '.join(names)} FROM votes ORDER BY time, voter, question")
            frame = pd.DataFrame(cursor.fetchall(), columns=names)
            rows = _ROWS.validate_python(frame.to_dict("records"))
            methods, images = sorted(self.facts["methods"]), self.facts["images"]
            for row in rows:
                if row.question not in images or row.method not in methods or sorted(row.shown) != methods:
                    raise ValueError(f"the vote of {row.voter} on {row.question} does not belong to its study")
            return frame.assign(shown=pd.Series([row.shown for row in rows], dtype=object))


@contextmanager
def _database(path: Path, mode: str = "rw") -> Iterator[sqlite3.Connection]:
    """Open a connection in autocommit mode, and turn database errors into InputError."""
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=_WAIT_S, isolation_level=None)) as database:
            yield database
    except InputError:
        raise
    except ValidationError as error:
        raise InputError(f"results={path} can't be read or written, or is corrupt: {describe_first(error)}") from error
    except (sqlite3.Error, ValueError, LookupError, TypeError) as error:  # invalid UTF-8, other columns
        raise InputError(f"results={path} can't be read or written, or is corrupt: {error}") from error


def _require_own_tables(database: sqlite3.Connection) -> None:
    """Reject views and triggers, which could run any query, as well as other tables."""
    expected: list[tuple[str, str, str | None]] = [("table", name, sql) for name, sql in _TABLES.items()]
    expected += [("index", f"sqlite_autoindex_{name}_1", None) for name in _TABLES]
    found = database.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    if sorted(found, key=str) != sorted(expected, key=str):
        raise ValueError("its tables are not those of a file of votes")


def _initialize_if_empty(database: sqlite3.Connection, facts: Mapping[str, Any]) -> None:
    # One transaction: if two servers start at once, the second one finds what the first one wrote.
    database.execute("BEGIN IMMEDIATE")
    if database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
        for statement in (f"PRAGMA application_id = {_APPLICATION_ID}", *_TABLES.values()):
            database.execute(statement)
        rows = [(fact, json.dumps(value)) for fact, value in facts.items()]
        database.executemany("INSERT INTO study VALUES (?, ?)", rows)
    database.execute("COMMIT")


def _difference(fact: str, kept: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    advice = "pass another file, or restore the study's settings"
    if fact != "images":
        return f"its {fact} is {kept.get(fact)}, expected {given[fact]}; {advice}"
    old, new = kept.get(fact, {}), given[fact]
    if old.keys() != new.keys():
        return f"its {len(old)} images are not the {len(new)} images of this study; {advice}"
    changed = [name for name in new if old[name] != new[name]]
    return f"its pixels of {', '.join(changed[:3])} differ; {advice}"
