"""Scores of sets of images from their features: FID, KID, U-IDS and P-IDS.

Shapes of all: truth, output (N, D), row k of both belongs to the same image and mask. In formulas m are means and C
covariances of the features.
"""

import warnings

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from src.metrics.metric import Metric

RELIABLE = 10_000
"""Number of images below which these scores are not comparable with published ones: FID falls as N grows."""

KID_BLOCK = 1_000
KID_BLOCKS = 10

FID = Metric(
    "fid", "FID", "", decimals=2, higher_is_better=False,
    formula="|m_output - m_truth|^2 + tr(C_output + C_truth - 2 (C_output C_truth)^(1/2)) of Inception features",
    source="Heusel et al. 2017, through torchmetrics",
)  # fmt: skip
KID = Metric(
    "kid", "KID x 1000", "", decimals=3, higher_is_better=False,
    formula="1000 times the unbiased squared MMD of Inception features, kernel (x y / D + 1)^3, mean over blocks",
    source="Binkowski et al. 2018, through torchmetrics",
)  # fmt: skip
U_IDS = Metric(
    "u_ids", "U-IDS", "%", decimals=2, higher_is_better=True,
    formula="100 (1 - accuracy) of a linear SVM that separates features of outputs and truth, on its training set",
    source="CoModGAN, Zhao et al. 2021, as in MAT's release",
)  # fmt: skip
P_IDS = Metric(
    "p_ids", "P-IDS", "%", decimals=2, higher_is_better=True,
    formula="percentage of outputs that this SVM finds more real than their own truth",
    source="CoModGAN, Zhao et al. 2021, as in MAT's release",
)  # fmt: skip
SET_METRICS = {metric.name: metric for metric in (FID, KID, U_IDS, P_IDS)}
"""All metrics of sets by name, in the order of tables."""


class _Precomputed(nn.Module):
    """Passes features to torchmetrics in place of images."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def fid(truth: Tensor, output: Tensor) -> float:
    """Return the Frechet distance of two sets of at least two finite features each, in float64, at least 0."""
    metric = FrechetInceptionDistance(feature=_Precomputed(truth.shape[1]))
    metric.update(truth.double(), real=True)
    metric.update(output.double(), real=False)
    return max(0.0, float(metric.compute()))  # rounding makes that of equal sets slightly negative


def kid_of_blocks(truth: Tensor, output: Tensor, seed: int = 0) -> Tensor:
    """Return 1000 times the squared MMD of each disjoint block of images, float64; their mean is the KID.

    Blocks have 1,000 images, or there are ten smaller ones; images are assigned by a seeded permutation, and a rest is
    left out. Blocks are independent, so resampling them gives an interval; torchmetrics' own class draws overlapping
    subsets, of the same expectation. The estimator is unbiased for independent sets, but outputs resemble the truth of
    their own image: KID is lower than between other images, and negative for nearly perfect outputs.

    Raises:
        ValueError: there are fewer than 20 images.
    """
    count = len(truth)
    size = min(KID_BLOCK, count // KID_BLOCKS)
    if size < 2:
        raise ValueError(f"KID needs at least {2 * KID_BLOCKS} images, got {count}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    blocks = order[: count // size * size].view(-1, size)
    return torch.stack([1000 * poly_mmd(truth[block].double(), output[block].double()) for block in blocks])


def inception_discriminative_scores(truth: Tensor, output: Tensor) -> tuple[float, float]:
    """Return U-IDS and P-IDS in percent, with scikit-learn's LinearSVC(dual=False), as in the release of MAT."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    real, fake = truth.numpy(), output.numpy()
    svm = LinearSVC(dual=False)
    inputs, labels = torch.cat([truth, output]).numpy(), [1] * len(real) + [0] * len(fake)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning)  # the releases use it as it is, too
        svm.fit(inputs, labels)
    unpaired = 1 - svm.score(inputs, labels)
    paired = (svm.decision_function(fake) > svm.decision_function(real)).mean()
    return 100 * float(unpaired), 100 * float(paired)
