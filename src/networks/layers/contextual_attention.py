"""Contextual attention (Yu et al., CVPR 2018): feature patches are composed of the known patches they resemble."""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.attention_scores import AttentionScores, MatchInputs
from src.networks.layers.coarse_to_fine import Pad, mirror_pad, pad_to_multiple
from src.networks.layers.hooks import call_if_recorded
from src.networks.ops.patch_products import PATCH, count_overlaps, join_blocks, paste_blocks, split_blocks
from src.networks.ops.tracing import is_exporting

SCORES_MIB = {"cpu": 8, "cuda": 256}
"""Default size of a tile of scores, by device. Several tiles of 8 MiB fit into a CPU's cache; GPUs prefer few tiles."""
FEWEST_ROWS = 8  # smallest default height of a tile: with fewer rows, too much is computed twice at the borders


def known_cells(mask: Tensor, cell: int) -> Tensor:
    """Reduce the mask to cells of cell x cell pixels, known if all their pixels are known.

    Decision, where the paper is silent: not nearest neighbours as in the release, which miss holes thinner than a cell
    and would copy their features as known ones.

    Shapes:
        mask (B, 1, h cell, w cell), 1 = known, 0 = hole. Returns (B, 1, h, w).
    """
    return -F.max_pool2d(-mask, cell)


class FeatureAttention(nn.Module, ABC):
    """Base class of attention layers: computes foreground features from background features."""

    @abstractmethod
    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Compute the foreground.

        Shapes:
            foreground (B, C, h, w); background (B, C, h', w'), any range; known (B, 1, h', w'), 1 = known, 0 = hole.
            Returns (B, C, h, w).
        """

    def known_cells(self, mask: Tensor, cell: int) -> Tensor:
        """Reduce a mask (B, 1, h' cell, w' cell) to the `known` argument of `forward`."""
        return known_cells(mask, cell)

    def map_layers(self) -> dict[str, nn.Module]:
        """Return the layers whose outputs are attention maps, by the name of the map."""
        return {}


class ContextualAttention(FeatureAttention):
    """Replaces each foreground patch by a mean of the known background patches, weighted by similarity.

    Source: Yu et al., CVPR 2018, arXiv:1801.07892, Sec. 4.1: match, attend (`AttentionScores`), paste by a transposed
    convolution of the background patches, overlapping ones averaged.
    Where the paper is silent, as the release: matching uses every second cell of the features, and 4x4 patches of the
    full features are pasted, two cells apart (here for any even factor, with patches twice as wide).
    Departs from the release: overlaps are divided by the true number of patches, also at the border; each sample has
    its own mask; both patches are normalised, as printed.
    Decision, where the paper is silent: mirror padding, as in the paper's convolutions (the release's zeros would be
    pasted into the image). Sizes that the factor does not divide are padded by repeating the last row and column.

    The layer has no parameters. Without any known patch the result is 0. Patches are never extracted, see
    `patch_products` and `paste_blocks`.

    Args:
        channels: unused; attention layers are constructed from their number of channels.
        scale: lambda of the softmax.
        reach: k of the propagation; 0 for none.
        downscale: factor by which features are reduced for matching, 1 or even ("Memory efficiency", option 2).
        background_stride: cells between background patches in the reduced features (option 1).
        pad: `mirror_pad` or `zero_pad`.
        scores_mib: memory limit for a tile of scores, of which about five exist at a time; a tile has at least one row
            of foreground patches. None for `SCORES_MIB` and `FEWEST_ROWS`.
    Raises ValueError if an argument is out of range, or shapes do not match.
    """

    def __init__(
        self,
        channels: int,
        scale: float = 50.0,
        reach: int = 1,
        downscale: int = 2,
        background_stride: int = 1,
        pad: Pad = mirror_pad,
        scores_mib: float | None = None,
    ) -> None:
        super().__init__()
        if downscale < 1 or (downscale > 1 and downscale % 2):
            raise ValueError(f"downscale must be 1 or even, got {downscale}")
        if background_stride < 1:
            raise ValueError(f"background_stride must be >= 1, got {background_stride}")
        if reach < 0:
            raise ValueError(f"reach must be >= 0, got {reach}")
        if scores_mib is not None and scores_mib <= 0:
            raise ValueError(f"scores_mib must be > 0 or None, got {scores_mib}")
        self.scores = AttentionScores(scale, reach, background_stride, pad)
        self.downscale, self.pad, self.scores_mib = downscale, pad, scores_mib
        self.count = PATCH if downscale == 1 else 2  # blocks of downscale x downscale across a pasted patch
        self.margin = (self.count - 1) * downscale // 2

    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Compute the foreground; shapes as in `FeatureAttention`."""
        if foreground.shape[:2] != background.shape[:2]:
            raise ValueError(
                "foreground and background must have the same batch size and channels, "
                f"got {tuple(foreground.shape)} and {tuple(background.shape)}"
            )
        if known.shape != (background.shape[0], 1, *background.shape[-2:]):
            raise ValueError(
                f"known must be (B, 1, h', w') for a background of {tuple(background.shape)}, got {tuple(known.shape)}"
            )
        height, width = foreground.shape[-2:]
        foreground, background, known = (pad_to_multiple(t, self.downscale) for t in (foreground, background, known))
        matched = (
            foreground[..., :: self.downscale, :: self.downscale],
            background[..., :: self.downscale, :: self.downscale],
            known_cells(known, self.downscale),
        )
        call_if_recorded(self.scores, lambda: self.scores(*matched))
        matching, blocks = self.scores.match(*matched), split_blocks(self.pad(background, self.margin), self.downscale)
        pasted = self._paste(matching, blocks)
        joined = join_blocks(pasted, self.downscale, self.margin)[..., :height, :width]
        return joined.to(foreground.dtype)  # under autocast, mirror padding returns float32

    def _paste(self, matching: MatchInputs, blocks: Tensor) -> Tensor:
        """Paste the patches tile by tile and average overlaps; returns blocks."""
        samples, height, width = matching.scale.shape[:3]
        lying = count_overlaps(height, width, self.count, blocks.device)[..., None] / self.count**2
        if is_exporting():  # a loop over tiles would fix the size
            return self._paste_rows(matching, blocks, 0, height) / lying
        edge = self.count - 1
        pasted = blocks.new_zeros(samples, height + edge, width + edge, blocks.shape[1])
        many, rows = self._tile(height, 4 * width * blocks.shape[2], blocks.device.type)
        for start in range(0, samples, many):
            chosen = slice(start, start + many)
            part = matching.select_samples(chosen)
            for first in range(0, height, rows):
                end = min(first + rows, height)
                pasted[chosen, first : end + edge] += self._paste_rows(part, blocks[chosen], first, end)
        return pasted / lying

    def _paste_rows(self, matching: MatchInputs, blocks: Tensor, first: int, end: int) -> Tensor:
        """Paste some rows of foreground patches: (B, end - first + count - 1, w + count - 1, D)."""
        weights, step = self.scores.score_rows(matching, first, end), self.scores.background_stride
        if step > 1:  # skipped patches have no weight
            sizes = (side - PATCH + 1 for side in matching.background.shape[-2:])
            everywhere = weights.new_zeros(*weights.shape[:3], *sizes)
            everywhere[..., ::step, ::step] = weights
            weights = everywhere
        return paste_blocks(weights, blocks, self.count)

    def _tile(self, height: int, row_bytes: int, device: str) -> tuple[int, int]:
        """Return the number of samples and of rows in a tile."""
        wanted_mib, fewest = self.scores_mib, 1
        if wanted_mib is None:
            wanted_mib, fewest = SCORES_MIB.get(device, SCORES_MIB["cuda"]), FEWEST_ROWS
        rows = int(wanted_mib * 2**20 / row_bytes)
        return max(rows // height, 1), max(fewest, min(rows, height))

    def map_layers(self) -> dict[str, nn.Module]:
        """Return `attention`: the weights of the background patches, see `AttentionScores`."""
        return {"attention": self.scores}
