"""The page as a Gradio application: one HTML component whose script calls the functions of `Api`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any

import gradio

from src.common.errors import InputError
from src.rendering.html import png_url
from src.webapp.api import Api, Response
from src.webapp.examples import EXAMPLES
from src.webapp.methods import StoppedError
from src.webapp.server import Function, serve_page

_DIRECTORY = Path(__file__).parent
_HTML = (_DIRECTORY / "page.html").read_text(encoding="utf-8")
_SCRIPTS = ("zip.js", "painter.js", "page.js", "results.js", "controls.js")  # in this order, as one script
_JS = "\n".join((_DIRECTORY / name).read_text(encoding="utf-8") for name in _SCRIPTS)


def build_page(api: Api, side: int | str | None, preselected: set[str], details: Mapping[str, str]) -> gradio.Blocks:
    """Build the page, without its style sheet, with the initial working size and methods, and details of networks."""
    page = gradio.Blocks(title="Inpainting", analytics_enabled=False, fill_width=True)
    with page:
        gradio.HTML(
            html_template=_HTML,
            js_on_load=_JS,
            apply_default_css=False,
            methods=[
                {
                    "name": name,
                    "has_weights": method.has_weights,
                    "selected": name in preselected,
                    "details": details.get(name, ""),
                }
                for name, method in api.methods.methods.items()
            ],
            sides=api.sides_px,
            side=side,
            limits={"megabytes": api.limits.megabytes, "megapixels": api.limits.megapixels},
            examples=[{"title": e.title, "thumbnail": png_url(e.make_thumbnail())} for e in EXAMPLES],
        )
    return page


def page_functions(api: Api) -> dict[str, Function]:
    """Return the functions that the page's script calls, by name."""
    schema, most = dict[str, str | bool | int | None], api.limits.request_bytes
    return {
        "open_example": Function(_report_errors(api.open_example), schema),
        "open_image": Function(_report_errors(api.open_image), schema, most),
        "open_mask": Function(_report_errors(api.open_mask), schema, most),
        "predict_edges": Function(_report_errors(api.predict_edges), schema, most, can_stop=True),
        "fill": Function(_report_errors(api.fill), schema, most, can_stop=True),
    }


def _report_errors(function: Callable[..., Response]) -> Callable[..., Response]:
    """Wrap a function so that invalid inputs become a response with the message as `error`."""

    def reporting(request: dict[str, Any], *stopped: Event) -> Response:
        try:
            return function(request, *stopped)
        except StoppedError:
            return {"stopped": True}
        except InputError as error:
            return {"error": f"{str(error)[:1].upper()}{str(error)[1:]}."}

    return reporting


def serve(api: Api, page: gradio.Blocks, host: str, port: int, share: bool) -> None:
    """Print the address and serve until Ctrl-C.

    Raises:
        InputError: the port is in use, or this machine does not have the host.
    """
    css = _DIRECTORY / "page.css"
    serve_page(page, page_functions(api), host=host, port=port, share=share, css=css, name="the page")
