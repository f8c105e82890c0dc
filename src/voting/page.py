"""The voters' page, a Gradio app that shows one question at a time and never a method's name."""

import hashlib
import hmac
import json
import secrets
from pathlib import Path
from typing import Annotated, Any

import gradio
from omegaconf import DictConfig
from pydantic import BaseModel, ConfigDict, Field

from src.rendering.html import png_url
from src.voting.questions import Study
from src.voting.votes import MAX_SECONDS, Vote, Votes
from src.webapp.server import Function, RateLimit, RequestError, serve_page

TITLE = "Which result looks most plausible?"
_HTML, _CSS, _JS = (Path(__file__).with_suffix(f".{kind}") for kind in ("html", "css", "js"))
_DIGITS = 32  # of the voter's ID, and of its signature

Token = Annotated[str, Field(strict=True, pattern=f"^[0-9a-f]{{{2 * _DIGITS}}}$")]
"""ID of a voter with the server's signature, which prevents votes in another voter's name and invented voters."""


class Answer(BaseModel):
    """An answer to the question `number` (from 1) in the voter's order, the result at position `choice` (from 0)."""

    model_config = ConfigDict(strict=True, extra="forbid")
    token: Token
    number: int = Field(ge=1)
    choice: int = Field(ge=0)
    seconds: float = Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)


def sign(voter: str, key: bytes) -> str:
    """Return the token of a voter."""
    return voter + hmac.new(key, voter.encode(), hashlib.sha256).hexdigest()[:_DIGITS]


def study_functions(study: Study, votes: Votes, voters_per_minute: int) -> dict[str, Function]:
    """Return the functions that the page's script calls, by name; they use positions in the voter's own order."""
    # Encoded from pixels: file names and metadata could reveal the method.
    inputs = {question.name: png_url(question.input) for question in study.questions}
    results = {q.name: {method: png_url(pixels) for method, pixels in q.results.items()} for q in study.questions}

    def join(_: None) -> dict[str, str]:
        """Return the token of a new voter."""
        return {"token": sign(secrets.token_hex(_DIGITS // 2), votes.key)}

    def ask(token: str) -> dict[str, Any]:
        """Return the first unanswered question of a voter; its number is None if all are answered."""
        voter = voter_of(token)
        order = study.questions_for(voter)
        answered = votes.answered(voter)
        progress = {"count": len(order), "answered": len(answered), "number": None}
        for number, question in enumerate(order, start=1):
            if question.name not in answered:
                shown = [results[question.name][method] for method in study.methods_for(voter, question)]
                return progress | {"number": number, "input": inputs[question.name], "results": shown}
        return progress

    def answer(given: Answer) -> dict[str, Any]:
        """Store the answer if it is this voter's first one to the question, and return the next question."""
        voter = voter_of(given.token)
        if given.number > len(study.questions) or given.choice >= len(study.methods):
            raise RequestError(422, "there is no such question or result")
        question = study.questions_for(voter)[given.number - 1]
        shown = study.methods_for(voter, question)
        votes.record(Vote(voter, question.name, shown[given.choice], shown, given.seconds))
        return ask(given.token)

    def voter_of(token: str) -> str:
        voter = token[:_DIGITS]
        if not hmac.compare_digest(token, sign(voter, votes.key)):
            raise RequestError(403, "unknown voter: reload the page")
        return voter

    joins = RateLimit(burst=voters_per_minute, per_minute=voters_per_minute)
    return {"join": Function(join, None, limit=joins), "ask": Function(ask, Token), "answer": Function(answer, Answer)}


def serve_study(study: Study, votes: Votes, cfg: DictConfig) -> None:
    """Serve the page until Ctrl-C, and print its address.

    Args:
        cfg: conf/user_study.yaml.
    Raises:
        InputError: the port is in use, or this machine does not have the host address.
    """
    page = gradio.Blocks(title=TITLE, analytics_enabled=False, fill_width=True)
    with page:
        gradio.HTML(
            html_template=_HTML.read_text(encoding="utf-8"),
            js_on_load=_JS.read_text(encoding="utf-8"),
            apply_default_css=False,
            study=hashlib.sha256(json.dumps(study.facts).encode()).hexdigest()[:16],
            shared_device=cfg.shared_device,
        )
    functions = study_functions(study, votes, cfg.voters_per_minute)
    serve_page(page, functions, host=cfg.host, port=cfg.port, share=cfg.share, css=_CSS, name="the user study")
