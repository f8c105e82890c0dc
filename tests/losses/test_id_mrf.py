"""GMCNN's ID-MRF term."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from src.losses.id_mrf import IDMRF, relative_distance, relative_similarity
from src.losses.inputs import LossInput
from src.networks.interface import InpaintingOutput

KNOWN = torch.zeros(1, 1, 4, 4)  # all hole: the composite is the prediction


class Identity(nn.Module):
    """Features that are the image itself."""

    def forward(self, image):
        return (image,)


def value(prediction, truth, **settings):
    mask = KNOWN.expand(len(truth), -1, -1, -1)
    inputs = LossInput(truth, mask, InpaintingOutput(prediction), Identity())
    return IDMRF(weights=(1.0,), **settings)(inputs)


def test_value_by_hand():
    """Two patches: loops over v and s with the formulas of the docstrings."""
    torch.manual_seed(0)
    ours, theirs = torch.rand(1, 3, 1, 2), torch.rand(1, 3, 1, 2)
    centre = theirs.mean(1, keepdim=True)
    v, s = ((t - centre)[0, :, 0].T for t in (ours, theirs))
    d = [[(1 - torch.cosine_similarity(a, b, dim=0)) / 2 for b in s] for a in v]
    weight = [[math.exp((1 - row[j] / (min(row) + 1e-5)) / 0.5) for j in range(2)] for row in d]
    weight = [[w / sum(row) for w in row] for row in weight]
    expected = -math.log(sum(max(weight[i][j] for i in range(2)) for j in range(2)) / 2)
    inputs = LossInput(theirs, torch.zeros(1, 1, 1, 2), InpaintingOutput(ours), Identity())
    assert_close(IDMRF(weights=(1.0,))(inputs), torch.tensor(expected), atol=1e-5, rtol=0)


def test_printed_similarity_excludes_the_patch_itself():
    cosine = torch.tensor([[[0.5, 0.25, 0.1]]])
    expected = torch.tensor([[[0.5 / 0.25, 0.25 / 0.5, 0.1 / 0.5]]])
    assert_close(relative_similarity(cosine), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("relative", [relative_distance, relative_similarity])
def test_the_truth_is_better_than_one_repeated_patch(relative):
    torch.manual_seed(0)
    truth = torch.rand(2, 3, 4, 4)
    repeated = truth[..., :1, :1].expand_as(truth)
    assert float(value(truth, truth, relative=relative)) < float(value(repeated, truth, relative=relative))


def test_gradients_are_finite_at_the_truth():
    truth = torch.rand(2, 3, 4, 4)
    prediction = truth.clone().requires_grad_()
    value(prediction, truth).backward()
    assert prediction.grad.isfinite().all()
