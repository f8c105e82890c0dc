"""What the server answers to requests that no page would send: paths, calls by name, uploads, and far too much."""

import json
import socket
from http.client import HTTPConnection

import pytest


@pytest.fixture(scope="module")
def speak(app_server):
    """`speak(method, path, body)` -> status and text; paths are sent as they are, `..` and all."""
    host = app_server.address.removeprefix("http://")

    def speak(method, path, body=None, kind="application/json", **headers):
        connection = HTTPConnection(host, timeout=60)
        connection.request(method, path, body, {**({"Content-Type": kind} if body else {}), **headers})
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        connection.close()
        return answer.status, text

    return speak


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    path = tmp_path_factory.mktemp("secret") / "secret.txt"
    path.write_text("nobody is to read this")
    return path


def test_files_are_served_by_no_address(speak, secret):
    for start in ("/gradio_api/file=", "/gradio_api/file/", "/file=", "/gradio_api/proxy=", "/gradio_api/stream/"):
        for path in (f"{secret}", f"../../../../../../..{secret}", "conf/app.yaml", "../etc/passwd", f"%2e%2e{secret}"):
            status, text = speak("GET", f"{start}{path}")
            assert status == 404
            assert "nobody" not in text
    for start in ("/assets/", "/static/", "/svelte/"):
        for path in (
            f"../../../../../../../../../..{secret}",
            f"..%2f..%2f..%2f..%2f..%2f..%2f..{secret}",
            str(secret),
        ):
            status, text = speak("GET", f"{start}{path}")
            assert status in (403, 404)
            assert "nobody" not in text


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
def test_nothing_is_uploaded_or_called_by_name(speak, path):
    assert speak("POST", f"/gradio_api/{path}", json.dumps({"data": []}))[0] == 404
    assert speak("GET", f"/gradio_api/{path}")[0] == 404


def page_request(speak, function, sent):
    (html,) = (c["id"] for c in json.loads(speak("GET", "/config")[1])["components"] if c["type"] == "html")
    return json.dumps({"component_id": html, "fn_name": function, "session_hash": "a", "data": sent})


def asked(speak, function, sent):
    """What a request of the page's kind is answered with."""
    return speak("POST", "/gradio_api/component_server/", page_request(speak, function, sent))


@pytest.mark.parametrize("function", ["open_image", "open_example", "predict_edges", "fill", "stop"])
def test_a_path_in_a_request_is_not_read(speak, secret, function):
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    for path in (str(secret), f"../../../../../../../../{secret}", file, {"url": f"file://{secret}"}, [file]):
        sent = {"image": path, "mask": path, "edges": path, "method": path, "example": path, "side": path}
        for data in ({**sent, "user": path}, {**sent, "user": "me"}, path):
            status, text = asked(speak, function, data)
            assert (status, "nobody" in text) == (200, False)
            assert function == "stop" or json.loads(text)["error"].endswith(".")


def test_no_other_function_is_called(speak):
    for function in ("load", "methods", "__init__", "postprocess", "process_example", "download"):
        assert asked(speak, function, {})[0] == 404


def test_pages_of_other_sites_are_refused(app_server, speak):
    address, port = app_server.address, app_server.address.rpartition(":")[2]
    body = page_request(speak, "stop", {"user": "me"})
    path = "/gradio_api/component_server/"
    for origin in ("http://evil.example", "null", "http://127.0.0.1", f"http://evil.example:{port}", ""):
        assert speak("POST", path, body, "text/plain", Origin=origin)[0] == 403
    assert speak("POST", path, body, Origin=address)[0] == 200
    for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", ""):
        assert speak("POST", path, body, Host=host, Origin=f"http://{host}")[0] == 403
        assert speak("GET", "/config", Host=host)[0] == 403
    for host in (f"localhost:{port}", f"[::1]:{port}", "LOCALHOST"):
        assert speak("POST", path, body, Host=host, Origin=f"http://{host}")[0] == 200


def test_a_server_for_others_may_have_any_name_but_is_not_for_other_sites():
    pytest.importorskip("gradio", reason="the page needs the extra `app`", exc_type=ModuleNotFoundError)
    from starlette.responses import PlainTextResponse
    from starlette.testclient import TestClient

    from src.webapp.guard import Guard

    async def app(scope, receive, send):
        await PlainTextResponse("served")(scope, receive, send)

    client = TestClient(Guard(app, max_bytes=9, hosts=None), base_url="https://abc.gradio.live")
    assert client.get("/").status_code == 200
    assert client.post("/", headers={"Origin": "https://abc.gradio.live"}).status_code == 200
    assert client.post("/", headers={"Origin": "https://evil.example"}).status_code == 403


def test_what_is_too_large_is_not_taken(app_server, speak):
    assert speak("POST", "/gradio_api/component_server/", b"x" * 6_000_000)[0] == 413
    host, port = app_server.address.removeprefix("http://").split(":")
    said = {}
    for megabytes in (1, 20):  # of blanks behind a request that is right, no length being told
        chunks = [page_request(speak, "stop", {"user": "me"}).encode(), *[b" " * 1_000_000] * megabytes, b""]
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            try:
                connection.sendall(
                    b"POST /gradio_api/component_server/ HTTP/1.1\r\nHost: localhost\r\n"
                    b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                for chunk in chunks:
                    connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                said[megabytes] = connection.recv(1000)
            except OSError:  # it hung up
                said[megabytes] = b""
    assert b" 200 " in said[1]
    assert b" 200 " not in said[20]
    assert speak("GET", "/")[0] == 200


def test_it_binds_to_this_machine_alone(app_server):
    port = int(app_server.address.rpartition(":")[2])
    outside = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in {address for address in outside if not address.startswith("127.")}:
        with pytest.raises(OSError):  # noqa: PT011  # refused or unreachable
            socket.create_connection((address, port), timeout=2)


def test_nothing_of_the_disk_is_told(speak, untrained):
    for path in ("/", "/config", "/gradio_api/info"):
        assert str(untrained) not in speak("GET", path)[1]
    assert json.loads(speak("GET", "/gradio_api/info")[1]) == {"named_endpoints": {}, "unnamed_endpoints": {}}
