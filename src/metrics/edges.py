"""Precision and recall of predicted edges in the hole, by hole ratio, exact whatever the batches and the processes."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from src.masks.hole_ratios import BINS, bin_name
from src.metrics.binned import hole_ratio

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
"""A pixel counts as predicted where its value exceeds one of them."""

TOLERANCES = {"exact": 0, "1px": 1}
"""Largest distance of a hit in px, along rows and columns alike, by the name it has in scores."""

_HALF = THRESHOLDS.index(0.5)
_EXACT, _NEAR = range(len(TOLERANCES))


class EdgeAccuracy(Metric):
    """Precision, recall and F1 of predicted edges in the hole, exact and with a tolerance of one pixel.

    precision = predicted pixels with a true edge within the tolerance / predicted pixels
    recall    = true edge pixels with a predicted one within the tolerance / true edge pixels
    f1        = 2 precision recall / (precision + recall)
    base_rate = hole pixels with a true edge within the tolerance / hole pixels

    The base rate is the precision of pixels that are drawn at random, or of all pixels of the hole: a precision says
    something by how far it exceeds it. A map that marks the whole hole has a recall of 1.

    Pixels outside the hole are neither read nor matched, so that a known edge which ends at the hole's border counts
    for nothing there. Counts are summed over a bin's pixels before they are divided: an image without an edge in its
    hole has no recall of its own, and one with few would weigh as much as one with many.

    compute() returns
    - `f1`: the best over `THRESHOLDS`, at 1 px, over all images; `threshold`, which it has; there also `precision_1px`,
      `recall_1px`, and by hole ratio `f1/<bin>`, `precision_1px/<bin>`, `recall_1px/<bin>`;
    - `base_rate_exact`, `base_rate_1px`, the latter by hole ratio, too;
    - `precision`, `recall`: exact, at a threshold of 0.5, over all images and by hole ratio;
    - `precision_<tolerance>_at_<threshold>`, `recall_...`, `f1_...` for every pair, over all images.
    What would be 0 / 0 is absent, not 0 and not NaN: precision where nothing was predicted, recall and base rate where
    there is nothing to find. `f1` is 0 where one of precision and recall is absent and the other 0, or nothing was
    predicted; without a true edge and a predicted one it is absent.
    """

    full_state_update = False
    hits: Tensor  # predicted pixels that are right: (tolerances, thresholds, bins)
    found: Tensor  # true edges that are predicted: (tolerances, thresholds, bins)
    predicted: Tensor  # (thresholds, bins)
    actual: Tensor  # (bins,)
    near: Tensor  # hole pixels that would be hits: (tolerances, bins)
    pixels: Tensor  # of the hole: (bins,)

    def __init__(self) -> None:
        super().__init__()
        thresholds, tolerances = len(THRESHOLDS), len(TOLERANCES)
        for name, shape in {
            "hits": (tolerances, thresholds),
            "found": (tolerances, thresholds),
            "predicted": (thresholds,),
            "actual": (),
            "near": (tolerances,),
            "pixels": (),
        }.items():  # the last bin is of all images
            zeros = torch.zeros(*shape, len(BINS) + 1, dtype=torch.long)
            self.add_state(name, zeros, dist_reduce_fx="sum")

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
        member = _bins_of(hole_ratio(mask)).to(mask.device)
        edges = hole & (true > 0.5)
        self.pixels += _count(hole, member)
        self.actual += _count(edges, member)
        for tolerance, distance in enumerate(TOLERANCES.values()):
            self.near[tolerance] += _count(hole & _grown(edges, distance), member)
        for place, threshold in enumerate(THRESHOLDS):
            marked = hole & (predicted > threshold)
            self.predicted[place] += _count(marked, member)
            for tolerance, distance in enumerate(TOLERANCES.values()):
                self.hits[tolerance, place] += _count(marked & _grown(edges, distance), member)
                self.found[tolerance, place] += _count(edges & _grown(marked, distance), member)

    def compute(self) -> dict[str, Tensor]:
        """Return the scores that the class lists; absent where they would be 0 / 0."""
        precision, recall = self.hits.double() / self.predicted, self.found.double() / self.actual
        f1 = self._f1(precision, recall)
        best = int(f1[_NEAR, :, -1].nan_to_num(-1.0).argmax())
        base_rate = self.near.double() / self.pixels
        scores = {
            "f1": f1[_NEAR, best, -1],
            "precision_1px": precision[_NEAR, best, -1],
            "recall_1px": recall[_NEAR, best, -1],
            "precision": precision[_EXACT, _HALF, -1],
            "recall": recall[_EXACT, _HALF, -1],
        }
        for tolerance, name in enumerate(TOLERANCES):
            scores[f"base_rate_{name}"] = base_rate[tolerance, -1]
            for place, threshold in enumerate(THRESHOLDS):
                scores[f"precision_{name}_at_{threshold:g}"] = precision[tolerance, place, -1]
                scores[f"recall_{name}_at_{threshold:g}"] = recall[tolerance, place, -1]
                scores[f"f1_{name}_at_{threshold:g}"] = f1[tolerance, place, -1]
        for column, one in enumerate(BINS):
            scores |= {
                f"f1/{bin_name(one)}": f1[_NEAR, best, column],
                f"precision_1px/{bin_name(one)}": precision[_NEAR, best, column],
                f"recall_1px/{bin_name(one)}": recall[_NEAR, best, column],
                f"base_rate_1px/{bin_name(one)}": base_rate[_NEAR, column],
                f"precision/{bin_name(one)}": precision[_EXACT, _HALF, column],
                f"recall/{bin_name(one)}": recall[_EXACT, _HALF, column],
            }
        known = {name: value.float() for name, value in scores.items() if not value.isnan()}
        return known | ({"threshold": known["f1"].new_tensor(THRESHOLDS[best])} if "f1" in known else {})

    def _f1(self, precision: Tensor, recall: Tensor) -> Tensor:
        """Of (tolerances, thresholds, bins); NaN where nothing was predicted and nothing is there."""
        product, total = precision.nan_to_num() * recall.nan_to_num(), precision.nan_to_num() + recall.nan_to_num()
        f1 = torch.where(total > 0, 2 * product / total, 0.0)
        return torch.where((self.predicted + self.actual) > 0, f1, torch.nan)


def _grown(pixels: Tensor, distance: int) -> Tensor:
    """All pixels within `distance` rows and columns of one that is set."""
    return F.max_pool2d(pixels.float(), 2 * distance + 1, stride=1, padding=distance) > 0


def _bins_of(shares: Tensor) -> Tensor:
    """(B,) to (B, bins + 1) of 0 and 1: is the image in the bin? The last column is 1, as all are in "all"."""
    low, high = torch.tensor(BINS, dtype=torch.float64).unbind(1)
    inside = (shares[:, None] > low) & (shares[:, None] <= high)
    return torch.cat([inside, torch.ones_like(inside[:, :1])], dim=1).long()


def _count(pixels: Tensor, member: Tensor) -> Tensor:
    return (pixels.flatten(1).sum(dim=1)[:, None] * member).sum(dim=0)
