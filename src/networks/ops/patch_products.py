"""Inner products and pasting of overlapping patches without extracting them, by sums along diagonals."""

import torch
from torch import Tensor
from torch.nn import functional as F

from src.networks.ops.row_products import row_products
from src.networks.ops.tracing import window_sum

PATCH = 3  # cells on a side of the patches that are compared (Yu et al., CVPR 2018, Sec. 4.1)


def diagonal_sum(x: Tensor, count: int, axes: tuple[int, int], step: int = 1) -> Tensor:
    """Return the sum over i in 0 .. count - 1 of x[..., p + i * step, ..., q + i, ...], p and q along the two axes.

    Shapes:
        x has any shape; the two axes shrink by (count - 1) * step and by count - 1.
    """

    def moved(i: int) -> Tensor:
        lengths = (x.shape[axis] - (count - 1) * by for axis, by in zip(axes, (step, 1), strict=True))
        slices = [slice(None)] * x.ndim
        for axis, by, length in zip(axes, (step, 1), lengths, strict=True):
            slices[axis] = slice(i * by, i * by + length)
        return x[tuple(slices)]

    if count == 1:
        return x
    total = moved(0) + moved(1)
    for i in range(2, count):
        total += moved(i)
    return total


def patch_products(foreground: Tensor, background: Tensor) -> Tensor:
    """Return the inner products <f, b> of all pairs of 3x3 patches.

    The product of two patches is the sum of nine products of cells, which lie on a diagonal of the cells' Gram matrix.
    This takes a ninth of the multiplications and extracts no patches.

    Shapes:
        foreground (B, C, h + 2, w + 2) and background (B, C, h' + 2, w' + 2), already padded.
        Returns (B, h, w, h', w').
    """
    cells = [x.flatten(2).transpose(1, 2) for x in (foreground, background)]
    gram = row_products(*cells).view(foreground.shape[0], *foreground.shape[-2:], *background.shape[-2:])
    for axes in ((1, 3), (2, 4)):
        gram = diagonal_sum(gram, PATCH, axes)
    return gram


def squared_norms(padded: Tensor) -> Tensor:
    """Return ||patch||^2 for every 3x3 patch: (B, C, h + 2, w + 2) to (B, h, w)."""
    squares = padded.square().sum(1, keepdim=True)
    return window_sum(squares, PATCH).squeeze(1)


def split_blocks(padded: Tensor, side: int) -> Tensor:
    """Split into blocks in row-major order: (B, C, rows side, columns side) to (B, C side^2, rows columns)."""
    return F.pixel_unshuffle(padded, side).flatten(2)


def paste_blocks(shares: Tensor, blocks: Tensor, count: int) -> Tensor:
    """Paste patches of count x count blocks, one block apart, weighted by `shares`, and divide the sum by count^2.

    The weights of all patches that cover a block are summed first, along diagonals, and multiplied with the blocks
    afterwards, with 1 / count^2 of the multiplications. The division comes first, as float16 sums could overflow.

    Shapes:
        shares (B, h, w, rows', columns'); blocks (B, D, (rows' + count - 1) (columns' + count - 1)).
        Returns (B, h + count - 1, w + count - 1, D).
    """
    shares = F.pad(shares, (count - 1,) * 8)
    for axes in ((1, 3), (2, 4)):
        shares = diagonal_sum(shares, count, axes)
    pasted = row_products(shares.flatten(3).flatten(1, 2).to(blocks.dtype), blocks / count**2)
    return pasted.view(*shares.shape[:3], -1)


def count_overlaps(height: int, width: int, count: int, device: torch.device) -> Tensor:
    """Count the patches that cover each block in `paste_blocks`: (height + count - 1, width + count - 1)."""

    def along(places: int) -> Tensor:
        block = torch.arange(places + count - 1, device=device)
        return block.clamp(max=places - 1) - (block - count + 1).clamp(min=0) + 1

    return along(height)[:, None] * along(width)


def join_blocks(blocks: Tensor, side: int, margin: int) -> Tensor:
    """Join blocks (B, rows, columns, C side^2) to an image and crop the margin: (B, C, rows side - 2 margin, ...)."""
    image = F.pixel_shuffle(blocks.permute(0, 3, 1, 2), side)
    return image[..., margin : image.shape[-2] - margin, margin : image.shape[-1] - margin]
