"""Baselines to compare a network with: its literal form, or the same network with other settings."""

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
"""Baselines that run the same network with another setting, by name: the changed fields of `Setting`."""


def make_baseline_factory(baseline: str | None, setting: Setting) -> Callable[[InpaintingNetwork], Variant] | None:
    """Return a function that makes the baseline of a network measured with `setting`; None if `baseline` is None.

    The function raises NotMeasuredError for a network without a literal form.

    Raises:
        InputError: the baseline is unknown, or it equals `setting`.
    """
    if baseline is None:
        return None
    if baseline == "literal":
        return lambda network: (_literal_form(network), setting)
    if baseline not in SETTING_BASELINES:
        raise InputError(f"baseline must be one of literal, {', '.join(SETTING_BASELINES)}, got {baseline}")
    other = replace(setting, **SETTING_BASELINES[baseline])
    if other == setting:
        raise InputError(f"baseline={baseline} equals the measured setting: set {_key_of(baseline)} too")
    return lambda network: (network, other)


def literal_layer(layer: nn.Module) -> nn.Module:
    """Return the literal form of a layer, written directly from the paper's equations, with the same weights.

    Raises:
        NotMeasuredError: the layer has no literal form.
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
