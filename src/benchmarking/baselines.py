"""What a network is compared with: its literal form, or itself run otherwise."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from src.benchmarking.failures import NotMeasuredError
from src.benchmarking.setting import Setting, lies_channels_last
from src.common.errors import InputError
from src.networks.interface import InpaintingNetwork
from src.networks.reference import FORMS, literal_form

Variant = tuple[InpaintingNetwork, Setting]

OTHERWISE: dict[str, dict[str, Any]] = {
    "eager": {"compile": False},
    "float32": {"precision": "32-true"},
    "stored": {"gradient_checkpointing": False},
}
"""Baselines that are the same network in the same layout, by name: what is turned back in its setting."""


def variant_for(baseline: str | None, setting: Setting) -> Callable[[InpaintingNetwork], Variant] | None:
    """What makes the baseline of a network that is run by `setting`; None where there is none.

    It raises NotMeasuredError for a network without a literal form, or where contiguous is what is measured already.

    Raises:
        InputError: there is no such baseline, or it is what is measured already.
    """
    if baseline is None:
        return None
    if baseline == "literal":
        return lambda network: (_literal_form(network), setting)
    if baseline == "contiguous":
        return lambda network: (_contiguous(network, setting), replace(setting, channels_last=False))
    if baseline not in OTHERWISE:
        raise InputError(f"baseline must be one of literal, contiguous, {', '.join(OTHERWISE)}, got {baseline}")
    other = replace(setting, **OTHERWISE[baseline])
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


def _contiguous(network: InpaintingNetwork, setting: Setting) -> InpaintingNetwork:
    """A copy whose filters lie in the order of their shape, also of a network that lays them otherwise by itself."""
    if not any(True for _ in network.parameters()):
        raise NotMeasuredError("no filters to lay out")
    if not (setting.channels_last or lies_channels_last(network)):
        raise NotMeasuredError("contiguous is what is measured already: set channels_last=true too")
    copy = deepcopy(network)
    copy.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # its types know one form of to()
    return copy


def _key_of(baseline: str) -> str:
    ((key, value),) = OTHERWISE[baseline].items()
    return f"{key}=bf16-mixed" if key == "precision" else f"{key}={str(not value).lower()}"
