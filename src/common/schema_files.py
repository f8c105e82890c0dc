"""Check the content of files that this suite writes and reads against dataclasses, with pydantic."""

from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

STRICT: dict[str, Any] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
"""`__pydantic_config__` of dataclasses that are stored: no other keys, no conversion of texts to numbers."""


def parse_json(kind: type[T], text: str | bytes) -> T:
    """Return an instance of a dataclass with `STRICT` from JSON; ValueError with one line if the JSON does not fit."""
    from pydantic import ValidationError  # here, as losses use provenance and only need torch

    try:
        return _adapter(kind).validate_json(text)  # type: ignore[no-any-return, arg-type]
    except ValidationError as error:
        places = (f"{'.'.join(map(str, found['loc'])) or kind.__name__}: {found['msg']}" for found in error.errors())
        raise ValueError("; ".join(place[:200] for _, place in zip(range(3), places, strict=False))) from error


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
