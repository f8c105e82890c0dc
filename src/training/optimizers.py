"""Adjustments of optimisers after their creation: fused steps, and the memory format of restored states."""

import torch
from torch.optim import Optimizer


def fuse(optimizer: Optimizer) -> None:
    """Use the fused implementation where the config leaves the choice open.

    Not passed as an argument, with which the optimiser would unscale float16 gradients itself, after clipping. Not for
    SGD, whose fused step fails if only some of the parameters have a momentum yet, such as those of a first phase.
    """
    if isinstance(optimizer, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        if group.get("fused", False) is None and group.get("foreach") is None:
            group["fused"] = True


def match_state_memory_format(optimizer: Optimizer) -> None:
    """Copy restored states to the memory format of their weights.

    A fused step ignores strides, a checkpoint keeps those it was saved with, and a network may have changed its own.
    """
    for parameter, state in optimizer.state.items():
        for key, moment in state.items():
            if moment.shape == parameter.shape and moment.stride() != parameter.stride():
                state[key] = torch.empty_like(parameter, dtype=moment.dtype).copy_(moment)
