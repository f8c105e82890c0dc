"""Checks for tracing and export, and operations that work with symbolic sizes."""

import torch
from torch import Tensor
from torch.nn import functional as F


def is_tracing() -> bool:
    """Return whether torch.compile, torch.export or torch.jit.trace is recording the current call."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]


def is_exporting() -> bool:
    """Return whether torch.export is running, as for ONNX: a branch or loop that depends on a size would fix it."""
    return torch.compiler.is_exporting()


def clone_if_exporting(x: Tensor) -> Tensor:
    """Return x, or a contiguous copy during export, where symbolic sizes may not allow a view."""
    return x.clone(memory_format=torch.contiguous_format) if is_exporting() else x


def window_sum(x: Tensor, kernel_size: int, stride: int = 1, padding: int = 0) -> Tensor:
    """Sum x (B, C, H, W) over each window, with zero padding: average pooling that divides by 1.

    Autocast does not affect pooling; a float16 sum could not count beyond 2,048.
    """
    if is_exporting():  # ONNX pooling always divides by the window size
        return F.avg_pool2d(x, kernel_size, stride, padding) * kernel_size**2
    return F.avg_pool2d(x, kernel_size, stride, padding, divisor_override=1)


def fold_patches(patches: Tensor, size: tuple[int, int], kernel_size: int, dilation: int) -> Tensor:
    """Sum k x k patches, one centred on each position of a map; parts outside the map are dropped.

    Shapes:
        patches (B, C k^2, h w); size (h, w). Returns (B, C, h, w).
    """
    if not is_exporting():
        return F.fold(patches, size, kernel_size, dilation, padding=dilation)
    height, width = size
    taps = clone_if_exporting(patches).reshape(patches.shape[0], -1, kernel_size**2, height, width)
    span = dilation * (kernel_size - 1)
    offsets = [(dilation * (n // kernel_size), dilation * (n % kernel_size)) for n in range(kernel_size**2)]
    shifted = [F.pad(taps[:, :, n], (x, span - x, y, span - y)) for n, (y, x) in enumerate(offsets)]
    return torch.stack(shifted).sum(0)[..., dilation : dilation + height, dilation : dilation + width]
