"""Detection of forward hooks, for outputs that are computed only when they are recorded."""

from torch import nn


def has_forward_hook(layer: nn.Module) -> bool:
    """Return whether a forward hook records the layer's output, as `InpaintingNetwork.forward(maps=True)` does.

    Fast paths that never build the whole attention map call the layer that does only in this case.
    """
    return bool(layer._forward_hooks)
