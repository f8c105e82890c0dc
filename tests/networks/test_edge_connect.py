"""EdgeConnect: which edges guide the inpainting, and the parts of its objective that other models lack."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from src.common.errors import InputError
from src.losses.adversarial import ScoreTerm
from src.losses.edges import composite_edges
from src.losses.inputs import LossInput
from src.losses.objectives import NonSaturating
from src.losses.reconstruction import HoleNormalisedL1
from src.networks.discriminators.patches import ImagePatchDiscriminator
from src.networks.edge_connect import EdgeConnect, EdgeConnectGenerator
from src.networks.interface import InpaintingOutput
from src.networks.layers.edge_completion import keep_predicted
from src.networks.mecnet import MECNet


def make_inputs():
    torch.manual_seed(0)
    image, mask = torch.rand(2, 3, 32, 48), torch.ones(2, 1, 32, 48)
    mask[:, :, 8:20, 10:30] = 0
    return image, mask, (torch.rand(2, 1, 32, 48) > 0.9).float()


def make_network(**parts):
    torch.manual_seed(0)
    return EdgeConnect(MECNet(1 / 16, scales=1, blocks=1), EdgeConnectGenerator(1 / 16, blocks=1), **parts).eval()


@torch.no_grad()
def test_known_edges_are_kept_unless_the_release_is_followed():
    image, mask, edges = make_inputs()
    paper, release = make_network(), make_network(combine=keep_predicted)
    predicted, _ = paper.complete_edges(image, mask, edges)
    one, other = (network.inpaint_from_known(image * mask, mask, edges) for network in (paper, release))
    assert_close(one.edges, torch.where(mask > 0, edges, predicted))
    assert_close(other.edges, predicted)
    for output in (one, other):
        assert_close(output.prediction, paper(image, mask, output.edges).prediction)
    assert not torch.equal(one.prediction, other.prediction)


def test_generator_alone_requires_edges():
    image, mask, edges = make_inputs()
    network = EdgeConnectGenerator(1 / 16, blocks=1)
    with pytest.raises(InputError, match="or use EdgeConnect, which predicts them"):
        network(image, mask)
    assert not torch.equal(network(image, mask, edges).prediction, network(image, mask, 1 - edges).prediction)


def test_l1_is_divided_by_the_mean_hole_ratio():
    image, mask, _ = make_inputs()
    mask[1] = 1
    mask[1, :, :1, :2] = 0
    inputs = LossInput(image, mask, InpaintingOutput(image + 0.1))
    assert_close(HoleNormalisedL1()(inputs), 0.1 / (1 - mask).mean())
    without_hole = LossInput(image, torch.ones_like(mask), InpaintingOutput(image + 0.1))
    assert HoleNormalisedL1()(without_hole).isfinite()


def test_discriminator_is_conditioned_on_composite_edges():
    image, mask, edges = make_inputs()
    predicted = torch.rand(2, 1, 32, 48, requires_grad=True)
    critic = ImagePatchDiscriminator(width=1 / 16).eval()  # without power iterations
    term = ScoreTerm(critic, {"dcgan": NonSaturating()}, condition=composite_edges)
    inputs = LossInput(image, mask, InpaintingOutput(image.flip(0), edges=predicted), edges=edges)
    expected = torch.where(mask > 0, edges, predicted.detach())
    assert_close(composite_edges(inputs), expected)
    assert_close(term(inputs), nn.functional.softplus(-critic(image.flip(0), expected)).mean())
    term.critic_loss(inputs)[0].backward()
    assert predicted.grad is None
    on_true_edges = LossInput(image, mask, InpaintingOutput(image), edges=edges)
    assert_close(composite_edges(on_true_edges), edges)
    with pytest.raises(InputError, match="needs true edges"):
        composite_edges(LossInput(image, mask, InpaintingOutput(image)))


def test_released_discriminator_ignores_edges():
    image, _, edges = make_inputs()
    critic = ImagePatchDiscriminator(edge_channels=0, width=1 / 16).eval()
    assert torch.equal(critic(image, edges), critic(image, 1 - edges))
