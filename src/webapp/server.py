"""The server of both pages: checks requests, calls the page's functions, serves until Ctrl-C."""

import functools
import logging
import re
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import gradio
from pydantic import TypeAdapter, ValidationError
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from src.common.errors import InputError
from src.common.schema_files import describe_first

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Host names of a server that serves this machine only."""

_PAGE_PATHS = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/gradio_api/(startup-events|info|app_id)/?"
    r"|/(assets|static|svelte)/(?!.*\.\.)[\w@./-]+"
)
"""Gradio's paths that a page uses: not its uploads, file downloads, queue and sessions, which grow without limit."""

_BODY_GRACE_S, _BODY_BYTES_PER_S = 10, 50_000
"""A body may take this long, plus the time at this rate."""

_MAX_HELD_BYTES = 64 << 20
_HELD_REQUESTS = 20
"""Bodies in memory, in total: at most the larger of `_MAX_HELD_BYTES` and this number of the largest requests."""

_MAX_NODES = 1000
"""Limit of brackets and commas in a body: JSON of many small values takes up to a hundred times its size in memory."""

_MAX_CLIENTS = 10_000
_CONNECTION_CHECK_S = 10
_MAX_CONNECTIONS = 400  # of which each takes a file; processes may often open 1024
_THREADS = 64

log = logging.getLogger(__name__)


class RequestError(Exception):
    """A request that is rejected with an HTTP status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class RateLimit:
    """Allows each client `burst` calls at once and `per_minute` over time (token buckets of the latest clients)."""

    def __init__(self, burst: int, per_minute: int) -> None:
        self.burst, self.per_minute = burst, per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, client: str) -> bool:
        """Count a call, and return whether it is allowed."""
        now = time.monotonic()
        tokens, then = self._buckets.pop(client, (self.burst, now))
        tokens = min(self.burst, tokens + (now - then) * self.per_minute / 60)
        self._buckets[client] = (max(0, tokens - 1) if tokens >= 1 else tokens, now)
        if len(self._buckets) > _MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return tokens >= 1


@dataclass(frozen=True)
class Function:
    """A function that the page's script calls by a POST of JSON to `call/<name>`.

    Attributes:
        run: gets the value in the request, and, if `can_stop`, an event that is set when the client disconnects. May
            raise `RequestError`.
        schema: type of the value, checked by pydantic.
        max_bytes: limit of the request's body.
        limit: limit of the calls of each client address.
    """

    run: Callable[..., Any]
    schema: Any
    max_bytes: int = 4096
    can_stop: bool = False
    limit: RateLimit = field(default_factory=lambda: RateLimit(burst=300, per_minute=1200))


class Guard:
    """ASGI middleware that answers calls of `functions` and forwards requests for the page itself to Gradio.

    All other paths get 404, other hosts and origins 403, and large or slow bodies 413 or 408, at the latest when the
    limit is exceeded. Browsers send the origin of a request, so requests of other sites are recognised. A site can also
    resolve its own domain to this machine (DNS rebinding), which makes it the same origin; so a server that serves this
    machine only rejects all host names but this machine's own.

    Args:
        functions: the page's functions by name.
        hosts: accepted host names, without ports; None accepts any.
    """

    def __init__(self, app: ASGIApp, functions: Mapping[str, Function], hosts: frozenset[str] | None) -> None:
        self.app, self.functions, self.hosts = app, functions, hosts
        self._schemas = {name: TypeAdapter[Any](function.schema) for name, function in functions.items()}
        largest = max((function.max_bytes for function in functions.values()), default=0)
        self._max_held = max(_MAX_HELD_BYTES, _HELD_REQUESTS * largest)
        self._held = 0
        # Apart from Gradio's threads, so that waiting calls can't delay the page.
        self._threads = anyio.CapacityLimiter(_THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or forward it to Gradio."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        try:
            name = self._check(scope)
            if name is None:
                # Without query (links to stored sessions) and body, as Gradio's part of the page needs neither.
                await self.app({**scope, "query_string": b""}, _without_body(receive), send)
                return
            response = await self._answer(name, scope, receive)
        except RequestError as error:
            response = PlainTextResponse(str(error), error.status)
        await response(scope, receive, send)

    def _check(self, scope: Scope) -> str | None:
        """Return the name of the called function, or None for the page itself."""
        if scope["type"] != "http":
            raise RequestError(404, "not found")
        path, headers = str(scope["path"]), dict(scope["headers"])
        if not self._is_same_origin(headers):
            raise RequestError(403, "requests from other sites are forbidden")
        if _PAGE_PATHS.fullmatch(path):
            if scope["method"] not in ("GET", "HEAD"):
                raise RequestError(405, "only GET is allowed")
            return None
        name = path.removeprefix("/call/")
        if name == path or name not in self.functions:
            raise RequestError(404, "not found")
        if scope["method"] != "POST":
            raise RequestError(405, "only POST is allowed")
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
            raise RequestError(415, "the content type must be application/json")
        return name

    def _is_same_origin(self, headers: Mapping[bytes, bytes]) -> bool:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self.hosts is not None and re.sub(r":\d*$", "", host) not in self.hosts:
            return False
        origin = headers.get(b"origin")
        return origin is None or origin.decode("latin-1").lower().partition("://")[2] == host

    async def _answer(self, name: str, scope: Scope, receive: Receive) -> Response:
        function, length = self.functions[name], dict(scope["headers"]).get(b"content-length", b"0")
        if not function.limit.allow((scope.get("client") or ("unknown", 0))[0]):
            raise RequestError(429, "too many requests: try again in a minute")
        if not length.isdigit() or len(length) > 18 or int(length) > function.max_bytes:
            raise RequestError(413, f"the request is too large, the limit is {function.max_bytes} bytes")
        body = bytearray()
        try:
            await self._read(receive, body, function.max_bytes)
            return await self._run(name, self._parse(name, body), receive)
        finally:
            self._held -= len(body)

    async def _read(self, receive: Receive, body: bytearray, max_bytes: int) -> None:
        start, more = anyio.current_time(), True
        while more:
            deadline = start + _BODY_GRACE_S + len(body) / _BODY_BYTES_PER_S
            with anyio.move_on_after(deadline - anyio.current_time()) as waiting:
                message = await receive()
            if waiting.cancelled_caught:
                raise RequestError(408, "the request is too slow: try again with a faster connection")
            if message["type"] == "http.disconnect":
                raise RequestError(400, "the request is incomplete")
            chunk, more = message.get("body", b""), message.get("more_body", False)
            if len(body) + len(chunk) > max_bytes:
                raise RequestError(413, f"the request is too large, the limit is {max_bytes} bytes")
            if self._held + len(chunk) > self._max_held:
                raise RequestError(503, "the server is busy: try again in a minute")
            body += chunk
            self._held += len(chunk)

    def _parse(self, name: str, body: bytearray) -> Any:
        if sum(map(body.count, b"[{,")) > _MAX_NODES:
            raise RequestError(422, f"the request has more than {_MAX_NODES} values")
        try:
            return self._schemas[name].validate_json(body)
        except ValidationError as error:
            raise RequestError(422, f"the request is invalid: {describe_first(error)}") from None

    async def _run(self, name: str, value: Any, receive: Receive) -> Response:
        """Call a function in a thread; if the client disconnects before it has begun, it is not called."""
        function, stopped = self.functions[name], threading.Event()
        run = functools.partial(function.run, value, *([stopped] if function.can_stop else []))
        response: Response = PlainTextResponse("the client has disconnected", 499)
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                stopped.set()
                group.cancel_scope.cancel()

            group.start_soon(watch)
            try:
                response = JSONResponse(await anyio.to_thread.run_sync(run, limiter=self._threads))
            except RequestError as error:
                response = PlainTextResponse(str(error), error.status)
            except Exception:
                log.exception("%s failed", name)
                response = PlainTextResponse("internal error, see the server log", 500)
            group.cancel_scope.cancel()
        return response


def _without_body(receive: Receive) -> Receive:
    """Return a `receive` that skips the body, and then waits until the client disconnects."""
    begun = False

    async def receive_empty() -> Message:
        nonlocal begun
        if not begun:
            begun = True
            return {"type": "http.request", "body": b"", "more_body": False}
        while (message := await receive())["type"] != "http.disconnect":
            pass
        return message

    return receive_empty


class _ImpatientProtocol(H11Protocol):
    """Closes connections without progress: incomplete headers, bodies that no function reads, unread responses.

    If too many are open, the oldest one without a request in progress of the address with the most is closed.
    """

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._since = self.loop.time()
        self._progress: tuple[object, int] | None = None
        self._check_later()
        by_client: defaultdict[str, list[_ImpatientProtocol]] = defaultdict(list)
        for one in self.connections:
            if isinstance(one, _ImpatientProtocol) and not one.transport.is_closing():
                by_client[(one.client or ("unknown", 0))[0]].append(one)
        if sum(map(len, by_client.values())) > _MAX_CONNECTIONS:
            of_busiest = max(by_client.values(), key=len)
            min(of_busiest, key=lambda one: (not one._is_waiting(), one._since)).transport.abort()

    def _is_waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _check_later(self) -> None:
        self.loop.call_later(_CONNECTION_CHECK_S, self._check_progress)

    def _check_progress(self) -> None:
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            return
        progress = (self.cycle, self.transport.get_write_buffer_size())
        is_waiting = self._is_waiting()
        if is_waiting and progress == self._progress:
            self.transport.abort()
            return
        self._progress = progress if is_waiting else None
        self._check_later()


def serve_page(
    page: gradio.Blocks,
    functions: Mapping[str, Function],
    *,
    host: str,
    port: int,
    share: bool,
    css: Path,
    name: str,
) -> None:
    """Print the address and what is served, `name`, and serve until Ctrl-C.

    Raises:
        InputError: the port is in use, or this machine does not have the host.
    """
    hosts = LOOPBACK if host in ("127.0.0.1", "localhost", "::1") and not share else None
    try:
        _, local_url, share_url = page.launch(
            server_name=host,
            server_port=port,
            share=share,
            css_paths=css,
            footer_links=[],
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
            app_kwargs={"middleware": [Middleware(Guard, functions=functions, hosts=hosts)]},
        )
    except OSError as error:
        raise InputError(f"can't serve at host={host} port={port}: {error}") from error
    page.server.config.http_protocol_class = _ImpatientProtocol  # of all further connections
    elsewhere = f" (from other machines: port {port} of this machine)" if host == "0.0.0.0" else ""
    print(f"serving {name} at {share_url or local_url}{elsewhere}; press Ctrl-C to stop", flush=True)
    page.block_thread()
