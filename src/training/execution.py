"""Compile a network with torch.compile, and checkpoint its activations."""

from functools import cached_property, partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from src.common.errors import InputError
from src.networks.interface import InpaintingNetwork


def compile_network(network: InpaintingNetwork) -> None:
    """Compile a network in place; its results, weights and state dict stay the same.

    The first call takes minutes, as does the first call with a new input size.
    """
    # Staged training calls the parts of a network that completes edges, and Canny is not worth compiling.
    for module in network.children() if hasattr(network, "complete_edges") else (network,):
        compile_method(module, "inpaint" if isinstance(module, InpaintingNetwork) else "forward")


def compile_method(module: nn.Module, name: str = "forward") -> None:
    """Replace a module's method by its compiled version; not for critics, whose gradient penalty differentiates twice.

    The original runs while a layer inside has a forward hook, as with `forward(..., maps=True)`.
    """
    setattr(module, name, _CompiledMethod(module, name))


def checkpoint_activations(network: InpaintingNetwork) -> None:
    """Keep only the inputs of a network's parts for the backward pass, which recomputes the rest.

    Activations of contextual attention at 256x256: 99 MiB per image instead of 450, for one more forward pass.

    Raises:
        InputError: the network names no parts; batch norm and spectral norm would count the second pass, too.
    """
    parts = network.checkpointed_parts()
    if not parts:
        raise InputError(
            f"gradient_checkpointing=true is not supported by {type(network).__name__}, only by contextual attention "
            "and MPGA/GLA: set gradient_checkpointing=false"
        )
    for part in parts:
        setattr(part, "forward", partial(checkpoint, part.forward, use_reentrant=False))  # noqa: B010  # for mypy


class _CompiledMethod:
    """A compiled method. It holds the module instead of a bound method, so that a copy of the module runs itself."""

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name = module, name

    @cached_property
    def eager(self) -> MethodType:
        return MethodType(getattr(type(self.module), self.name), self.module)

    @cached_property
    def compiled(self) -> Any:
        return torch.compile(self.eager)

    def __call__(self, *args: Any) -> Any:
        # Compiled code ignores hooks that are registered after it was compiled.
        hooked = any(layer._forward_hooks for layer in self.module.modules() if layer is not self.module)
        return (self.eager if hooked else self.compiled)(*args)

    def __getstate__(self) -> dict[str, Any]:
        return {"module": self.module, "name": self.name}
