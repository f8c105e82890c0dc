import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from src.common.errors import InputError
from src.losses.edges import EdgeCompletionLoss, WeightedCrossEntropy, complete_gray, cross_entropy_of
from src.losses.inputs import LossInput
from src.networks.discriminators.patches import PatchDiscriminator
from src.networks.interface import InpaintingOutput


class TwoLayers(nn.Module):
    """Layer 1 repeats the edges four times, scores are `gain` times the edges; records its inputs."""

    def __init__(self, gain: float = 2.0) -> None:
        super().__init__()
        self.gain, self.seen = nn.Parameter(torch.tensor(gain)), []

    def forward(self, edges: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append((edges.detach(), image))
        return edges.expand(-1, 4, -1, -1), self.gain * edges


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


def make_step(predicted: float = 0.75, pyramid: tuple[Tensor, ...] = ()) -> LossInput:
    """Every pixel is an edge, predicted as 0.75; the left half is a hole."""
    mask = torch.ones(2, 1, 4, 6)
    mask[..., :3] = 0.0
    edges = torch.full((2, 1, 4, 6), predicted, requires_grad=True)
    output = InpaintingOutput(torch.rand(2, 3, 4, 6), edges=edges, edge_pyramid=pyramid)
    return LossInput(torch.rand(2, 3, 4, 6), mask, output, edges=torch.ones(2, 1, 4, 6))


def test_both_sides_by_hand():  # scores are 2 for true edges and 1.5 for predicted ones; layers differ by 0.25 and 0.5
    inputs, term = make_step(), EdgeCompletionLoss(TwoLayers(), matching_weight=10.0)
    assert_close(term(inputs), torch.tensor(softplus(-1.5) + 10 * (0.25 + 0.5)))
    total, parts = term.critic_loss(inputs)
    assert_close(total, torch.tensor(softplus(-2.0) + softplus(1.5)))
    expected = {"critic_real": 2.0, "critic_fake": 1.5, "critic_won": 0.0, "critic_lost": 0.0}
    assert_close(parts, {name: torch.tensor(value) for name, value in expected.items()})


def test_each_loss_updates_only_its_network():
    inputs, term = make_step(), EdgeCompletionLoss(TwoLayers())
    total, parts = term.critic_loss(inputs)
    total.backward()
    assert inputs.output.edges.grad is None
    assert term.critic.gain.grad is not None
    assert not any(part.requires_grad for part in parts.values())
    term.critic.gain.grad = None
    term(inputs).backward()
    assert (inputs.output.edges.grad < 0).all()  # larger values are more real, and closer to the true features
    # the true edges' features are constant: d/dgain of softplus(-gain e) + 10 |gain e - 2|
    assert_close(term.critic.gain.grad, torch.tensor(-0.75 / (1 + math.exp(1.5)) - 10 * 0.75))


def test_critic_gets_corrupted_image_without_hole_pixels():
    inputs, term = make_step(), EdgeCompletionLoss(TwoLayers())
    values = term(inputs), term.critic_loss(inputs)[0]
    for _, image in term.critic.seen:
        assert torch.equal(image, inputs.image * inputs.mask)
    assert len(term.critic.seen) == 4
    inputs.image[..., :3] = 0.5
    assert_close((term(inputs), term.critic_loss(inputs)[0]), values)


def test_released_critic_gets_complete_gray_image():
    inputs, term = make_step(), EdgeCompletionLoss(TwoLayers(), condition=complete_gray)
    term(inputs), term.critic_loss(inputs)
    red, green, blue = inputs.image.unbind(1)
    for _, image in term.critic.seen:
        assert_close(image[:, 0], 0.299 * red + 0.587 * green + 0.114 * blue)


def test_cross_entropy_by_hand():
    inputs, term = make_step(predicted=0.75), WeightedCrossEntropy(edge_weight=3.0)
    inputs.edges[0, :, 0, 0] = 0.0  # one of the first image's 12 hole pixels has no edge
    inputs.mask[:, :, :, 3:4] = 0.0  # 16 hole pixels and 8 known ones
    inputs.mask[1] = 1.0  # the second image has no hole
    edge, none = 3 * -math.log(0.75), -math.log(0.25)
    assert_close(term(inputs), torch.tensor((((15 * edge + none) / 16 + edge) + edge) / 2))
    term(inputs).backward()
    gradient = inputs.output.edges.grad
    assert gradient[0, 0, 0, 0] > 0 > gradient[0, 0, 1, 0]
    assert_close(gradient[0, 0, 0, 5], 2 * gradient[0, 0, 1, 0])  # half as many pixels, so each counts twice


def test_cross_entropy_minimum_matches_formula():
    q, weight = 0.25, 3.0  # at p = w q / (w q + 1 - q) = 0.5
    inputs = make_step(predicted=0.5)
    inputs.mask[:] = 0.0
    inputs.edges[:] = 0.0
    inputs.edges[..., :3, :2] = 1.0  # a quarter of 4 x 6 hole pixels
    assert inputs.edges.mean() == q
    WeightedCrossEntropy(weight)(inputs).backward()
    assert_close(inputs.output.edges.grad.sum(), torch.tensor(0.0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("certain", [0.0, 1.0])
def test_cross_entropy_of_0_and_1_is_finite(certain):
    inputs = make_step(predicted=certain)
    inputs.edges[:] = 1 - certain
    loss = WeightedCrossEntropy(3.0)(inputs)
    loss.backward()
    assert loss.isfinite()
    assert inputs.output.edges.grad.isfinite().all()


def test_cross_entropy_is_disabled_without_weight():
    assert cross_entropy_of(None) is None
    assert cross_entropy_of(2.0).edge_weight == 2.0
    with pytest.raises(InputError, match="edge_weight of the edge cross entropy must be above 0, got 0"):
        cross_entropy_of(0.0)


def test_objective_is_summed_over_scales():
    small = torch.full((2, 1, 2, 3), 0.25, requires_grad=True)
    inputs, term = make_step(pyramid=(small,)), EdgeCompletionLoss(TwoLayers())
    inputs.edges[:] = 0.0
    inputs.edges[..., 1, 0] = 1.0  # one edge pixel, which the small scale must keep
    alone = make_step()
    alone.edges[:] = inputs.edges
    finest = EdgeCompletionLoss(TwoLayers())(alone), EdgeCompletionLoss(TwoLayers()).critic_loss(alone)[0]

    # enlarged, 4 of 24 pixels are an edge; the scores of the small scale are 2 or 0 for true and 0.5 for predicted ones
    matching = (4 * 0.75 + 20 * 0.25) / 24 * (1 + 2)
    assert_close(term(inputs) - finest[0], torch.tensor(softplus(-0.5) + 10 * matching))
    true = (4 * softplus(-2.0) + 20 * softplus(0.0)) / 24
    assert_close(term.critic_loss(inputs)[0] - finest[1], torch.tensor(true + softplus(0.5)))
    shown, image = term.critic.seen[0]
    assert shown.shape[-2:] == image.shape[-2:] == (4, 6)
    assert shown[0, 0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    term(inputs).backward()
    assert (small.grad != 0).all()


@pytest.mark.parametrize("missing", ["edges", "output"])
def test_rejects_missing_edges(missing):
    inputs = make_step()
    if missing == "edges":
        inputs.edges = None
    else:
        inputs.output = InpaintingOutput(inputs.output.prediction)
    for side in (
        EdgeCompletionLoss(TwoLayers()),
        EdgeCompletionLoss(TwoLayers()).critic_loss,
        WeightedCrossEntropy(1.0),
    ):
        with pytest.raises(InputError, match="a loss term on edges needs"):
            side(inputs)


@pytest.mark.parametrize("known", [0.0, 1.0])
@pytest.mark.parametrize("autocast", [False, True])
def test_losses_with_discriminator_are_finite(known, autocast):
    torch.manual_seed(0)
    edges = torch.rand(2, 1, 48, 64, requires_grad=True)
    pyramid = tuple(torch.rand(2, 1, 48 // k, 64 // k, requires_grad=True) for k in (8, 4, 2))
    output = InpaintingOutput(torch.rand(2, 3, 48, 64), edges=edges, edge_pyramid=pyramid)
    true = (torch.rand(2, 1, 48, 64) > 0.9).float()
    inputs = LossInput(torch.rand(2, 3, 48, 64), torch.full((2, 1, 48, 64), known), output, edges=true)
    term = EdgeCompletionLoss(PatchDiscriminator(width=1 / 16))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        total = term.critic_loss(inputs)[0] + term(inputs)
    assert total.dtype == torch.float32
    total.backward()
    assert all(t.grad.isfinite().all() and (t.grad != 0).any() for t in (edges, *pyramid, *term.critic.parameters()))
