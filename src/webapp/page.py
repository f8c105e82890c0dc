"""The page as a Gradio application: one HTML component whose script calls the functions of `Api`."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio
from starlette.middleware import Middleware

from src.common.errors import InputError
from src.rendering.html import png_url
from src.webapp.api import Api, Request, Response
from src.webapp.examples import EXAMPLES
from src.webapp.guard import LOOPBACK, Guard
from src.webapp.methods import StoppedError
from src.webapp.serving import serve_page

_DIRECTORY = Path(__file__).parent
_HTML = (_DIRECTORY / "page.html").read_text(encoding="utf-8")
_SCRIPTS = ("zip.js", "painter.js", "page.js", "results.js", "controls.js")  # in this order, as one script
_JS = "\n".join((_DIRECTORY / name).read_text(encoding="utf-8") for name in _SCRIPTS)

log = logging.getLogger(__name__)


def build_page(api: Api, side_px: int | None, preselected: set[str]) -> gradio.Blocks:
    """Build the page, without its style sheet, with the initial working size and methods."""
    page = gradio.Blocks(title="Inpainting", analytics_enabled=False, fill_width=True)
    with page:
        gradio.HTML(
            html_template=_HTML,
            js_on_load=_JS,
            apply_default_css=False,
            methods=[
                {"name": name, "has_weights": method.has_weights, "selected": name in preselected}
                for name, method in api.methods.methods.items()
            ],
            sides=api.sides_px,
            side=side_px,
            limits={"megabytes": api.limits.megabytes, "megapixels": api.limits.megapixels},
            server_functions=list(
                map(
                    _report_errors,
                    (api.open_image, api.open_mask, api.open_example, api.predict_edges, api.fill, api.stop),
                )
            ),
            examples=[{"title": e.title, "thumbnail": png_url(e.make_thumbnail())} for e in EXAMPLES],
        )
    return page


def _report_errors(function: Callable[[Request], Response]) -> Callable[[Any], Response]:
    """Wrap a function for page.js, which calls it by its name: errors become a response with the message as `error`."""

    @functools.wraps(function)
    def reporting(request: Any) -> Response:
        try:
            return function(request if isinstance(request, dict) else {})
        except StoppedError:
            return {"stopped": True}
        except InputError as error:
            return {"error": f"{str(error)[:1].upper()}{str(error)[1:]}."}
        except Exception:
            log.exception("%s failed", function.__name__)
            return {"error": "Internal error, see the server log."}

    return reporting


def serve(page: gradio.Blocks, host: str, port: int, share: bool, max_request_bytes: int) -> None:
    """Print the address and serve until Ctrl-C.

    Raises:
        InputError: the port is in use, or this machine does not have the host.
    """
    hosts = LOOPBACK if host in ("127.0.0.1", "localhost", "::1") and not share else None
    middleware = [Middleware(Guard, max_bytes=max_request_bytes, hosts=hosts)]
    css = _DIRECTORY / "page.css"
    serve_page(page, host, port, share, css=css, name="the page", app_kwargs={"middleware": middleware})
