"""Precision and recall of predicted edges in the hole, by hole share, exact whatever the batches and the processes."""

import torch
from torch import Tensor
from torchmetrics import Metric

from src.metrics.binned import ALL, hole_share
from src.metrics.bins import BINS, bin_name

THRESHOLD = 0.5  # a pixel counts as predicted above it, where it is likelier an edge than not


class EdgeAccuracy(Metric):
    """Shares of hole pixels: of those predicted as edges that are edges, and of the edges that were predicted.

    precision = sum of true positives / sum of predicted positives;  recall = the same / sum of true edges
    Counts are summed over a bin's pixels before they are divided: a picture without an edge in its hole has no recall
    of its own, and one with few would weigh as much as one with many. A true edge one pixel off counts as missed.

    compute() returns `precision` and `recall` over all images, `precision/<bin>` and `recall/<bin>` by hole share.
    Precision where nothing was predicted, and recall where there is nothing to predict, are absent, not 0 and not NaN.
    """

    full_state_update = False
    true_positives: Tensor
    predicted: Tensor
    actual: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("true_positives", "predicted", "actual"):  # one place a bin, the last for all
            self.add_state(name, torch.zeros(len(BINS) + 1, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, true: Tensor, mask: Tensor) -> None:
        """Count the hole pixels of a batch; known ones are not read.

        Shapes:
            predicted (B, 1, H, W) in [0, 1]; true (B, 1, H, W), 1 on an edge, else 0; mask (B, 1, H, W), 1 = known,
            0 = hole.
        Raises:
            ValueError: a shape is not as above.
        """
        if predicted.ndim != 4 or predicted.shape[1] != 1 or not predicted.shape == true.shape == mask.shape:
            raise ValueError(
                "predicted, true and mask must share (B, 1, H, W), "
                f"got {tuple(predicted.shape)}, {tuple(true.shape)} and {tuple(mask.shape)}"
            )
        hole = mask == 0
        predicted_edge, true_edge = hole & (predicted > THRESHOLD), hole & (true > THRESHOLD)
        member = _bins_of(hole_share(mask)).to(mask.device)
        self.true_positives += _count(predicted_edge & true_edge, member)
        self.predicted += _count(predicted_edge, member)
        self.actual += _count(true_edge, member)

    def compute(self) -> dict[str, Tensor]:
        """Precision and recall over all images, then by bin; absent where they would be 0 / 0."""
        suffixes = {ALL: "", **{name: f"/{name}" for name in map(bin_name, BINS)}}
        places = {name: place for place, name in enumerate([*map(bin_name, BINS), ALL])}
        return {
            f"{kind}{suffix}": self.true_positives[places[name]] / counts[places[name]]
            for kind, counts in (("precision", self.predicted), ("recall", self.actual))
            for name, suffix in suffixes.items()
            if counts[places[name]] > 0
        }


def _bins_of(shares: Tensor) -> Tensor:
    """(B,) to (B, bins + 1) of 0 and 1: is the image in the bin? The last column is 1, as all are in "all"."""
    low, high = torch.tensor(BINS, dtype=torch.float64).unbind(1)
    inside = (shares[:, None] > low) & (shares[:, None] <= high)
    return torch.cat([inside, torch.ones_like(inside[:, :1])], dim=1).long()


def _count(pixels: Tensor, member: Tensor) -> Tensor:
    return (pixels.flatten(1).sum(dim=1)[:, None] * member).sum(dim=0)
