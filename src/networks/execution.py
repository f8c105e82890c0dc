"""How a network is run: compiled, with channels last, or with fewer activations kept for the backward pass."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from src.common.errors import InputError
from src.networks.interface import InpaintingNetwork, to_channels_last
from src.networks.layers.watching import is_watched


def prepare(
    network: InpaintingNetwork,
    *,
    compile: bool = False,
    channels_last: bool = False,
    gradient_checkpointing: bool = False,
) -> None:
    """Choose how a network is run, in place; what it computes, its weights and their names stay.

    The choices survive deepcopy and pickling; they are no part of the state dict, so a checkpoint fits any of them.
    Where a layer inside is watched, as under `forward(..., maps=True)`, it is neither compiled nor computed twice.

    Args:
        compile: fuse its operations with torch.compile: minutes at the first call, and more at a new shape, for faster
            steps after that.
        channels_last: lay filters out as (out, H, W, in), and with them what convolutions make of any input.
        gradient_checkpointing: in training, keep of `network.checkpointed_parts()` nothing but their input, and compute
            the rest again in the backward pass: less memory, for the time of another forward pass.
    Raises:
        InputError: gradient checkpointing of a network that names no parts, or of a compiled one.
    """
    if compile and gradient_checkpointing:
        # Compiled as a whole, batch norm would count the second pass as well; part by part, torch.compile gives up
        # at the ninth part of the same class.
        raise InputError(
            "compile=true chooses by itself what to keep for the backward pass: "
            "set gradient_checkpointing=false, or compile=false"
        )
    if channels_last:
        to_channels_last(network)
    if compile:
        # Training in stages calls what is inside a network that completes edges; and Canny's is no work for a compiler.
        for unit in network.children() if hasattr(network, "complete_edges") else (network,):
            compile_method(unit, "inpaint" if isinstance(unit, InpaintingNetwork) else "forward")
    if gradient_checkpointing:
        parts = network.checkpointed_parts()
        if not parts:
            raise InputError(
                f"{type(network).__name__} names no parts to compute again: set gradient_checkpointing=false"
            )
        for part in parts:
            setattr(part, "forward", _Recomputed(part))  # noqa: B010  # mypy takes an assignment for a mistake


def compile_method(module: nn.Module, name: str = "forward") -> None:
    """Let torch.compile run a module's method, but for calls while a layer inside is watched.

    Not for what is differentiated twice, as the critic in a gradient penalty: the compiled backward pass has no
    derivative.
    """
    setattr(module, name, _Compiled(module, name))


class _Compiled:
    """A method that shadows its class's own. It holds the module, not a bound method, so that copies run themselves."""

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name = module, name

    @cached_property
    def eager(self) -> MethodType:
        return MethodType(getattr(type(self.module), self.name), self.module)

    @cached_property
    def compiled(self) -> Any:
        return torch.compile(self.eager)

    def __call__(self, *args: Any) -> Any:
        # torch.compile takes no notice of hooks that come after it
        return (self.eager if _is_watched_inside(self.module) else self.compiled)(*args)

    def __getstate__(self) -> dict[str, Any]:
        return {"module": self.module, "name": self.name}


class _Recomputed:
    """A part's forward that keeps its input alone where a gradient is to come."""

    def __init__(self, part: nn.Module) -> None:
        self.part = part

    def __call__(self, *args: Any) -> Any:
        part = self.part
        forward = MethodType(type(part).forward, part)
        # what is made for those who watch would be missing from the second pass, when they have gone
        if not (part.training and torch.is_grad_enabled()) or _is_watched_inside(part):
            return forward(*args)
        return checkpoint(forward, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), _as_now(part)))


def _is_watched_inside(module: nn.Module) -> bool:
    return any(is_watched(layer) for layer in module.modules() if layer is not module)


def _as_now(part: nn.Module) -> AbstractContextManager[None]:
    """For the second pass: the buffers as they are now, and the filters that `parametrize.cached` holds now."""
    buffers = [
        (layer, name, buffer.clone())
        for layer in part.modules()
        for name, buffer in layer._buffers.items()
        if buffer is not None
    ]
    return _Again(_put_back, buffers, dict(parametrize._cache) if parametrize._cache_enabled else None)


class _Again(AbstractContextManager[None]):
    """A context that may be entered more than once, as a graph may be gone through more than once."""

    def __init__(self, make: Callable[..., AbstractContextManager[None]], *args: Any) -> None:
        self.make = partial(make, *args)

    def __enter__(self) -> None:
        self.entered = self.make()
        self.entered.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self.entered.__exit__(*error)


@contextmanager
def _put_back(
    buffers: list[tuple[nn.Module, str, Tensor]], filters: dict[tuple[int, str], Tensor | None] | None
) -> Iterator[None]:
    # Exchanged, not written to: the backward pass would take a write to batch norm's statistics for a mistake.
    present = [layer._buffers[name] for layer, name, _ in buffers]
    for layer, name, buffer in buffers:
        layer._buffers[name] = buffer.clone()
    try:
        with nullcontext() if filters is None else parametrize.cached():
            parametrize._cache.update(filters or {})
            yield
    finally:
        for (layer, name, _), current in zip(buffers, present, strict=True):
            layer._buffers[name] = current
