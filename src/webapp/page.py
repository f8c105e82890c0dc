"""The page as a Gradio application: one component, which calls the functions of `Answers` by their names."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio
from starlette.middleware import Middleware

from src.common.errors import InputError
from src.rendering.html import png_url
from src.webapp.answers import Answer, Answers, Sent
from src.webapp.examples import EXAMPLES
from src.webapp.guard import LOOPBACK, Guard
from src.webapp.methods import StoppedError
from src.webapp.serving import serve_page

FOLDER = Path(__file__).parent
_HTML = (FOLDER / "page.html").read_text(encoding="utf-8")
_JS = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in ("zip.js", "painter.js", "page.js"))

log = logging.getLogger(__name__)


def app_page(answers: Answers, side_px: int | None, ticked: set[str]) -> gradio.Blocks:
    """The page, without its style.

    Args:
        side_px: the working size that is chosen at first.
        ticked: the methods that are ticked at first.
    """
    page = gradio.Blocks(title="Inpainting", analytics_enabled=False, fill_width=True)
    with page:
        gradio.HTML(
            html_template=_HTML,
            js_on_load=_JS,
            apply_default_css=False,
            methods=[
                {"name": name, "has_weights": method.has_weights, "checked": name in ticked}
                for name, method in answers.methods.choice.items()
            ],
            sides=answers.sides_px,
            side=side_px,
            limits={"megabytes": answers.limits.megabytes, "megapixels": answers.limits.megapixels},
            server_functions=[
                _answering(answer)
                for answer in (answers.open_photo, answers.open_example, answers.find_edges, answers.fill, answers.stop)
            ],
            examples=[{**_named(example.title), "thumbnail": png_url(example.thumbnail())} for example in EXAMPLES],
        )
    return page


def _named(title: str) -> dict[str, str]:
    return {"title": title, "name": title.rpartition(" ")[2]}


def _answering(answer: Callable[[Sent], Answer]) -> Callable[[Any], Answer]:
    """The function, for page.js to call by its name: whatever goes wrong is answered with a sentence, its `problem`."""

    @functools.wraps(answer)
    def answering(sent: Any) -> Answer:
        try:
            return answer(sent if isinstance(sent, dict) else {})
        except StoppedError:
            return {"stopped": True}
        except InputError as error:
            return {"problem": f"{str(error)[:1].upper()}{str(error)[1:]}."}
        except Exception:
            log.exception("%s failed", answer.__name__)
            return {"problem": "This failed in a way that nobody foresaw: the server's log says more."}

    return answering


def serve(page: gradio.Blocks, host: str, port: int, share: bool, largest_request: int) -> None:
    """Serve until Ctrl-C; the address is printed.

    Args:
        largest_request: bytes.
    Raises:
        InputError: the port is taken, or this machine has no such host.
    """
    names = LOOPBACK if host in ("127.0.0.1", "localhost", "::1") and not share else None
    middleware = [Middleware(Guard, largest=largest_request, names=names)]
    serve_page(
        page, host, port, share,
        css=FOLDER / "page.css", says="the page is at", until="until Ctrl-C", app_kwargs={"middleware": middleware},
    )  # fmt: skip
