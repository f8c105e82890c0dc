"""Means of a per-image value by hole ratio, exact whatever the batches and the processes."""

import torch
from torch import Tensor
from torchmetrics import Metric

from src.masks.hole_ratios import BINS, bin_name

ALL = "all"


def hole_ratio(mask: Tensor) -> Tensor:
    """The share of each image that the hole takes up, from counted pixels, (B,), float64 on the CPU.

    A quotient of whole numbers in float64 is the nearest number to it: 1 hole pixel of 10 is 0.1, the very edge of its
    bin. `1 - mask.mean()` in float32 gives 0.10000002, which is in the next bin.

    Shapes:
        mask (B, 1, H, W), 1 = known, 0 = hole.
    """
    holes = (mask == 0).flatten(1).sum(dim=1).cpu()
    return holes.double() / mask[0].numel()


class BinnedMean(Metric):
    """mean of the values of a bin's images, for every bin of `BINS` and for all images.

    Keeps sums and counts, which add up over batches and processes; a mean of batch means would weigh the last, smaller
    batch as much as a full one. A share outside the bins (above 0.6) counts to "all" alone.

    compute() returns bin name -> mean, "all" last; a bin without an image is absent, not 0 and not NaN.
    """

    full_state_update = False
    sums: Tensor
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        # one place a bin, the last for all; below and above the bins lie the two outer places of `bucketize`
        self.add_state("sums", torch.zeros(len(BINS) + 1), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(len(BINS) + 1, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, values: Tensor, hole_ratio: Tensor) -> None:
        """Take in one value an image.

        Args:
            hole_ratio: as the function `hole_ratio` gives it.
        Shapes:
            values, hole_ratio (B,); hole_ratio float64, in [0, 1].
        Raises:
            ValueError: a shape or type is not as above.
        """
        if values.ndim != 1 or values.shape != hole_ratio.shape:
            raise ValueError(
                f"values and hole_ratio must both be (B,), got {tuple(values.shape)} and {tuple(hole_ratio.shape)}"
            )
        if hole_ratio.dtype != torch.float64:
            raise ValueError(f"hole_ratio must be float64, in which 0.1 lies on its edge, got {hole_ratio.dtype}")
        edges = torch.tensor([BINS[0][0], *(high for _, high in BINS)], dtype=torch.float64)
        places = torch.bucketize(hole_ratio.cpu(), edges)  # edges[i - 1] < share <= edges[i] gives i
        member = torch.nn.functional.one_hot(places, len(edges) + 1)[:, 1:-1].to(values.device)
        member = torch.cat([member, torch.ones_like(member[:, :1])], dim=1)
        # where, not a product: a value that is not a number would reach every bin
        self.sums += torch.where(member == 1, values.float()[:, None], 0.0).sum(dim=0)
        self.counts += member.sum(dim=0)

    def compute(self) -> dict[str, Tensor]:
        """Means by bin name, "all" last; bins without an image are left out."""
        names = [*map(bin_name, BINS), ALL]
        return {
            name: total / count for name, total, count in zip(names, self.sums, self.counts, strict=True) if count > 0
        }
