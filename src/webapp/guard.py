"""Middleware that limits which requests reach the server: the page's own paths, hosts, origins and sizes."""

import re

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALLOWED_PATHS = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/(assets|static|svelte)/.*"
    r"|/gradio_api/(component_server|startup-events|heartbeat/\w+|info|app_id)/?"
)
"""Gradio's uploads, file downloads, proxies and named API calls are excluded, as the page uses none of them."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Host names of a server that serves this machine only."""


class Guard:
    """Responds 404 to paths that the page does not use, 403 to other hosts and origins, and 413 to large requests.

    Browsers send the origin of a request, so requests of other sites are recognised. A site can also resolve its own
    domain to this machine (DNS rebinding), which makes it the same origin; so a server that serves this machine only
    rejects all host names but this machine's own. Gradio serves the files of its cache by path; this page needs none,
    so no crafted path can reach one.

    Args:
        max_bytes: limit of a request's body.
        hosts: accepted host names, without ports; None accepts any.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, hosts: frozenset[str] | None) -> None:
        self.app, self.max_bytes, self.hosts = app, max_bytes, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward allowed requests to the application."""
        if scope["type"] == "websocket" or (scope["type"] == "http" and not ALLOWED_PATHS.fullmatch(scope["path"])):
            await PlainTextResponse("not found", 404)(scope, receive, send)
            return
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "http" and not self._is_same_origin(scope["method"], headers):
            await PlainTextResponse("requests from other sites are forbidden", 403)(scope, receive, send)
            return
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.max_bytes:
            await PlainTextResponse("request too large", 413)(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            # If Content-Length is missing or too small, act as if the client had disconnected.
            return {"type": "http.disconnect"} if received > self.max_bytes else message

        await self.app(scope, receive_limited, send)

    def _is_same_origin(self, method: str, headers: dict[bytes, bytes]) -> bool:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self.hosts is not None and re.sub(r":\d*$", "", host) not in self.hosts:
            return False
        origin = headers.get(b"origin")
        return method != "POST" or origin is None or origin.decode("latin-1").lower().partition("://")[2] == host
