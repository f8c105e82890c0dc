"""What a network is compared with: its literal form, or itself run otherwise."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from src.benchmarking.failures import NotMeasuredError
from src.benchmarking.setting import Setting
from src.common.errors import InputError
from src.networks.interface import InpaintingNetwork
from src.networks.reference import FORMS, literal_form

Variant = tuple[InpaintingNetwork, Setting]

SETTING_BASELINES: dict[str, dict[str, Any]] = {
    "eager": {"compile": False},
    "float32": {"precision": "32-true"},
}
"""Baselines that are the same network run by another setting, by name: what is turned back."""


def make_baseline_factory(baseline: str | None, setting: Setting) -> Callable[[InpaintingNetwork], Variant] | None:
    """What makes the baseline of a network that is run by `setting`; None where there is none.

    It raises NotMeasuredError for a network without a literal form.

    Raises:
        InputError: there is no such baseline, or it is what is measured already.
    """
    if baseline is None:
        return None
    if baseline == "literal":
        return lambda network: (_literal_form(network), setting)
    if baseline not in SETTING_BASELINES:
        raise InputError(f"baseline must be one of literal, {', '.join(SETTING_BASELINES)}, got {baseline}")
    other = replace(setting, **SETTING_BASELINES[baseline])
    if other == setting:
        raise InputError(f"baseline={baseline} is what is measured already: set {_key_of(baseline)} too")
    return lambda network: (network, other)


def literal_layer(layer: nn.Module) -> nn.Module:
    """A layer as one would write it first, with the same weights.

    Raises:
        NotMeasuredError: the layer has none.
    """
    if type(layer) not in FORMS:
        raise NotMeasuredError("no literal form")
    return FORMS[type(layer)](layer)


def _literal_form(network: InpaintingNetwork) -> InpaintingNetwork:
    if not any(type(layer) in FORMS for layer in network.modules()):
        raise NotMeasuredError("no literal form")
    return literal_form(network)


def _key_of(baseline: str) -> str:
    ((key, value),) = SETTING_BASELINES[baseline].items()
    return f"{key}=bf16-mixed" if key == "precision" else f"{key}={str(not value).lower()}"
