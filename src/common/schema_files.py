"""Check the content of files that this suite writes and reads against dataclasses, with pydantic."""

from functools import cache
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

T = TypeVar("T")

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
"""`__pydantic_config__` of dataclasses that are stored: no other keys, no conversion of texts to numbers."""


def parse_json(kind: type[T], text: str | bytes) -> T:
    """Return an instance of a dataclass with `STRICT` from JSON; ValueError with one line if the JSON does not fit."""
    try:
        return _adapter(kind).validate_json(text)  # type: ignore[no-any-return, arg-type]
    except ValidationError as error:
        places = (f"{'.'.join(map(str, found['loc'])) or kind.__name__}: {found['msg']}" for found in error.errors())
        raise ValueError("; ".join(place[:200] for _, place in zip(range(3), places, strict=False))) from error


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
