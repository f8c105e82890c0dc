"""The page as a Gradio application: its requests wait in Gradio's queue, and one method works at a time."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio
from starlette.middleware import Middleware

from src.errors import InputError
from src.reporting.html import png_url
from src.webapp.answers import Answer, Answers, Sent
from src.webapp.examples import EXAMPLES
from src.webapp.guard import Guard
from src.webapp.methods import StoppedError

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
        html = gradio.HTML(
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
            examples=[{**_named(example.title), "thumbnail": png_url(example.thumbnail())} for example in EXAMPLES],
        )
        asked = [
            _listen(html, "open", answers.open, "pictures"),
            _listen(html, "example", answers.example, "pictures"),
            _listen(html, "trace", answers.edges, "methods"),
            _listen(html, "fill", answers.fill, "methods"),
        ]

        def stop(request: gradio.Request) -> None:
            answers.methods.stop(str(request.session_hash))

        html.stop(stop, cancels=asked, queue=False, api_visibility="private", show_progress="hidden")
    return page


def _named(title: str) -> dict[str, str]:
    return {"title": title, "name": title.rpartition(" ")[2]}


def _listen(html: gradio.HTML, event: str, answer: Callable[[Sent, str], Answer], group: str) -> Any:
    """Answer what page.js triggers as `event`, one request of a group at a time; whatever goes wrong is a sentence."""

    def answered(data: gradio.EventData, request: gradio.Request) -> Answer:
        sent = data._data if isinstance(data._data, dict) else {}
        number = {"number": sent.get("number")}
        try:
            return {**answer(sent, str(request.session_hash)), **number}
        except StoppedError:
            return {"stopped": True, **number}
        except InputError as error:
            return {"problem": f"{str(error)[:1].upper()}{str(error)[1:]}.", **number}
        except Exception:
            log.exception("a request of the page failed")
            return {"problem": "This failed in a way that nobody foresaw: the server's log says more.", **number}

    listening = getattr(html, event)(
        answered, outputs=html, concurrency_limit=1, concurrency_id=group, trigger_mode="multiple",
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    listening.failure(None, js="() => window.dispatchEvent(new Event('inpaint-failed'))")
    return listening


def serve(page: gradio.Blocks, host: str, port: int, share: bool, largest_request: int) -> None:
    """Serve until Ctrl-C; the address is printed.

    Args:
        largest_request: bytes.
    Raises:
        InputError: the port is taken, or this machine has no such host.
    """
    try:
        _, here, everywhere = page.queue(max_size=64).launch(
            server_name=host,
            server_port=port,
            share=share,
            css_paths=FOLDER / "page.css",
            app_kwargs={"middleware": [Middleware(Guard, largest=largest_request)]},
            footer_links=[],
            max_file_size="1kb",  # pictures come within requests; the guard lets no file through
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise InputError(f"host={host} port={port} can't be served at: {error}") from error
    elsewhere = f", or port {port} of this machine," if host == "0.0.0.0" else ""
    print(f"the page is at {everywhere or here}{elsewhere} until Ctrl-C", flush=True)
    page.block_thread()
