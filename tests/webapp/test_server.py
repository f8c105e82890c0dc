"""The server of both pages, on a socket: malformed, oversized, slow and abandoned requests, and rate limits."""

import json
import random
import select
import socket
import threading
import time
from http.client import HTTPConnection

import pytest

pytest.importorskip("gradio", reason="the pages need the extra `app`", exc_type=ModuleNotFoundError)
import uvicorn
from pydantic import BaseModel, ConfigDict
from starlette.responses import PlainTextResponse

from src.webapp import server as module
from src.webapp.server import LOOPBACK, Function, Guard, RateLimit, RequestError

KIND = {"Content-Type": "application/json"}


class Pair(BaseModel):
    model_config = ConfigDict(strict=True)
    name: str
    number: int


def fail(value):
    if value == "rejected":
        raise RequestError(403, "not allowed")
    raise RuntimeError(f"/a/path/{value}")


class Waiting:
    """A function that waits until its client disconnects, or is released."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.begun, self.released, self.ended = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, value, stopped):
        self.begun.set()
        while not (stopped.wait(0.01) or self.released.is_set()):
            pass
        self.ended.set()
        return stopped.is_set()


WAITING = Waiting()
FORWARDED = []


@pytest.fixture
def waiting():
    WAITING.reset()
    return WAITING


@pytest.fixture
def forwarded():
    """Requests that the guard forwards to Gradio."""
    FORWARDED.clear()
    return FORWARDED


@pytest.fixture(scope="module")
def port():
    """A server with short time limits."""

    async def gradio(scope, receive, send):
        FORWARDED.append((scope["path"], scope["query_string"], await receive()))
        await PlainTextResponse("page")(scope, receive, send)

    functions = {
        "echo": Function(lambda value: value, str, max_bytes=20_000),
        "pair": Function(lambda pair: [pair.name, pair.number], Pair),
        "nothing": Function(lambda _: {}, None),
        "limited": Function(lambda _: {}, None, limit=RateLimit(burst=3, per_minute=1)),
        "fail": Function(fail, str),
        "wait": Function(WAITING, str, max_bytes=20_000, can_stop=True),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BODY_GRACE_S", 0.5)  # a loaded machine may pause this process between two calls
        patch.setattr(module, "_CONNECTION_CHECK_S", 0.5)
        patch.setattr(module, "_MAX_HELD_BYTES", 25_000)
        patch.setattr(module, "_HELD_REQUESTS", 2)
        guard = Guard(gradio, functions, LOOPBACK)
        config = uvicorn.Config(guard, port=0, log_level="critical", http=module._ImpatientProtocol, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
        WAITING.released.set()
        server.should_exit = True
        thread.join()


@pytest.fixture
def send(port):
    def send(method, path, body=None, headers=KIND):
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        found = answer.status, answer.read().decode()
        connection.close()
        return found

    return send


@pytest.fixture
def connect(port):
    """Return a function that sends bytes on a new connection, and returns the connection."""
    opened = []

    def connect(content):
        opened.append(socket.create_connection(("127.0.0.1", port), timeout=20))
        opened[-1].sendall(content)
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def head(name, *lines):
    return "\r\n".join(
        [f"POST /call/{name} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *lines, "", ""]
    ).encode()


def test_functions_are_called_with_checked_values(send):
    assert send("POST", "/call/pair", '{"name": "a", "number": 3}') == (200, '["a",3]')
    assert send("POST", "/call/echo", '"é"'.encode()) == (200, '"é"')
    assert send("POST", "/call/nothing", "null") == (200, "{}")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b"\xff", b"\0", b"NaN", b'{"name": "a"}', b'{"name": "a", "number": "3"}',
        b'{"name": "a", "number": 3.0}', b'{"name": "a", "number": true}', b'{"name": "a", "number": NaN}',
        b'{"name": 1, "number": 3}', b'{"name": "\xff", "number": 3}', b'{"name": "\\ud800", "number": 3}',
        b'{"name": "a", "number": 3} x', b'"' + b"a" * 3000, b"[" * 4000, b'{"a":' * 600, b"[" + b"0," * 1900 + b"0]",
    ],
)  # fmt: skip
def test_malformed_values_are_rejected(send, body):
    status, text = send("POST", "/call/pair", body)
    assert status == 422
    assert len(text) < 400


def test_mutated_requests_get_a_client_error_or_are_valid(connect, send):
    rng = random.Random(0)
    valid = head("pair", "Content-Length: 26", "Connection: close") + b'{"name": "a", "number": 3}'
    for _ in range(150):
        content = bytearray(valid)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(content))
            content[at : at + rng.randrange(3)] = rng.choice(
                [b"", b"\0", b"\r\n", b"..", b"%2e", b"[", rng.randbytes(2)]
            )
        connection = connect(bytes(content))
        connection.shutdown(socket.SHUT_WR)
        first = connection.recv(12)
        assert first == b"" or first[9:12] == b"200" or first[9:10] == b"4", bytes(content)
        connection.close()
    assert send("GET", "/")[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/call/pair", {}, 405), ("PUT", "/call/pair", KIND, 405), ("POST", "/", KIND, 405),
        ("OPTIONS", "/", {}, 405), ("POST", "/call/other", KIND, 404), ("POST", "/call/", KIND, 404),
        ("POST", "/call/pair/", KIND, 404), ("POST", "/call/__class__", KIND, 404), ("POST", "/pair", KIND, 404),
        ("POST", "/call/pair", {}, 415), ("POST", "/call/pair", {"Content-Type": "text/plain"}, 415),
        ("GET", "/", {"Host": "evil.example"}, 403), ("GET", "/", {"Origin": "http://evil.example"}, 403),
        ("POST", "/call/pair", KIND | {"Host": "evil.example"}, 403),
        ("POST", "/call/pair", KIND | {"Origin": "null"}, 403),
        *((kind, f"/gradio_api/{path}", KIND, 404) for kind in ("GET", "POST") for path in (
            "upload", "queue/join", "queue/data", "queue/status", "component_server/", "heartbeat/a", "run/predict",
            "call/ask", "file=/etc/passwd", "proxy=http://a", "stream/a/b/1/playlist.m3u8", "deep_link", "reset",
        )),
        *(("GET", path, {}, 404) for path in (
            "/openapi.json", "/docs", "/login", "/monitoring", "/assets/../x", "/assets/..%2fx", "/static/%2e%2e/x",
            "/assets/a%00b", "/assets/a%0ab", "/assets//..//x", "/assets/a\\b", "//", "/config/..", "/%63onfig/x",
        )),
    ],
)  # fmt: skip
def test_other_requests_are_rejected_unread(send, forwarded, method, path, headers, status):
    assert send(method, path, '{"name": "a", "number": 3}' if method == "POST" else None, headers)[0] == status
    assert not forwarded


def test_the_page_gets_neither_query_nor_body(send, forwarded):
    assert send("GET", "/assets/a.js?deep_link=../x", b"x" * 100_000)[0] == 200
    assert send("HEAD", "/")[0] == 200
    empty = {"type": "http.request", "body": b"", "more_body": False}
    assert forwarded == [("/assets/a.js", b"", empty), ("/", b"", empty)]


def test_websockets_are_rejected(connect):
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = "Sec-WebSocket-Key: YWFhYWFhYWFhYWFhYWFhYQ==\r\n\r\n"
    answer = connect(f"GET / HTTP/1.1\r\nHost: localhost\r\n{upgrade}{key}".encode()).recv(100)
    assert b" 101 " not in answer


def test_errors_reveal_no_detail(send):
    assert send("POST", "/call/fail", '"rejected"') == (403, "not allowed")
    assert send("POST", "/call/fail", '"other"') == (500, "internal error, see the server log")


def test_calls_of_a_client_are_limited(send):
    assert [send("POST", "/call/limited", "null")[0] for _ in range(5)] == [200, 200, 200, 429, 429]
    assert send("POST", "/call/echo", '"a"')[0] == 200


def test_buckets_refill_and_are_bounded(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "_MAX_CLIENTS", 2)
    limit = RateLimit(burst=2, per_minute=60)
    assert [limit.allow("a") for _ in range(3)] == [True, True, False]
    now[0] = 1.0
    assert [limit.allow("a") for _ in range(2)] == [True, False]
    for client in "bcd":
        assert limit.allow(client)
    assert set(limit._buckets) == {"c", "d"}


def test_large_bodies_are_rejected_before_they_are_read(connect):
    assert b" 413 " in connect(head("pair", "Content-Length: 5000")).recv(100)
    assert b" 400 " in connect(head("pair", f"Content-Length: {'9' * 30}")).recv(100)  # by uvicorn
    chunk = b"3e8\r\n%s\r\n" % (b" " * 1000)
    assert b" 413 " in connect(head("pair", "Transfer-Encoding: chunked") + 5 * chunk).recv(100)
    valid = b'1a\r\n{"name": "a", "number": 3}\r\n0\r\n\r\n'
    assert b" 200 " in connect(head("pair", "Transfer-Encoding: chunked") + 2 * chunk + valid).recv(100)


def trickle(connection):
    for _ in range(1000):
        connection.sendall(b"X")
        time.sleep(0.02)


def test_slow_bodies_and_headers_are_closed(connect, send):
    slow = connect(head("pair", "Content-Length: 26") + b'{"na')
    assert b" 408 " in slow.recv(100)
    contents = (b"", b"GET / HTTP/1.1\r\nHo", head("pair", "Content-Length: 5000"))
    for connection in [connect(content) for content in contents]:
        while connection.recv(1000):  # ends when the server closes the connection
            pass
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        trickle(connect(b"GET / HTTP/1.1\r\n"))
    assert send("GET", "/")[0] == 200


def test_idle_connections_lock_nobody_out(connect, send, waiting, monkeypatch):
    """Nor do they close a request in progress."""
    monkeypatch.setattr(module, "_MAX_CONNECTIONS", 20)
    monkeypatch.setattr(module, "_CONNECTION_CHECK_S", 20)
    running = connect(head("wait", "Content-Length: 3") + b'"a"')
    assert waiting.begun.wait(20)
    idle = [connect(b"") for _ in range(100)]
    assert send("GET", "/")[0] == 200
    assert all(one.recv(1) == b"" for one in idle[:80])  # closed by the server, long before the timeout
    waiting.released.set()
    assert b" 200 " in running.recv(100)


def test_bodies_in_memory_are_bounded(connect, waiting, send):
    body = json.dumps("a" * 19_000).encode()
    held = [connect(head("wait", f"Content-Length: {len(body)}") + body) for _ in range(3)]
    assert waiting.begun.wait(20)
    (answered, *_), _, _ = select.select(held, [], [], 20)  # two bodies are held, and the third is one too many
    assert b" 503 " in answered.recv(100)
    waiting.released.set()
    for connection in held:
        if connection is not answered:
            assert b" 200 " in connection.recv(100)
    assert send("POST", "/call/wait", body)[0] == 200


def test_an_abandoned_call_is_stopped(connect, waiting):
    connection = connect(head("wait", "Content-Length: 3") + b'"a"')
    assert waiting.begun.wait(20)
    assert not waiting.ended.is_set()
    connection.close()
    assert waiting.ended.wait(20)
