"""The effective number of attended patches, by hand and for all networks with attention."""

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from src.networks.contextual_attention import CoarseToFine, EncoderDecoder, TwoBranch, released_contextual_attention
from src.networks.layers.contextual_attention import ContextualAttention
from src.networks.layers.effective_patches import effective_patches, effective_patches_in_hole
from src.networks.layers.warping import appearance_flow
from src.networks.mpga_gla import MPGAGLA, convolution_instead, released_mpga_gla


def test_values_known_by_hand():
    weights = torch.zeros(1, 4, 1, 5)
    weights[0, :, 0, 0] = torch.tensor([1.0, 0, 0, 0])
    weights[0, :, 0, 1] = torch.tensor([0.25] * 4)
    weights[0, :, 0, 2] = torch.tensor([0.5, 0, 0.5, 0])
    weights[0, :, 0, 3] = torch.tensor([0.3, 0.1, 0, 0])  # (0.4)^2 / (0.09 + 0.01)
    assert_close(effective_patches(weights), torch.tensor([[[1.0, 4.0, 2.0, 1.6, 0.0]]]))
    assert_close(effective_patches(weights.half() / 8), effective_patches(weights), atol=2e-3, rtol=0)


def test_mean_is_over_cells_with_a_hole_pixel():
    weights = torch.full((3, 4, 2, 2), 0.25)
    weights[:, :, 0, 0] = torch.tensor([1.0, 0, 0, 0])
    mask = torch.ones(3, 1, 8, 8)
    mask[0, 0, 3, 3] = 0  # one pixel of the first cell
    mask[1, 0, 3, 3:5] = 0  # one pixel of each of the first two
    measured = effective_patches_in_hole(weights, mask)
    assert_close(measured[:2], torch.tensor([1.0, 2.5]))
    assert measured[2].isnan()


NETWORKS = {
    "contextual_attention": (CoarseToFine, ["attention"]),
    "contextual_attention_release": (released_contextual_attention, ["attention"]),
    "baseline": (partial(CoarseToFine, refinement=EncoderDecoder), []),
    "flow": (partial(CoarseToFine, refinement=partial(TwoBranch, attention=appearance_flow)), []),
    "mpga_gla": (MPGAGLA, ["coarse_global", "refinement_global", "refinement_local"]),
    "mpga_gla_release": (released_mpga_gla, ["coarse_global", "refinement_global", "refinement_local"]),
    "without_gla": (partial(MPGAGLA, refinement_attention=convolution_instead), ["coarse_global"]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_attention_weights_have_one_channel_per_patch(name):
    make, names = NETWORKS[name]
    network = make(width=1 / 16)
    image, mask = torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    mask[..., 20:44, 24:40] = 0
    with torch.no_grad():
        measured = network.attention_weights(network(image, mask, maps=True).maps)
    assert list(measured) == names
    for weights in measured.values():
        assert weights.min() >= 0
        if "release" not in name:  # its invalid patches' weights are dropped
            assert_close(weights.sum(1), torch.ones_like(weights[:, 0]))
        assert 1 <= float(effective_patches_in_hole(weights, mask)) <= weights.shape[1]


def test_larger_lambda_sharpens_the_attention():
    torch.manual_seed(0)
    features = torch.nn.functional.interpolate(torch.rand(1, 32, 6, 6), size=(16, 16), mode="bilinear")
    known = torch.ones(1, 1, 16, 16)
    known[..., 5:11, 5:11] = 0

    def of(scale):
        scores = ContextualAttention(32, scale=scale, downscale=1).scores(features, features, known)
        return float(effective_patches_in_hole(scores, known))

    values = [of(scale) for scale in (10, 50, 100)]
    assert values == sorted(values, reverse=True)
