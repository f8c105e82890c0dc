"""Precision and recall of predicted edges in the hole, independent of batch size and number of processes."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from src.masks.hole_ratios import BINS, bin_name
from src.metrics.binned import bin_membership, hole_ratio

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
"""A pixel is a predicted edge if its value exceeds the threshold."""

TOLERANCES = {"exact": 0, "1px": 1}
"""Chebyshev distance in px within which a match counts, by its name in the scores."""

_HALF = THRESHOLDS.index(0.5)
_EXACT, _NEAR = range(len(TOLERANCES))


class EdgeAccuracy(Metric):
    """Precision, recall and F1 of predicted edges in the hole, exact and with a tolerance of one pixel.

    precision = predicted pixels with a true edge within the tolerance / predicted pixels
    recall    = true edge pixels with a predicted one within the tolerance / true edge pixels
    f1        = 2 precision recall / (precision + recall)
    base_rate = hole pixels with a true edge within the tolerance / hole pixels

    The base rate is the precision of random pixels, or of marking the whole hole; compare precision with it. Marking
    the whole hole has a recall of 1.

    Pixels outside the hole are neither read nor matched, so known edges at the border of the hole do not count. Counts
    are summed over all pixels of a bin before division, as recall is undefined for an image without edges in its hole.

    compute() returns
    - `f1`: the best over `THRESHOLDS` at 1 px over all images, and its `threshold`; at that threshold also
      `precision_1px`, `recall_1px`, and by hole ratio `f1/<bin>`, `precision_1px/<bin>`, `recall_1px/<bin>`;
    - `base_rate_exact`, `base_rate_1px`, the latter also by hole ratio;
    - `precision`, `recall`: exact, at a threshold of 0.5, over all images and by hole ratio;
    - `precision_<tolerance>_at_<threshold>`, `recall_...`, `f1_...` for every pair, over all images.
    Values of 0 / 0 are omitted: precision without predicted edges, recall without true edges, base rate without hole
    pixels. `f1` is 0 if precision or recall is undefined and the other is 0; without any edges it is omitted.
    """

    full_state_update = False
    hits: Tensor  # predicted pixels near a true edge: (tolerances, thresholds, bins)
    found: Tensor  # true edges near a predicted pixel: (tolerances, thresholds, bins)
    predicted: Tensor  # (thresholds, bins)
    actual: Tensor  # (bins,)
    near: Tensor  # hole pixels near a true edge: (tolerances, bins)
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
        }.items():  # the last bin is for all images
            zeros = torch.zeros(*shape, len(BINS) + 1, dtype=torch.long)
            self.add_state(name, zeros, dist_reduce_fx="sum")

    def update(self, predicted: Tensor, true: Tensor, mask: Tensor) -> None:
        """Add the hole pixels of a batch; known pixels are not read.

        Shapes:
            predicted (B, 1, H, W) in [0, 1]; true (B, 1, H, W), 1 on edges, 0 elsewhere; mask (B, 1, H, W), 1 = known,
            0 = hole.
        Raises ValueError if a shape differs.
        """
        if predicted.ndim != 4 or predicted.shape[1] != 1 or not predicted.shape == true.shape == mask.shape:
            raise ValueError(
                "predicted, true and mask must share the shape (B, 1, H, W), "
                f"got {tuple(predicted.shape)}, {tuple(true.shape)} and {tuple(mask.shape)}"
            )
        hole = mask == 0
        member = bin_membership(hole_ratio(mask)).to(mask.device)
        edges = hole & (true > 0.5)
        self.pixels += _count(hole, member)
        self.actual += _count(edges, member)
        for tolerance, distance in enumerate(TOLERANCES.values()):
            self.near[tolerance] += _count(hole & _dilate(edges, distance), member)
        for place, threshold in enumerate(THRESHOLDS):
            marked = hole & (predicted > threshold)
            self.predicted[place] += _count(marked, member)
            for tolerance, distance in enumerate(TOLERANCES.values()):
                self.hits[tolerance, place] += _count(marked & _dilate(edges, distance), member)
                self.found[tolerance, place] += _count(edges & _dilate(marked, distance), member)

    def compute(self) -> dict[str, Tensor]:
        """Return the scores listed in the class docstring, without those of 0 / 0."""
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
        """Return F1, (tolerances, thresholds, bins); NaN without predicted and true edges."""
        product, total = precision.nan_to_num() * recall.nan_to_num(), precision.nan_to_num() + recall.nan_to_num()
        f1 = torch.where(total > 0, 2 * product / total, 0.0)
        return torch.where((self.predicted + self.actual) > 0, f1, torch.nan)


def _dilate(pixels: Tensor, distance: int) -> Tensor:
    """Return all pixels within `distance` rows and columns of a set pixel."""
    return F.max_pool2d(pixels.float(), 2 * distance + 1, stride=1, padding=distance) > 0


def _count(pixels: Tensor, member: Tensor) -> Tensor:
    return (pixels.flatten(1).sum(dim=1)[:, None] * member).sum(dim=0)
