"""Types and ranges of a command's options: OmegaConf checks a composed config against a dataclass."""

from collections.abc import Mapping
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
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
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
        try:
            if isinstance(value, DictConfig) and "_target_" in value:
                continue  # the value is computed on instantiation, such as the root of data=photos
            # OmegaConf would convert between true, 1 and "True".
            if value is not None and (type(value) is bool) != (bool in _types(declared.type)):
                raise ValidationError
            typed[declared.name] = value
        except ValidationError:
            raise InputError(_message(key, declared, value)) from None
        converted = typed[declared.name]
        if not _in_range(converted, declared.metadata):
            raise InputError(_message(key, declared, value))
        if converted != value or type(converted) is not type(value):
            cfg[declared.name] = converted


def _types(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) or (hint,)


def _in_range(value: Any, limits: Mapping[str, Any]) -> bool:
    if isinstance(value, ListConfig):
        return all(_in_range(one, limits) for one in value)
    if value is None:
        return True
    if limits["choices"]:
        return value in limits["choices"]
    if not isinstance(value, int | float):
        return True
    at_least, at_most, above = limits["at_least"], limits["at_most"], limits["above"]
    return (
        (at_least is None or value >= at_least)
        and (at_most is None or value <= at_most)
        and (above is None or value > above)
    )


def _message(key: str, declared: Field[Any], value: Any) -> str:
    return f"{key} must be {declared.metadata['expected'] or _expected(declared)}, got {value!r}"


def _expected(declared: Field[Any]) -> str:
    """Describe the valid values by type and range."""
    limits, types = declared.metadata, [one for one in _types(declared.type) if one is not NoneType]
    names = [_NAMES[one] for one in types]
    if limits["choices"]:
        names = list(limits["choices"])
    elif get_origin(declared.type) is list:
        names = ["a list of integers" if types == [int] else f"a list, such as {declared.name}=[a,b]"]
    if limits["at_most"] is not None:
        names[-1] += f" from {limits['at_least']} to {limits['at_most']}"
    elif limits["at_least"] is not None:
        names[-1] += f" >= {limits['at_least']}"
    elif limits["above"] is not None:
        names[-1] += f" > {limits['above']}"
    return " or ".join([*names, *(["null"] if NoneType in _types(declared.type) else [])])
