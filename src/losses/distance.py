"""Exact Euclidean distance of each pixel to the nearest known pixel, for masks of any shape."""

import torch
from torch import Tensor


def distance_to_known(mask: Tensor) -> Tensor:
    """Return the distance between pixel centres, 0 on known pixels; infinite in samples without known pixels.

    d(y, x)^2 = min over x' of (x - x')^2 + g(y, x')^2, g the distance to the nearest known pixel of the same column:
    the separable transform of Felzenszwalb & Huttenlocher, "Distance transforms of sampled functions" (2012), with the
    minimum taken by shifting g horizontally. No shift exceeds the distance within the row or the column.

    Shapes:
        mask (B, 1, H, W), above 0 = known. Returns (B, 1, H, W), float32.
    """
    known = mask > 0
    in_column, in_row = _along(known, -2), _along(known, -1)
    bound = torch.minimum(in_column, in_row)
    has_known = known.flatten(1).any(dim=1).view(-1, 1, 1, 1)
    # without a known pixel in the row and the column, the row's length is the bound; samples without any need no shift
    width = mask.shape[-1]
    reach = int(torch.where(has_known, bound.clamp(max=width - 1), 0.0).max())
    column_squared = in_column.square()
    squared = column_squared.clone()
    for shift in range(1, reach + 1):
        left, right = squared[..., shift:], squared[..., :-shift]
        torch.minimum(left, column_squared[..., :-shift] + shift**2, out=left)
        torch.minimum(right, column_squared[..., shift:] + shift**2, out=right)
    return squared.sqrt()


def _along(known: Tensor, dim: int) -> Tensor:
    """Return the distance to the nearest known pixel of the same column (dim -2) or row (dim -1), or infinity."""
    size = known.shape[dim]
    shape = (size, 1) if dim == -2 else (size,)
    position = torch.arange(size, device=known.device, dtype=torch.float32).view(shape).expand(known.shape)
    before = torch.where(known, position, -torch.inf).cummax(dim).values
    after = torch.where(known, position, torch.inf).flip(dim).cummin(dim).values.flip(dim)
    return torch.minimum(position - before, after - position)
