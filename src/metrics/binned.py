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


class BinnedMean(Metric):
    """Mean over the images of each bin in `BINS` and over all images.

    The state is sums and counts, which can be added over batches and processes; a mean of batch means would overweight
    a smaller last batch. Images with a hole ratio outside the bins (above 0.6) only contribute to "all".

    compute() returns bin name -> mean, with "all" last; bins without images are omitted.
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

        Args:
            hole_ratio: as returned by the function `hole_ratio`.
        Shapes:
            values, hole_ratio (B,); hole_ratio float64, in [0, 1].
        Raises:
            ValueError: a shape or dtype differs.
        """
        if values.ndim != 1 or values.shape != hole_ratio.shape:
            raise ValueError(
                f"values and hole_ratio must both be (B,), got {tuple(values.shape)} and {tuple(hole_ratio.shape)}"
            )
        if hole_ratio.dtype != torch.float64:
            raise ValueError(f"hole_ratio must be float64, so that 0.1 is exactly a bin edge, got {hole_ratio.dtype}")
        edges = torch.tensor([BINS[0][0], *(high for _, high in BINS)], dtype=torch.float64)
        places = torch.bucketize(hole_ratio.cpu(), edges)  # i if edges[i - 1] < hole_ratio <= edges[i]
        member = torch.nn.functional.one_hot(places, len(edges) + 1)[:, 1:-1].to(values.device)
        member = torch.cat([member, torch.ones_like(member[:, :1])], dim=1)
        # where, not a product: NaN * 0 would spread to every bin
        self.sums += torch.where(member == 1, values.float()[:, None], 0.0).sum(dim=0)
        self.counts += member.sum(dim=0)

    def compute(self) -> dict[str, Tensor]:
        """Return the means by bin name, "all" last; bins without images are omitted."""
        names = [*map(bin_name, BINS), ALL]
        return {
            name: total / count for name, total, count in zip(names, self.sums, self.counts, strict=True) if count > 0
        }
