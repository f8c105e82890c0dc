"""The voters' page, a Gradio app that shows one question at a time and never a method's name."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio
from omegaconf import DictConfig

from src.rendering.html import png_url
from src.voting.questions import Study
from src.voting.votes import Vote, Votes
from src.webapp.serving import serve_page

TITLE = "Which result looks most plausible?"
_VOTER = re.compile("[0-9a-f]{32}")
_HTML, _CSS, _JS = (Path(__file__).with_suffix(f".{kind}") for kind in ("html", "css", "js"))


def serve_study(study: Study, votes: Votes, cfg: DictConfig) -> None:
    """Serve the page until Ctrl-C, and print its address; page and server exchange positions in the voter's own order.

    Args:
        cfg: conf/user_study.yaml.
    Raises:
        InputError: the port is in use, or this machine does not have the host address.
    """
    # Encoded from pixels: file names and metadata could reveal the method.
    inputs = {question.name: png_url(question.input) for question in study.questions}
    results = {q.name: {method: png_url(pixels) for method, pixels in q.results.items()} for q in study.questions}

    def ask(voter: str) -> dict[str, Any]:
        """Return the first unanswered question of `voter`; its number is None if all are answered."""
        if not _VOTER.fullmatch(voter):
            raise ValueError("voter must be 32 hexadecimal digits")
        order = study.questions_for(voter)
        answered = votes.answered(voter)
        progress = {"count": len(order), "answered": len(answered), "number": None}
        for number, question in enumerate(order, start=1):
            if question.name not in answered:
                shown = [results[question.name][method] for method in study.methods_for(voter, question)]
                return progress | {"number": number, "input": inputs[question.name], "results": shown}
        return progress

    def answer(given: Mapping[str, Any]) -> dict[str, Any]:
        """Store the answer if it is this voter's first one to the question, and return the next question."""
        voter, number, choice, seconds = (given[key] for key in ("voter", "number", "choice", "seconds"))
        question = study.questions_for(voter)[number - 1]
        shown = study.methods_for(voter, question)
        if not (_VOTER.fullmatch(voter) and number >= 1 and choice >= 0 and math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"invalid answer: {given}")
        votes.record(Vote(voter, question.name, shown[choice], shown, seconds))
        return ask(voter)

    page = gradio.Blocks(title=TITLE, analytics_enabled=False, fill_width=True)
    with page:
        gradio.HTML(
            html_template=_HTML.read_text(encoding="utf-8"),
            js_on_load=_JS.read_text(encoding="utf-8"),
            apply_default_css=False,
            server_functions=[ask, answer],
            study=hashlib.sha256(json.dumps(study.facts).encode()).hexdigest()[:16],
            shared_device=cfg.shared_device,
        )
    serve_page(page, cfg.host, cfg.port, cfg.share, css=_CSS, name="the user study")
