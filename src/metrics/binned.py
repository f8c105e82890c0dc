"""Means of per-image values by hole ratio, independent of batch size and number of processes."""

import torch
from torch import Tensor
from torchmetrics import Metric

from src.masks.hole_ratios import BINS, bin_name

ALL = "all"


def hole_ratio(mask: Tensor) -> Tensor:
    """Return the number of hole pixels over that of all pixels, (B,), float64 on the CPU.

    The quotient of two integers is correctly rounded in float64: 1 hole pixel of 10 gives exactly 0.1, the upper edge
    of its bin. `1 - mask.mean()` in float32 gives 0.10000002, in the next bin.

    Shapes:
        mask (B, 1, H, W), 1 = known, 0 = hole.
    """
    holes = (mask == 0).flatten(1).sum(dim=1).cpu()
    return holes.double() / mask[0].numel()


def bin_membership(ratios: Tensor) -> Tensor:
    """Return (B, bins + 1) of 0 and 1, whether each image is in each bin; the last column, for all images, is 1."""
    low, high = torch.tensor(BINS, dtype=torch.float64).unbind(1)
    inside = (ratios[:, None] > low) & (ratios[:, None] <= high)
    return torch.cat([inside, torch.ones_like(inside[:, :1])], dim=1).long()


class BinnedMean(Metric):
    """Mean over the images of each bin in `BINS` and over all images.

    The state is sums and counts, which can be added over batches and processes; a mean of batch means would overweight
    a smaller last batch. Images with a hole ratio outside the bins (above 0.6) only contribute to "all".
    """

    full_state_update = False
    sums: Tensor
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        # one element per bin, the last for all images
        self.add_state("sums", torch.zeros(len(BINS) + 1), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(len(BINS) + 1, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, values: Tensor, hole_ratio: Tensor) -> None:
        """Add one value per image.

        Shapes:
            values, hole_ratio (B,); hole_ratio float64, in [0, 1], as returned by the function `hole_ratio`.
        Raises ValueError if a shape or dtype differs.
        """
        if values.ndim != 1 or values.shape != hole_ratio.shape:
            raise ValueError(
                f"values and hole_ratio must both be (B,), got {tuple(values.shape)} and {tuple(hole_ratio.shape)}"
            )
        if hole_ratio.dtype != torch.float64:
            raise ValueError(f"hole_ratio must be float64, so that 0.1 is exactly a bin edge, got {hole_ratio.dtype}")
        member = bin_membership(hole_ratio.cpu()).to(values.device)
        # where, not a product: NaN * 0 would spread to every bin
        self.sums += torch.where(member == 1, values.float()[:, None], 0.0).sum(dim=0)
        self.counts += member.sum(dim=0)

    def compute(self) -> dict[str, Tensor]:
        """Return the means by bin name, "all" last; bins without images are omitted."""
        names = [*map(bin_name, BINS), ALL]
        return {
            name: total / count for name, total, count in zip(names, self.sums, self.counts, strict=True) if count > 0
        }
