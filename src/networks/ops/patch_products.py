"""Overlapping patches, compared and pasted without being cut out: sums along the diagonals of smaller products."""

import torch
from torch import Tensor
from torch.nn import functional as F

from src.networks.ops.row_products import row_products
from src.networks.ops.tracing import window_sum

PATCH = 3  # cells on a side of the patches that are compared (Yu et al., CVPR 2018, Sec. 4.1)


def diagonal_sum(x: Tensor, count: int, axes: tuple[int, int], step: int = 1) -> Tensor:
    """sum over i in 0 .. count - 1 of x[..., p + i * step, ..., q + i, ...], p and q along the two axes, within x.

    Shapes:
        x any; both axes become shorter, by (count - 1) * step and by count - 1.
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
    """<f, b> of all pairs of 3x3 patches.

    A patch's product is the sum of its cells' nine, and those lie on a diagonal of the cells' Gram matrix, which takes
    a ninth of the patches' multiplications, and no patches.

    Shapes:
        foreground (B, C, h + 2, w + 2) and background (B, C, h' + 2, w' + 2), what surrounds them in place.
        Returns (B, h, w, h', w').
    """
    cells = [x.flatten(2).transpose(1, 2) for x in (foreground, background)]
    gram = row_products(*cells).view(foreground.shape[0], *foreground.shape[-2:], *background.shape[-2:])
    for axes in ((1, 3), (2, 4)):
        gram = diagonal_sum(gram, PATCH, axes)
    return gram


def squared_norms(padded: Tensor) -> Tensor:
    """||patch||^2 of every 3x3 patch: (B, C, h + 2, w + 2) to (B, h, w)."""
    squares = padded.square().sum(1, keepdim=True)
    return window_sum(squares, PATCH).squeeze(1)


def blocks_of(padded: Tensor, side: int) -> Tensor:
    """Squares of side x side, row by row: (B, C, rows side, columns side) to (B, C side^2, rows columns)."""
    return F.pixel_unshuffle(padded, side).flatten(2)


def paste_blocks(shares: Tensor, blocks: Tensor, count: int) -> Tensor:
    """Put patches of count x count blocks, a block apart, where the shares say, and add up what overlaps, over count^2.

    So many patches lie on a block away from the border.

    A block gets the patches of count x count places, of each another of its blocks. So those places' shares, shifted
    along diagonals, are added up first, and multiplied with the blocks then: a count^2-th of the multiplications of
    pasting patch by patch. The blocks are divided first: in float16 the sum of nine of 7,300 is infinite.

    Shapes:
        shares (B, h, w, rows', columns'); blocks (B, D, (rows' + count - 1) (columns' + count - 1)).
        Returns (B, h + count - 1, w + count - 1, D).
    """
    shares = F.pad(shares, (count - 1,) * 8)
    for axes in ((1, 3), (2, 4)):
        shares = diagonal_sum(shares, count, axes)
    pasted = row_products(shares.flatten(3).flatten(1, 2).to(blocks.dtype), blocks / count**2)
    return pasted.view(*shares.shape[:3], -1)


def overlaps(height: int, width: int, count: int, device: torch.device) -> Tensor:
    """How many of height x width patches cover a block of `paste_blocks`: (height + count - 1, width + count - 1)."""

    def along(places: int) -> Tensor:
        block = torch.arange(places + count - 1, device=device)
        return block.clamp(max=places - 1) - (block - count + 1).clamp(min=0) + 1

    return along(height)[:, None] * along(width)


def joined_blocks(blocks: Tensor, side: int, margin: int) -> Tensor:
    """The picture of blocks (B, rows, columns, C side^2), less a margin: (B, C, rows side - 2 margin, ...)."""
    picture = F.pixel_shuffle(blocks.permute(0, 3, 1, 2), side)
    return picture[..., margin : picture.shape[-2] - margin, margin : picture.shape[-1] - margin]
