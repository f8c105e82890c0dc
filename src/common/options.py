"""Types and ranges of a command's options: OmegaConf checks a composed config against a dataclass."""

import math
from collections.abc import Iterator
from dataclasses import Field, field, fields, is_dataclass
from types import NoneType
from typing import Any, get_args, get_origin

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ValidationError

from src.common.errors import InputError

_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "text"}


def option(
    expected: str = "",
    *,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    above: float = -math.inf,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare an option of a command as a dataclass field; its default is in conf/.

    Args:
        expected: describes the valid values in error messages, where type and range do not say enough.
    """
    limits = {"at_least": at_least, "at_most": at_most, "above": above, "choices": choices}
    return field(default=MISSING, metadata={"expected": expected, **limits})


def check_options(cfg: DictConfig, schema: type[Any], prefix: str = "") -> None:
    """Check the options in `cfg` that a dataclass declares, and convert equivalent values: the path 2024 to "2024".

    Options that `cfg` lacks, that the dataclass does not declare, or that name a `_target_` are left alone. A field
    whose type is a dataclass checks a nested config.

    Raises:
        InputError: an option has another type, or is out of its range.
    """
    typed = OmegaConf.structured(schema)
    for declared in fields(schema):
        if declared.name not in cfg:
            continue
        key, value = f"{prefix}{declared.name}", cfg[declared.name]
        if is_dataclass(declared.type):
            if not isinstance(value, DictConfig):
                raise InputError(f"{key} must be a group of options, got {value!r}")
            check_options(value, declared.type, f"{key}.")  # type: ignore[arg-type]
            continue
        if isinstance(value, DictConfig) and "_target_" in value:
            continue  # the value is computed on instantiation, such as the root of data=photos
        try:
            # OmegaConf would convert between true, 1 and "True".
            if value is not None and (type(value) is bool) != (bool in _types(declared)):
                raise ValidationError
            typed[declared.name] = value
            converted = typed[declared.name]
            values = converted if isinstance(converted, ListConfig) else [converted]
            if not all(_is_valid(one, declared) for one in values):
                raise ValidationError
        except ValidationError:
            raise InputError(f"{key} must be {_expected(declared)}, got {value!r}") from None
        if converted != value or type(converted) is not type(value):
            cfg[declared.name] = converted


def text_keys(schema: type[Any], prefix: str = "") -> Iterator[str]:
    """Yield the keys of the options whose values are texts, or lists or mappings of texts."""
    for declared in fields(schema):
        if is_dataclass(declared.type):
            yield from text_keys(declared.type, f"{prefix}{declared.name}.")  # type: ignore[arg-type]
        elif {str, Any} & set(_types(declared)) and get_origin(declared.type) is not list:
            yield prefix + declared.name


def _types(declared: Field[Any]) -> tuple[Any, ...]:
    return get_args(declared.type) or (declared.type,)


def _is_valid(value: Any, declared: Field[Any]) -> bool:
    limits = declared.metadata
    if value is not None and limits["choices"]:
        return bool(value in limits["choices"])
    if not isinstance(value, int | float):
        return True
    return bool(limits["at_least"] <= value <= limits["at_most"] and value > limits["above"])


def _expected(declared: Field[Any]) -> str:
    """Describe the valid values, by type and range unless the option has a description."""
    limits, types = declared.metadata, [one for one in _types(declared) if one is not NoneType]
    if limits["expected"]:
        return str(limits["expected"])
    names = list(limits["choices"]) or [_NAMES[one] for one in types]
    if get_origin(declared.type) is list:
        names = ["a list of integers" if types == [int] else f"a list, such as {declared.name}=[a,b]"]
    if limits["at_most"] < math.inf:
        names[-1] += f" from {limits['at_least']} to {limits['at_most']}"
    elif limits["at_least"] > -math.inf:
        names[-1] += f" >= {limits['at_least']}"
    elif limits["above"] > -math.inf:
        names[-1] += f" > {limits['above']}"
    return " or ".join([*names, *(["null"] if NoneType in _types(declared) else [])])
