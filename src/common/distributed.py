"""What all processes of a run share: whose samples are whose, means over all of them, and what is drawn for each.

Several processes are to train as one that holds all their samples. Sample i of process r is sample i * processes + r of
that one, as src/data/loaders.py deals them; all processes of a step hold equally many.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed, nn


def get_rank_and_world_size() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are; (0, 1) without a process group."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of all elements of all processes' `values`, a scalar with a gradient to each of them.

    Every process must call it, with equally many values. The gradient that reaches this process's values is the mean of
    what all processes hand back: after DDP has averaged those of the weights, they are of the one process's mean.
    """
    if get_rank_and_world_size()[1] == 1:
        return values.mean()
    mean: Tensor = _Averaged.apply(values.mean())  # type: ignore[no-untyped-call]
    return mean


def draw_rank_consistent(draw: Callable[[int], Tensor], samples: int) -> Tensor:
    """This process's rows of `draw(samples of all processes)`.

    So a sample meets the same random numbers however many processes there are, and two samples never the same, provided
    that all processes draw from the same state: they seed it alike before every batch.
    """
    rank, count = get_rank_and_world_size()
    return draw(samples * count)[rank::count] if count > 1 else draw(samples)


def broadcast_buffers(module: nn.Module) -> None:
    """Give all processes the first one's buffers, such as a batch norm's running statistics.

    DDP says that it does so before each forward, but Lightning 2.6 keeps it from that under manual optimisation.
    """
    if get_rank_and_world_size()[1] > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, src=0)


class _Averaged(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _averaged(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _averaged(gradient)


def _averaged(value: Tensor) -> Tensor:
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
