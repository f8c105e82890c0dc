"""The command: options rejected before the study starts, the server's answers, the report after Ctrl-C."""

import base64
import io
import json
import re
import shutil
import sqlite3
from http.client import HTTPConnection
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image, PngImagePlugin

from src.common.errors import InputError
from src.user_study import user_study
from src.voting.questions import read_study
from src.voting.votes import Vote, Votes

CONF = Path(__file__).parents[1] / "conf"
VOTER = "0123456789abcdef" * 2
ID_DIGITS = len(VOTER)


@pytest.fixture
def composed(tmp_path, study_pictures):
    common = [f"results={tmp_path / 'votes.db'}", f"images={study_pictures}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *overrides: compose("user_study", [*common, *overrides])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["questions=many"], "questions must be an integer >= 1 or null, got 'many'"),
        (["questions=9"], "questions=9 must be between 1 and .*has 3"),
        (["seed=null"], "seed must be an integer"),
        (["port=7860.5"], "port must be an integer"),
        (["share=maybe"], "share must be true or false, got 'maybe'"),
        (["shared_device=1"], "shared_device must be true or false"),
        (["voters_per_minute=0"], "voters_per_minute must be an integer >= 1"),
        (["results=votes"], "must have a suffix such as .db"),
        (["results=votes.csv"], "must have a suffix such as .db"),
        (["images=nowhere"], "images=nowhere has no subdirectory input/"),
        (["table=lbam/table9"], "no table or figure at .*table9.yaml"),
        (["table=lbam/fig8"], "table=lbam/fig8 is a figure"),
        (["table=lbam/table1"], "is not a table of votes"),
        (["table=edge_lbam/table2_places"], "PatchMatch"),
        (["images=null"], "votes.db does not exist: pass images=<directory>"),
    ],
)
def test_invalid_options_raise_an_error_before_the_study_starts(composed, tmp_path, overrides, message):
    if "table2_places" in overrides[0]:  # none of its methods
        folder = shutil.copytree(composed().images, tmp_path / "others")
        (folder / "lbam").rename(folder / "ours_too")
        (folder / "pconv").rename(folder / "theirs")
        overrides = [*overrides, f"images={folder}"]
    with pytest.raises(InputError, match=message):
        user_study(composed(*overrides))
    assert not list(tmp_path.glob("votes*"))


def test_votes_of_another_study_raise_an_error(composed, tmp_path, study_pictures):
    Votes.open_or_create(tmp_path / "votes.db", read_study(study_pictures, None, 0).facts)
    with pytest.raises(InputError, match="another study: its seed is 0, expected 1"):
        user_study(composed("seed=1"))


@pytest.fixture(scope="module")
def study_dir(tmp_path_factory, study_pictures):
    """Images of a study, one of which names its method in its metadata."""
    folder = shutil.copytree(study_pictures, tmp_path_factory.mktemp("metadata") / "study")
    metadata = PngImagePlugin.PngInfo()
    metadata.add_text("Comment", "made by pconv")
    path = folder / "pconv" / "photo_0.png"
    with Image.open(path) as image:
        image.save(path, pnginfo=metadata)
    return folder


@pytest.fixture(scope="module")
def server(serve, study_dir):
    return serve("user_study", f"images={study_dir}", "results=votes.db", cwd=study_dir.parent)


@pytest.fixture
def token(server):
    return server.call("join", None)["token"]


@pytest.fixture
def voter(token):
    return token[:ID_DIGITS]


@pytest.fixture
def votes_of(server, study_dir):
    """Return a function that returns a voter's votes."""

    def votes_of(voter):
        table = Votes(study_dir.parent / "votes.db").table()
        return table[table["voter"] == voter]

    return votes_of


def test_the_server_reveals_no_method_or_file_name(server, study_dir, token):
    question = server.call("ask", token)
    following = server.call("answer", {"token": token, "number": 1, "choice": 0, "seconds": 1})
    texts = [server.get(path) for path in ("/", "/config", "/gradio_api/info", "/theme.css")]
    texts += [json.dumps(question), json.dumps(following)]
    urls = [url for asked in (question, following) for url in (asked["input"], *asked["results"])]
    texts += [base64.b64decode(url.removeprefix("data:image/png;base64,")).decode("latin-1") for url in urls]
    for text in texts:
        for secret in ("lbam", "pconv", "patchmatch", "photo_", str(study_dir).lower(), "votes.db"):
            assert secret not in text.lower()
    for file in (study_dir / "lbam" / "photo_0.png", study_dir.parent / "votes.db"):
        with pytest.raises(HTTPError, match=r"403|404"):
            server.get(f"/gradio_api/file={file}")


def test_a_voter_gets_all_questions_in_its_own_order(server, study_dir, token, voter, votes_of):
    study = read_study(study_dir, None, 0)
    for number, question in enumerate(study.questions_for(voter), start=1):
        asked = server.call("ask", token)
        assert (asked["number"], asked["count"], asked["answered"]) == (number, 3, number - 1)
        assert asked == server.call("ask", token)  # as often as the page is reloaded
        shown = study.methods_for(voter, question)
        expected = [question.input, *(question.results[method] for method in shown)]
        for url, pixels in zip([asked["input"], *asked["results"]], expected, strict=True):
            with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
                assert np.array_equal(np.array(image), pixels)
        after = server.call("answer", {"token": token, "number": number, "choice": number - 1, "seconds": 2.5})
        vote = votes_of(voter).iloc[-1]
        assert vote[["question", "method", "seconds"]].tolist() == [question.name, shown[number - 1], 2.5]
        assert vote["shown"] == shown
    assert after == server.call("ask", token) == {"count": 3, "answered": 3, "number": None}


def test_a_second_answer_is_ignored_and_the_next_question_returned(server, token, voter, votes_of):
    answers = [server.call("answer", {"token": token, "number": 1, "choice": c, "seconds": 1}) for c in (2, 1)]
    assert [answer["number"] for answer in answers] == [2, 2]
    assert len(votes_of(voter)) == 1
    assert server.call("answer", {"token": token, "number": 3, "choice": 0, "seconds": 1})["number"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"token": "me"}, {"token": "A" * 64}, {"token": None}, {"number": 0}, {"number": -1}, {"number": 4},
        {"number": 1.5}, {"number": True}, {"number": 10**30}, {"number": 10**3000}, {"choice": -1}, {"choice": 3},
        {"choice": "pconv"}, {"choice": 0.5}, {"choice": False}, {"seconds": -1}, {"seconds": None}, {"seconds": "1"},
        {"seconds": 1e999}, {"seconds": float("nan")}, {"seconds": 86_401}, {"seconds": 10**400}, {"other": 1},
    ],
)  # fmt: skip
def test_invalid_answers_are_rejected(server, study_dir, token, change):
    votes = Votes(study_dir.parent / "votes.db")
    before = votes.table()
    with pytest.raises(HTTPError, match=r"\b422\b"):
        server.call("answer", {"token": token, "number": 1, "choice": 0, "seconds": 1} | change)
    assert votes.table().equals(before)


def test_voters_that_the_server_does_not_know_are_rejected(server, study_dir, token):
    other = server.call("join", None)["token"]
    before = Votes(study_dir.parent / "votes.db").table()
    for forged in (token[:-1] + "0f"[token[-1] == "0"], other[:ID_DIGITS] + token[ID_DIGITS:], VOTER * 2):
        with pytest.raises(HTTPError, match=r"\b403\b"):
            server.call("ask", forged)
        with pytest.raises(HTTPError, match=r"\b403\b"):
            server.call("answer", {"token": forged, "number": 1, "choice": 0, "seconds": 1})
    assert Votes(study_dir.parent / "votes.db").table().equals(before)


def test_the_server_is_guarded(server):
    host = server.address.removeprefix("http://")
    for path in ("/openapi.json", "/gradio_api/queue/status", "/gradio_api/heartbeat/a", "/gradio_api/upload_progress"):
        with pytest.raises(HTTPError, match=r"\b404\b"):
            server.get(path)
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        connection = HTTPConnection(host, timeout=30)
        connection.request("POST", "/call/join", "null", {"Content-Type": "application/json", **headers})
        assert connection.getresponse().status == 403
        connection.close()


def test_new_voters_are_limited_and_errors_hide_the_file(study_dir, tmp_path):
    pytest.importorskip("gradio", reason="the page needs the extra `app`", exc_type=ModuleNotFoundError)
    from starlette.testclient import TestClient

    from src.voting.page import study_functions
    from src.webapp.server import Guard

    study = read_study(study_dir, None, 0)
    functions = study_functions(study, Votes.open_or_create(tmp_path / "votes.db", study.facts), voters_per_minute=2)
    client = TestClient(Guard(None, functions, None))
    joined = [client.post("/call/join", headers={"Content-Type": "application/json"}, content="null") for _ in range(3)]
    assert [answer.status_code for answer in joined] == [200, 200, 429]
    (tmp_path / "votes.db").unlink()
    answer = client.post("/call/ask", json=joined[0].json()["token"])
    assert (answer.status_code, answer.text) == (500, "internal error, see the server log")


def test_a_port_in_use_is_named(server, study_dir, commands, tmp_path):
    port = server.address.rpartition(":")[2]
    ended = commands("user_study", f"images={study_dir}", f"port={port}", cwd=tmp_path)
    assert ended.code == 1
    assert re.fullmatch(f"error: can't serve at host=127.0.0.1 port={port}: .*\n", ended.err)


def test_ctrl_c_writes_the_report_of_a_resumed_study(serve, study_pictures, tmp_path):
    study = read_study(study_pictures, 2, 0)
    (question, _) = study.questions_for(VOTER)
    before = Votes.open_or_create(tmp_path / "out" / "votes.db", study.facts)
    before.record(Vote(VOTER, question.name, study.methods_for(VOTER, question)[0], study.methods, 1.0))
    options = [f"images={study_pictures}", "questions=2", "table=lbam/user_study", "results=out/votes.db"]
    server = serve("user_study", *options, cwd=tmp_path)
    from src.voting.page import sign  # after the fixture, which skips the test without Gradio

    token = sign(VOTER, before.key)
    assert server.call("ask", token)["number"] == 2
    server.call("answer", {"token": token, "number": 2, "choice": 0, "seconds": 1})
    code, printed = server.process.interrupt()
    assert code == 0
    assert "2 votes by 1 voters, of whom 1 answered all 2 questions" in " ".join(printed.split())
    assert "63.2" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "votes.csv", "votes.db", "votes.html", "votes.md",
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_report_needs_no_images(composed, study_pictures, tmp_path):
    study = read_study(study_pictures, None, 0)
    votes = Votes.open_or_create(tmp_path / "votes.db", study.facts)
    for question in study.questions:
        votes.record(Vote(VOTER, question.name, "lbam", study.methods, 3.0))
    table, written = user_study(composed("images=null", "table=lbam/user_study"))
    assert (table.rows[0].method, table.rows[0].ours.votes) == ("LBAM", 3)
    assert "| LBAM | 3 | 100.0 |" in written[0].read_text(encoding="utf-8")
    with sqlite3.connect(tmp_path / "votes.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()
