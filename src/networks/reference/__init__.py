"""Networks as one would write them first: the reference of the fast layers in tests and in `src.benchmark`."""

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
"""From a layer's class to what makes its literal form of it: same call, same parameters, copied."""


def literal_form(network: InpaintingNetwork) -> InpaintingNetwork:
    """Return a copy with the same weights in which every layer that has a literal form is replaced by it."""
    copy = deepcopy(network)
    copy.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # its types know one form of to()
    for parent in list(copy.modules()):
        for name, layer in parent.named_children():
            if type(layer) in FORMS:
                parent.register_module(name, FORMS[type(layer)](layer))
    return copy
