"""Maps that are made for those who look at them alone."""

from torch import nn


def has_forward_hook(layer: nn.Module) -> bool:
    """Whether somebody records what the layer returns, as `InpaintingNetwork.forward(maps=True)` does.

    A fast path that needs no map whole calls the layer that makes it only if so.
    """
    return bool(layer._forward_hooks)
