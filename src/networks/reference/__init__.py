"""Networks as one would write them first: the reference of the fast layers in tests and in `src.benchmark`."""

from copy import deepcopy

import torch

from src.networks.interface import InpaintingNetwork
from src.networks.reference import coarse_to_fine, contextual_attention, mpga_gla, unets

FORMS = {**coarse_to_fine.FORMS, **contextual_attention.FORMS, **mpga_gla.FORMS, **unets.FORMS}
"""From a layer's class to what makes its literal form of it: same call, same parameters, copied."""


def literal_form(network: InpaintingNetwork) -> InpaintingNetwork:
    """A copy with the same weights, in which every layer that has a literal form is replaced by it."""
    copy = deepcopy(network).to(memory_format=torch.contiguous_format)
    for parent in list(copy.modules()):
        for name, layer in parent.named_children():
            if type(layer) in FORMS:
                parent.register_module(name, FORMS[type(layer)](layer))
    return copy
