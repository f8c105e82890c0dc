"""Contextual attention as its release computes it, which is not quite what the paper says."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.contextual_attention import PATCH, FeatureAttention, diagonal_sum, known_patches

SQUARE_FLOOR = 1e-4  # added to every square of a patch


def fuse(scores: Tensor) -> Tensor:
    """s_hat[p, q] = sum over i in -1 .. 1 of s[p + i, q + i], for places p, q row by row, then column by column.

    Unlike `propagate`, the end of one row is followed by the start of the next.

    Shapes:
        scores (B, rows', columns', h, w), background first. Returns the same shape.
    """
    for _ in range(2):
        flat = scores.flatten(3).flatten(1, 2)
        fused = diagonal_sum(flat, {1: 1, 2: 1}, reach=1).view_as(scores)
        scores = fused.transpose(1, 2).transpose(3, 4)
    return scores


class ReleasedScores(nn.Module):
    """How much each foreground patch takes of each known background patch.

    s = <f, b> / sqrt(sum of (b^2 + 1e-4));  s_hat = s fused;  s* = v softmax over b of (lambda v s_hat)
    v is 1 for background patches without a hole and 0 for others, whose score of 0 keeps its part of the softmax's sum.

    Args:
        scale: lambda.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Each foreground cell's shares of the background patches; their sum is at most 1, and 0 if none is known.

        Shapes:
            as in `FeatureAttention`. Returns float32 (B, h' w', h, w), the patches row by row.
        """
        with torch.autocast(foreground.device.type, enabled=False):
            f, b = (F.unfold(x.float(), PATCH, padding=PATCH // 2) for x in (foreground, background))
            b = b / (b.square() + SQUARE_FLOOR).sum(1, keepdim=True).sqrt()
            scores = torch.bmm(b.transpose(1, 2), f)
            scores = fuse(scores.view(len(f), *background.shape[-2:], *foreground.shape[-2:])).flatten(1, 2)
            valid = known_patches(known, 1).flatten(1)[..., None, None].float()
            return (self.scale * valid * scores).softmax(1) * valid


class ReleasedContextualAttention(FeatureAttention):
    """Every foreground patch becomes a mean of the known background patches, weighted by how much it looks like them.

    Source: the release of Yu et al., CVPR 2018, in its PyTorch port.
    Departs from the paper, as the release:
    - Only background patches are divided by their norm: features of the foreground that are large choose harder.
    - Scores are propagated before the softmax, along flattened positions (`fuse`).
    - Patches with a hole score 0 in the softmax, and get what that leaves them, which is then dropped: shares sum to
      less than 1 where nothing known looks alike.
    - Outside of the features lie zeros, which are compared and pasted; the overlap is divided by the 4 patches that lie
      on each cell (9 at `downscale` 1), at the border too, where there are fewer.
    - A cell is known where its first pixel is.
    Departs from the release: each sample has its own mask, not the first one's.

    Nothing is learned. With no known patch at all the result is 0.

    Args:
        channels: of the features; every attention layer's factory is given them, and this one has no use for them.
        scale: lambda of the softmax.
        downscale: 1 or even; matching is done on every downscale-th cell. The release's is 2.
    Raises:
        ValueError: `downscale` is out of range, or does not divide the features' sizes.
    """

    def __init__(self, channels: int, scale: float = 10.0, downscale: int = 2) -> None:
        super().__init__()
        if downscale < 1 or (downscale > 1 and downscale % 2):
            raise ValueError(f"downscale must be 1 or even, got {downscale}")
        self.scores, self.downscale = ReleasedScores(scale), downscale
        self.patch = PATCH if downscale == 1 else 2 * downscale
        self.margin = (self.patch - downscale) // 2

    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Make the foreground anew; shapes as in `FeatureAttention`."""
        step = self.downscale
        if any(side % step for x in (foreground, background) for side in x.shape[-2:]):
            raise ValueError(
                f"sizes must be multiples of {step}, got {tuple(foreground.shape)} and {tuple(background.shape)}"
            )
        attention = self.scores(*(x[..., ::step, ::step] for x in (foreground, background, known))).flatten(2)
        patches = F.unfold(background, self.patch, padding=self.margin, stride=step)
        borrowed = torch.bmm(patches, attention.to(patches.dtype))
        pasted = F.fold(borrowed, foreground.shape[-2:], self.patch, padding=self.margin, stride=step)
        return pasted / (self.patch // step) ** 2

    def known_cells(self, mask: Tensor, cell: int) -> Tensor:
        """The mask by nearest neighbours: each cell's first pixel."""
        return mask[..., ::cell, ::cell]

    def map_layers(self) -> dict[str, nn.Module]:
        """`attention`: the shares of the background patches, see `ReleasedScores`."""
        return {"attention": self.scores}
