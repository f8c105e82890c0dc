"""What reaches the page's server at all: the few addresses that the page itself asks for, and requests of a size."""

import re

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SERVED = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/(assets|static|svelte)/.*"
    r"|/gradio_api/(component_server|startup-events|heartbeat/\w+|info|app_id)/?"
)
"""Uploads, files by their path, proxies, and calls by name are not among them: the page needs none."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""What a machine is called by its own browser."""


class Guard:
    """Answers 404 to other addresses than the page's own, 403 to other sites, 413 to what is larger than it ever sends.

    A browser says which site a request comes from. A site can also let its own name lead to this machine, and be no
    other site then: a server for this machine alone answers to this machine's names alone.

    Gradio serves what is in its cache by path and keeps uploads in it. This page sends pictures within its requests and
    gets them within the answers, so there is nothing to be served, and nothing a crafted request could reach.

    Args:
        largest: bytes of a request's body.
        names: of hosts, without their ports, that it answers to; None: any.
    """

    def __init__(self, app: ASGIApp, largest: int, names: frozenset[str] | None) -> None:
        self.app, self.largest, self.names = app, largest, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what is served."""
        if scope["type"] == "websocket" or (scope["type"] == "http" and not SERVED.fullmatch(scope["path"])):
            await PlainTextResponse("not served here", 404)(scope, receive, send)
            return
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "http" and not self._welcome(scope["method"], headers):
            await PlainTextResponse("not for other sites", 403)(scope, receive, send)
            return
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.largest:
            await PlainTextResponse("too large", 413)(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            # Without a length, or with a false one: as if who sends it had gone.
            return {"type": "http.disconnect"} if taken > self.largest else message

        await self.app(scope, counted, send)

    def _welcome(self, method: str, headers: dict[bytes, bytes]) -> bool:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self.names is not None and re.sub(r":\d*$", "", host) not in self.names:
            return False
        origin = headers.get(b"origin")
        return method != "POST" or origin is None or origin.decode("latin-1").lower().partition("://")[2] == host
