"""Contextual attention as in the releases of contextual attention and of DeepFill v2."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.attention_scores import known_patches
from src.networks.layers.coarse_to_fine import zero_pad
from src.networks.layers.contextual_attention import FeatureAttention
from src.networks.layers.hooks import call_if_recorded
from src.networks.ops.patch_products import (
    PATCH,
    diagonal_sum,
    join_blocks,
    paste_blocks,
    patch_products,
    split_blocks,
    squared_norms,
)
from src.networks.ops.tracing import clone_if_exporting

SQUARE_FLOOR = 1e-4  # added to every square of a patch
NORM_FLOOR = 1e-4  # smallest norm by which DeepFill v2 divides a patch


def fuse(scores: Tensor) -> Tensor:
    """Fuse scores: s_hat[p, q] = sum over i in -1 .. 1 of s[p + i, q + i], in row-major, then in column-major order.

    Unlike in `propagate`, the end of one row is followed by the start of the next. Shape (B, h, w, rows', columns').
    """
    turned = _fused_flat(_fused_flat(scores).permute(0, 2, 1, 4, 3))
    return clone_if_exporting(turned.permute(0, 2, 1, 4, 3))


def _fused_flat(scores: Tensor) -> Tensor:
    """Fuse along the rows, as a diagonal sum over flattened positions; same shapes as in `fuse`."""
    flat = clone_if_exporting(scores).flatten(3).flatten(1, 2)
    return diagonal_sum(F.pad(flat, (1, 1, 1, 1)), PATCH, (1, 2)).reshape(scores.shape)


def unfused(scores: Tensor) -> Tensor:
    """Return the scores unchanged."""
    return scores


def raised_norms(squares: Tensor, values: int) -> Tensor:
    """Return sqrt(sum of (b^2 + 1e-4)): contextual attention's release.

    Shapes:
        squares, sums of the squares of `values` values each; returns the same shape.
    """
    return (squares + values * SQUARE_FLOOR).sqrt()


def clamped_norms(squares: Tensor, values: int) -> Tensor:
    """Return max(sqrt(sum of b^2), 1e-4): DeepFill v2's release; shapes as in `raised_norms`."""
    return squares.clamp_min(NORM_FLOOR**2).sqrt()  # clamped first, as the gradient of the root is infinite at 0


class Sampling(Protocol):
    """Nearest-neighbour reduction of maps."""

    def __call__(self, x: Tensor, step: int) -> Tensor:
        """Reduce x (B, C, h step, w step) to (B, C, h, w)."""

    def known_cells(self, mask: Tensor, cell: int, step: int) -> Tensor:
        """Reduce a mask (B, 1, h cell, w cell) to (B, 1, h, w), which a call reduces further by `step`."""


class FirstCells(Sampling):
    """Takes the first of `step` cells: contextual attention's release, and the second layout of DeepFill v2's."""

    def __call__(self, x: Tensor, step: int) -> Tensor:
        """Reduce x; shapes as in `Sampling`."""
        return x[..., ::step, ::step]

    def known_cells(self, mask: Tensor, cell: int, step: int) -> Tensor:
        """Reduce the mask: a cell is known if its first pixel is."""
        return mask[..., ::cell, ::cell]


class AlignedCells(Sampling):
    """Takes the cell at round(i (n - 1) / (n / step - 1)), half up, so that the corners stay: TensorFlow, DeepFill v2.

    Each of these lies among the `step` cells that `FirstCells` takes the first of.
    """

    def __call__(self, x: Tensor, step: int) -> Tensor:
        """Reduce x; shapes as in `Sampling`."""
        for axis in (-2, -1):
            few = torch.arange(x.shape[axis] // step, device=x.device)
            # half up in integers; for a single cell 0
            last = (torch.full_like(few[:1], x.shape[axis] // step) - 1).clamp_min(1)
            chosen = (2 * few * (x.shape[axis] - 1) + last).div(2 * last, rounding_mode="floor")
            x = x.index_select(axis, chosen)
        return x

    def known_cells(self, mask: Tensor, cell: int, step: int) -> Tensor:
        """Reduce the mask in one step of `cell * step`, and repeat its cells, of which a call then takes one each."""
        return self(mask, cell * step).repeat_interleave(step, -2).repeat_interleave(step, -1)


class ReleasedScores(nn.Module):
    """Weights of the known background patches for each foreground patch.

    s = <f, b> / norm(b);  s_hat = s fused;  s* = v softmax over b of (lambda v s_hat)
    v is 1 for background patches without a hole, else 0; a score of 0 still counts in the denominator of the softmax.

    Args:
        scale: lambda.
        norms: returns the norms of patches from their sums of squares and their numbers of values.
        propagate: propagates the scores: `fuse` or `unfused`.
    """

    def __init__(
        self,
        scale: float,
        norms: Callable[[Tensor, int], Tensor] = raised_norms,
        propagate: Callable[[Tensor], Tensor] = fuse,
    ) -> None:
        super().__init__()
        self.scale, self.norms, self.propagate = scale, norms, propagate

    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Return the weights of all background patches for each foreground cell, for visualisation.

        Shapes:
            As in `FeatureAttention`. Returns float32 (B, h' w', h, w), the patches in row-major order.
        """
        return self.weights(foreground, background, known).flatten(3).permute(0, 3, 1, 2)

    def weights(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Return the weights of the background patches; their sum is at most 1, and 0 if no patch is known.

        Shapes:
            As in `FeatureAttention`. Returns float32 (B, h, w, h', w').
        """
        with torch.autocast(foreground.device.type, enabled=False):
            front, back = (zero_pad(x.float(), PATCH // 2) for x in (foreground, background))
            norms = self.norms(squared_norms(back), back.shape[1] * PATCH**2)
            scores = self.propagate(patch_products(front, back) / norms[:, None, None])
            valid = known_patches(known, 1)[:, :, None].float()
            return (self.scale * valid * scores).flatten(3).softmax(3).view_as(scores) * valid


FIRST_CELLS, ALIGNED_CELLS = FirstCells(), AlignedCells()


class ReleasedContextualAttention(FeatureAttention):
    """Replaces each foreground patch by a mean of the known background patches, weighted by similarity.

    Source: the release of Yu et al., CVPR 2018, in its PyTorch port.
    Departs from the paper, as the release:
    - Only background patches are normalised, so larger foreground features have a sharper softmax.
    - Scores are propagated before the softmax, along flattened positions (`fuse`).
    - Patches with a hole have score 0 in the softmax, and their weights are then dropped: the others sum to less than
      1 where no known patch is similar.
    - The padding is zero, and it is compared and pasted. Overlaps are divided by 4, the number of patches on a cell (9
      if `downscale` is 1), also at the border, where there are fewer.
    - A cell is known if its first pixel is (`FirstCells`).
    Departs from the release: each sample has its own mask, not that of the first sample.
    The layer has no parameters. Without any known patch the result is 0.

    Args:
        channels: unused; attention layers are constructed from their number of channels.
        scale: lambda of the softmax.
        downscale: 1 or even; matching uses one in downscale cells. The release's is 2.
        sample: chooses these cells.
        norms, propagate: as in `ReleasedScores`.
    Raises ValueError if `downscale` is out of range, or does not divide the size of the features.
    """

    def __init__(
        self,
        channels: int,
        scale: float = 10.0,
        downscale: int = 2,
        sample: Sampling = FIRST_CELLS,
        norms: Callable[[Tensor, int], Tensor] = raised_norms,
        propagate: Callable[[Tensor], Tensor] = fuse,
    ) -> None:
        super().__init__()
        if downscale < 1 or (downscale > 1 and downscale % 2):
            raise ValueError(f"downscale must be 1 or even, got {downscale}")
        self.scores, self.downscale, self.sample = ReleasedScores(scale, norms, propagate), downscale, sample
        self.count = PATCH if downscale == 1 else 2  # blocks of downscale x downscale across a pasted patch
        self.margin = (self.count - 1) * downscale // 2

    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Compute the foreground; shapes as in `FeatureAttention`."""
        step = self.downscale
        if any(side % step for x in (foreground, background) for side in x.shape[-2:]):
            raise ValueError(
                f"sizes must be multiples of {step}, got {tuple(foreground.shape)} and {tuple(background.shape)}"
            )
        matched = [self.sample(x, step) for x in (foreground, background, known)]
        call_if_recorded(self.scores, lambda: self.scores(*matched))
        blocks = split_blocks(zero_pad(background, self.margin), step)
        pasted = paste_blocks(self.scores.weights(*matched), blocks, self.count)
        return join_blocks(pasted, step, self.margin)

    def known_cells(self, mask: Tensor, cell: int) -> Tensor:
        """Reduce the mask by nearest neighbours."""
        return self.sample.known_cells(mask, cell, self.downscale)

    def map_layers(self) -> dict[str, nn.Module]:
        """Return `attention`: the weights of the background patches, see `ReleasedScores`."""
        return {"attention": self.scores}
