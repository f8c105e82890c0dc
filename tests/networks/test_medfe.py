"""MEDFE: feature equalisation by hand, masked partial convolutions, and both readings of the release."""

import math

import pytest
import torch
from torch.testing import assert_close

from src.networks.medfe import MEDFE, FeatureEqualisation, by_position, released_medfe, untransposed


def make_equalisation() -> tuple[FeatureEqualisation, torch.Tensor]:
    torch.manual_seed(0)
    return FeatureEqualisation(6, 4, by_position).eval(), torch.randn(2, 6, 5, 4)


def test_spatial_mean_is_a_gaussian_mean_over_the_whole_map():
    layer, x = make_equalisation()
    expected = torch.zeros_like(x)
    for i in range(5):
        for j in range(4):
            weights = {
                (p, q): math.exp(-((p - i) ** 2 + (q - j) ** 2) / (2 * 1.5**2)) for p in range(5) for q in range(4)
            }
            for (p, q), weight in weights.items():
                expected[..., i, j] += weight / sum(weights.values()) * x[..., p, q]
    assert_close(layer._spatial_mean(x), expected)


def test_range_mean_weights_the_neighbours_by_their_similarity():
    layer, x = make_equalisation()
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    similar = torch.nn.functional.pad(x.sigmoid(), (1, 1, 1, 1))
    i, j = 0, 2  # at the border: three neighbours are padding
    window = [(p, q) for p in range(i, i + 3) for q in range(j, j + 3)]
    scores = torch.stack([(similar[..., i + 1, j + 1] * similar[..., p, q]).mean(1) for p, q in window])
    values = torch.stack([padded[..., p, q] for p, q in window])
    assert_close(layer._range_mean(x)[..., i, j], (scores.softmax(0)[..., None] * values).sum(0))


def test_the_release_mixes_positions_and_channels():
    x = torch.arange(24.0).view(1, 2, 3, 4)
    assert_close(by_position(x)[0, 1], x[0, ..., 1])
    assert_close(untransposed(x).flatten(), x.flatten())
    assert untransposed(x).shape == by_position(x).shape == (1, 4, 2, 3)


@pytest.mark.parametrize("masked", [True, False])
def test_partial_convolutions_get_the_mask(masked):
    """The cells of the features that are known, at an eighth of the size."""
    torch.manual_seed(0)
    network, seen = released_medfe(width=1 / 16, masked=masked).eval(), []
    network.mutual.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    mask = torch.ones(1, 1, 64, 128)
    mask[..., 16:40, 32:] = 0
    with torch.no_grad():
        network(torch.rand(1, 3, 64, 128), mask)
    expected = torch.ones(1, 1, 8, 16)
    if masked:
        expected[..., 2:5, 4:] = 0
    assert torch.equal(seen[0], expected)


def test_images_of_the_features_are_in_the_range_of_images():
    torch.manual_seed(0)
    output = MEDFE(width=1 / 16).eval()(torch.rand(1, 3, 70, 64), torch.ones(1, 1, 70, 64))
    assert output.prediction.shape == (1, 3, 70, 64)
    for part in ("structure", "texture"):
        assert output.parts[part].shape == (1, 3, 16, 8)  # of the padded image
        assert 0 <= output.parts[part].min() <= output.parts[part].max() <= 1


def test_the_deepest_features_of_small_images_still_learn():
    """At 64 px they have a single position, which instance norm would set to a constant."""
    network = MEDFE(width=1 / 16).train()
    network(torch.rand(2, 3, 64, 64), torch.ones(2, 1, 64, 64)).prediction.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in network.middle.parameters())
