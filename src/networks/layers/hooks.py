"""Calls of layers whose output is needed only when a forward hook records it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def call_if_recorded(layer: nn.Module, call: Callable[[], Tensor]) -> None:
    """Make a call of `layer`, without gradients, if a forward hook records it, as `forward(..., maps=True)` does.

    For fast paths that never build the whole attention map.
    """
    if layer._forward_hooks:
        with torch.no_grad():
            call()
