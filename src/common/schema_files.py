"""Check the content of files that this suite writes and reads against dataclasses, with pydantic."""

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import ValidationError

T = TypeVar("T")

STRICT: dict[str, Any] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
"""`__pydantic_config__` of dataclasses that are stored: no other keys, no conversion of texts to numbers."""


def parse_json(kind: type[T], text: str | bytes) -> T:
    """Return an instance of a dataclass with `STRICT` from JSON; ValueError with one line if the JSON does not fit."""
    from pydantic import ValidationError  # here, as losses use provenance and only need torch

    try:
        return _adapter(kind).validate_json(text)  # type: ignore[no-any-return, arg-type]
    except ValidationError as error:
        raise ValueError(describe_first(error)) from error


def describe_first(error: "ValidationError") -> str:
    """Return the place and the reason of the first of pydantic's findings, in at most 250 characters."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part)[:50] for part in first["loc"])
    return f"{place or 'the whole'}: {first['msg']}"[:250]


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
