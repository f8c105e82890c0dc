"""The implicit diversified Markov random field term of GMCNN: each patch of the truth has its own nearest neighbour."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.losses.inputs import LossInput, View

EPS = 1e-5


def relative_distance(cosine: Tensor) -> Tensor:
    """Return 1 - d / (min d + eps), d = (1 - cosine) / 2, the minimum over the patches s of the truth; (B, V, S).

    Source: GMCNN's release, which takes it from the contextual loss (Mechrez et al., ECCV 2018).
    """
    distance = (1 - cosine).clamp_min(0) / 2
    return 1 - distance / (distance.amin(dim=2, keepdim=True) + EPS)


def relative_similarity(cosine: Tensor) -> Tensor:
    """Return mu(v, s) / (max over r != s of mu(v, r) + eps), mu the cosine; (B, V, S), S >= 2.

    Source: Wang et al., NeurIPS 2018, "ID-MRF Regularization", as printed.
    """
    top = cosine.topk(2, dim=2).values
    best, second = top[..., :1], top[..., 1:]
    return cosine / (torch.where(cosine == best, second, best) + EPS)


class IDMRF(nn.Module):
    """Implicit diversified MRF: sum over layers of weight * -log mean_s max_v RS(v, s); the mean over samples.

    RS(v, s) = softmax over s of relative(cosine of v and s) / h;  v and s are features of the filled and the true image
    Source: Wang et al., NeurIPS 2018, "ID-MRF Regularization", after Mechrez et al., ECCV 2018. VGG-19's conv4_2 counts
    twice, as style and as content, and conv3_2 once; h = 0.5.
    Where the paper is silent, as the release: patches are single positions; the mean over the channels of the true
    features at a position is subtracted from both.
    Departs from the paper, as the release: `relative_distance` by default; see src/networks/README.md.
    Departs from the release, whose layers are relu3_1 and relu4_1 by a counting error, and which sums over samples.

    Args:
        weights: weight of each layer of the feature extractor.
        bandwidth: h.
        relative: compares a patch with all patches of the truth, (B, V, S) to (B, V, S).
        view: the image compared with the truth.
    """

    needs_features = True

    def __init__(
        self,
        weights: Sequence[float] = (1.0, 2.0),
        bandwidth: float = 0.5,
        relative: Callable[[Tensor], Tensor] = relative_distance,
        view: View = "composite",
    ) -> None:
        super().__init__()
        self.weights, self.bandwidth, self.relative = tuple(weights), bandwidth, relative
        self.view: View = view

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the loss, a scalar."""
        layers = zip(self.weights, inputs.features(self.view), inputs.features("truth"), strict=True)
        return torch.stack([weight * self._compare(ours, theirs) for weight, ours, theirs in layers]).sum()

    def _compare(self, ours: Tensor, theirs: Tensor) -> Tensor:
        with torch.autocast(ours.device.type, enabled=False):
            centre = theirs.float().mean(dim=1, keepdim=True)
            v, s = (F.normalize((features.float() - centre).flatten(2), dim=1) for features in (ours, theirs))
            weights = (self.relative(v.mT @ s) / self.bandwidth).softmax(dim=2)
            return -weights.amax(dim=1).mean(dim=1).log().mean()
