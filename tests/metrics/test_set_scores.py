"""FID, KID, U-IDS and P-IDS: the formulas of pytorch-fid and of Binkowski et al., and answers known by hand."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from src.metrics.set_scores import fid, inception_discriminative_scores, kid_of_blocks


@pytest.fixture(scope="module")
def features():
    """Return features of 90 images of 8x8 px by a seeded random network, and of the same images with other contrast."""
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(90, 3 * 8 * 8, generator=rng)
    weights = torch.randn(3 * 8 * 8, 12, generator=rng) / 14
    return (images @ weights).tanh(), (images.sqrt() @ weights).tanh()


def slow_fid(truth, output):
    """Compute the distance as pytorch-fid does."""
    truth, output = truth.double().numpy(), output.double().numpy()
    covariances = np.cov(truth, rowvar=False), np.cov(output, rowvar=False)
    root = sqrtm(covariances[0] @ covariances[1]).real
    shift = truth.mean(axis=0) - output.mean(axis=0)
    return shift @ shift + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.trace(root)


def slow_kid(truth, output):
    """Compute the unbiased estimate pair by pair."""
    n, d = truth.shape

    def kernel(x, y):
        return (float(x @ y) / d + 1) ** 3

    within = sum(
        kernel(x[i], x[j]) for x in (truth.double(), output.double()) for i in range(n) for j in range(n) if i != j
    )
    across = sum(kernel(x, y) for x in truth.double() for y in output.double())
    return 1000 * (within / (n * (n - 1)) - 2 * across / n**2)


def test_fid_matches_the_formula(features):
    assert fid(*features) == pytest.approx(slow_fid(*features), rel=1e-6)
    assert fid(features[0], features[0]) == pytest.approx(0, abs=1e-6)


def test_fid_of_gaussians_known_by_hand():
    """Of diagonal covariances it is |m - m'|^2 + sum (s - s')^2, s the standard deviations."""
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]) * (3 / 4) ** 0.5  # unbiased variance 1
    truth, output = signs * torch.tensor([1.0, 2.0]), signs * torch.tensor([4.0, 2.0]) + torch.tensor([0.0, 5.0])
    assert fid(truth, output) == pytest.approx(25 + 9, rel=1e-6)


def test_kid_matches_the_formula_in_every_block(features):
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0)).view(10, 9)
    slow = [slow_kid(features[0][block], features[1][block]) for block in order]
    np.testing.assert_allclose(kid_of_blocks(*features), slow, rtol=1e-6)


def test_kid_of_equal_distributions_is_zero_on_average():
    rng = torch.Generator().manual_seed(0)
    blocks = kid_of_blocks(torch.randn(2000, 4, generator=rng), torch.randn(2000, 4, generator=rng))
    assert len(blocks) == 10
    assert abs(blocks.mean()) < 3 * blocks.std() / 10**0.5
    assert kid_of_blocks(torch.zeros(12_345, 2), torch.zeros(12_345, 2)).shape == (12,)  # blocks of 1,000
    with pytest.raises(ValueError, match="at least 20 images, got 19"):
        kid_of_blocks(torch.zeros(19, 2), torch.zeros(19, 2))


def test_equal_sets_have_a_distance_of_zero_and_not_a_negative_one(features):
    truth, _ = features
    assert 0 <= fid(truth, truth.clone()) < 1e-9


def test_discriminative_scores_known_by_hand(features):
    truth, _ = features
    assert inception_discriminative_scores(truth, truth + 9) == (0, 0)  # separable
    unpaired, paired = inception_discriminative_scores(truth, truth)
    assert unpaired == pytest.approx(50, abs=2)  # indistinguishable
    assert paired == 0  # never above its equal
    rng = torch.Generator().manual_seed(1)
    noise = torch.randn(90, 12, generator=rng)
    unpaired, paired = inception_discriminative_scores(noise, torch.randn(90, 12, generator=rng))
    assert 20 < unpaired < 50
    assert 20 < paired < 50
