"""Literal forms of the fast layers: straightforward reference implementations for tests and `src.benchmark`."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from src.networks.interface import InpaintingNetwork
from src.networks.reference import coarse_to_fine, contextual_attention, mpga_gla, unets

FORMS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    **coarse_to_fine.FORMS,
    **contextual_attention.FORMS,
    **mpga_gla.FORMS,
    **unets.FORMS,
}
"""Functions that build the literal form of a layer, by its class: same call, same parameters."""


def literal_form(network: InpaintingNetwork) -> InpaintingNetwork:
    """Return a copy of the network in which each layer is replaced by its literal form, if it has one."""
    copy = deepcopy(network)
    copy.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # the type stubs lack this overload
    for parent in list(copy.modules()):
        for name, layer in parent.named_children():
            if type(layer) in FORMS:
                parent.register_module(name, FORMS[type(layer)](layer))
    return copy
