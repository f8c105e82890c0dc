"""Whether what runs is recorded, to be run on other batches, sizes and masks, and operations that bear it."""

import torch
from torch import Tensor
from torch.nn import functional as F


def is_recorded() -> bool:
    """Whether a compiler, an export or a trace records what runs."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]


def is_exported() -> bool:
    """Whether what runs is exported, by torch.export and so to ONNX: heights and widths are symbols then.

    A path that is chosen by a size, or whose steps are as many as a size says, would fix the size.
    """
    return torch.compiler.is_exporting()


def laid_out(x: Tensor) -> Tensor:
    """x; where it is exported a copy, of which nobody asks whether sizes that are symbols allow a view of it."""
    return x.clone(memory_format=torch.contiguous_format) if is_exported() else x


def window_sum(x: Tensor, kernel_size: int, stride: int = 1, padding: int = 0) -> Tensor:
    """The sum over each window of x (B, C, H, W), zeros around it: a pooling that divides by 1.

    Autocast leaves pooling alone: float16 could not count beyond 2,048.
    """
    if is_exported():  # ONNX's pooling knows no other divisor than the window's size
        return F.avg_pool2d(x, kernel_size, stride, padding) * kernel_size**2
    return F.avg_pool2d(x, kernel_size, stride, padding, divisor_override=1)


def put_patches(patches: Tensor, size: tuple[int, int], kernel_size: int, dilation: int) -> Tensor:
    """Add up k x k patches, one at each place of a map, where they lie; what lies outside is dropped.

    Shapes:
        patches (B, C k^2, h w); size (h, w). Returns (B, C, h, w).
    """
    if not is_exported():
        return F.fold(patches, size, kernel_size, dilation, padding=dilation)
    height, width = size
    taps = laid_out(patches).reshape(patches.shape[0], -1, kernel_size**2, height, width)
    span = dilation * (kernel_size - 1)
    offsets = [(dilation * (n // kernel_size), dilation * (n % kernel_size)) for n in range(kernel_size**2)]
    shifted = [F.pad(taps[:, :, n], (x, span - x, y, span - y)) for n, (y, x) in enumerate(offsets)]
    return torch.stack(shifted).sum(0)[..., dilation : dilation + height, dilation : dilation + width]
