"""What optimisers are told once they are made: to take a step in one pass over memory."""

import torch
from torch.optim import Optimizer


def fuse(optimizer: Optimizer) -> None:
    """Go once through weights, gradients and moments, where the configuration leaves the implementation open.

    Set here, not as an argument: so it leaves float16's loss scale to the scaler, and clipping sees true gradients.
    """
    for group in optimizer.param_groups:
        if group.get("fused", False) is None and group.get("foreach") is None:
            group["fused"] = True


def match_state_memory_format(optimizer: Optimizer) -> None:
    """Lay restored moments out as their weights: a fused step goes through memory whatever the strides.

    A checkpoint keeps the layout it was written with, and `channels_last` may have changed since.
    """
    for parameter, state in optimizer.state.items():
        for key, moment in state.items():
            if moment.shape == parameter.shape and moment.stride() != parameter.stride():
                state[key] = torch.empty_like(parameter, dtype=moment.dtype).copy_(moment)
