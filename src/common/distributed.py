"""Helpers for distributed training that give the same results as a single process with the global batch.

Sample i of rank r is sample i * world_size + r of the global batch, as distributed by src/data/loaders.py; all ranks
have equally many samples per step.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed, nn


def get_rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the world size; (0, 1) without a process group."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def mean_over_processes(values: Tensor) -> Tensor:
    """Return the differentiable mean of `values` over all elements and processes.

    All processes must call it with equally many values. The gradients of the processes are averaged, so that after DDP
    averages those of the weights, they equal the gradients of a single process.
    """
    if get_rank_and_world_size()[1] == 1:
        return values.mean()
    mean: Tensor = _Averaged.apply(values.mean())  # type: ignore[no-untyped-call]
    return mean


def draw_rank_consistent(draw: Callable[[int], Tensor], samples: int) -> Tensor:
    """Return this rank's rows of `draw(global number of samples)`.

    Random numbers then depend on the sample, not on the number of processes. All processes must have the same random
    state, which is seeded before every batch.
    """
    rank, count = get_rank_and_world_size()
    return draw(samples * count)[rank::count] if count > 1 else draw(samples)


def broadcast_buffers(module: nn.Module) -> None:
    """Copy the buffers of rank 0 to all processes, such as the running statistics of batch norm.

    DDP does so before each forward pass, but not in Lightning 2.6 with manual optimisation.
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
