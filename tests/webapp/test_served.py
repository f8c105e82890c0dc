"""Responses to requests that the page never sends: file paths, named calls, uploads, and oversized bodies."""

import json
import socket
from http.client import HTTPConnection

import pytest


@pytest.fixture(scope="module")
def send(app_server):
    """`send(method, path, body)` returns status and text; paths are sent unchanged, including `..`."""
    host = app_server.address.removeprefix("http://")

    def send(method, path, body=None, kind="application/json", **headers):
        connection = HTTPConnection(host, timeout=60)
        connection.request(method, path, body, {**({"Content-Type": kind} if body else {}), **headers})
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        connection.close()
        return answer.status, text

    return send


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    path = tmp_path_factory.mktemp("secret") / "secret.txt"
    path.write_text("private content")
    return path


def test_no_path_serves_files(send, secret):
    for start in ("/gradio_api/file=", "/gradio_api/file/", "/file=", "/gradio_api/proxy=", "/gradio_api/stream/"):
        for path in (f"{secret}", f"../../../../../../..{secret}", "conf/app.yaml", "../etc/passwd", f"%2e%2e{secret}"):
            status, text = send("GET", f"{start}{path}")
            assert status == 404
            assert "private" not in text
    for start in ("/assets/", "/static/", "/svelte/"):
        for path in (
            f"../../../../../../../../../..{secret}",
            f"..%2f..%2f..%2f..%2f..%2f..%2f..{secret}",
            str(secret),
        ):
            status, text = send("GET", f"{start}{path}")
            assert status in (403, 404)
            assert "private" not in text


@pytest.mark.parametrize(
    "path",
    [
        "upload",
        "run/fill",
        "api/fill",
        "call/fill",
        "call/v2/fill",
        "queue/join",
        "queue/data",
        "mcp",
        "vibe-edit",
        "deep_link",
    ],
)
def test_uploads_and_named_calls_are_not_served(send, path):
    assert send("POST", f"/gradio_api/{path}", json.dumps({"data": []}))[0] == 404
    assert send("GET", f"/gradio_api/{path}")[0] == 404


def call(send, function, sent, **headers):
    """Call a function as the page does."""
    return send("POST", f"/call/{function}", json.dumps(sent), **headers)


@pytest.mark.parametrize("function", ["open_image", "open_example", "predict_edges", "fill"])
def test_does_not_read_paths_in_requests_of_the_page(send, secret, function):
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    for path in (str(secret), f"../../../../../../../../{secret}", file, {"url": f"file://{secret}"}, [file]):
        sent = {"image": path, "mask": path, "edges": path, "method": path, "example": path, "side": path}
        for data in (sent, path):
            status, text = call(send, function, data)
            is_object_of_texts = isinstance(data, dict) and all(isinstance(value, str) for value in data.values())
            assert (status, "private" in text) == (200 if is_object_of_texts else 422, False)
            assert status == 422 or json.loads(text)["error"].endswith(".")


def test_other_functions_are_not_callable(send):
    for function in ("load", "methods", "__init__", "postprocess", "process_example", "download", "stop", ""):
        assert call(send, function, {})[0] == 404
        body = json.dumps({"component_id": 1, "fn_name": function, "session_hash": "a", "data": {}})
        assert send("POST", "/gradio_api/component_server/", body)[0] == 404


def test_rejects_requests_of_other_sites(app_server, send):
    address, port = app_server.address, app_server.address.rpartition(":")[2]
    for origin in ("http://evil.example", "null", "http://127.0.0.1", f"http://evil.example:{port}", ""):
        assert call(send, "open_example", {}, Origin=origin)[0] == 403
    assert call(send, "open_example", {}, Origin=address)[0] == 200
    for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", ""):
        assert call(send, "open_example", {}, Host=host, Origin=f"http://{host}")[0] == 403
        assert send("GET", "/config", Host=host)[0] == 403
    for host in (f"localhost:{port}", f"[::1]:{port}", "LOCALHOST"):
        assert call(send, "open_example", {}, Host=host, Origin=f"http://{host}")[0] == 200


def test_a_public_server_accepts_any_host_but_no_other_origin():
    pytest.importorskip("gradio", reason="the page needs the extra `app`", exc_type=ModuleNotFoundError)
    from starlette.responses import PlainTextResponse
    from starlette.testclient import TestClient

    from src.webapp.server import Guard

    async def app(scope, receive, send):
        await PlainTextResponse("served")(scope, receive, send)

    client = TestClient(Guard(app, {}, hosts=None), base_url="https://abc.gradio.live")
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"Origin": "https://abc.gradio.live"}).status_code == 200
    assert client.get("/", headers={"Origin": "https://evil.example"}).status_code == 403


def test_rejects_oversized_requests(app_server, send):
    assert send("POST", "/call/open_image", b"x" * 6_000_000)[0] == 413
    assert send("POST", "/call/open_example", b"x" * 5_000)[0] == 413
    assert send("GET", "/")[0] == 200


def test_only_this_machine_can_connect(app_server):
    port = int(app_server.address.rpartition(":")[2])
    outside = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in {address for address in outside if not address.startswith("127.")}:
        with pytest.raises(OSError):  # noqa: PT011  # rejected or unreachable
            socket.create_connection((address, port), timeout=2)


def test_paths_on_disk_are_not_revealed(send, untrained):
    for path in ("/", "/config", "/gradio_api/info"):
        assert str(untrained) not in send("GET", path)[1]
    assert json.loads(send("GET", "/gradio_api/info")[1]) == {"named_endpoints": {}, "unnamed_endpoints": {}}
