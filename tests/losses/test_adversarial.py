import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from src.losses.adversarial import WassersteinGP, gradient_penalty
from src.losses.inputs import LossInput
from src.networks.interface import InpaintingOutput


class Linear(nn.Module):
    """D(x) = slope * <direction, x>, the direction of length 1: its gradient has norm |slope| everywhere."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope, self.calls = nn.Parameter(torch.tensor(slope)), 0

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        self.calls += 1
        return self.slope * image.flatten(1).sum(dim=1) / math.sqrt(image[0].numel())


class Tanh(nn.Module):
    """D(x, m) = <a, tanh(b * x)> * mean(m): its gradient is a * b * (1 - tanh(b x)^2) * mean(m)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(3, 4, 5)), nn.Parameter(torch.randn(3, 4, 5))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return (self.a * torch.tanh(self.b * image)).flatten(1).sum(dim=1) * mask.mean(dim=(1, 2, 3))


def step(real: float, fake: float) -> tuple[LossInput, Tensor]:
    prediction = torch.full((2, 3, 4, 5), fake, requires_grad=True)
    mask = torch.zeros(2, 1, 4, 5)
    return LossInput(torch.full((2, 3, 4, 5), real), mask, InpaintingOutput(prediction), None), prediction


@pytest.mark.parametrize("slope", [0.0, 1.0, 3.0, -2.0])
def test_penalty_of_a_linear_critic(slope):
    critic = Linear(slope)
    penalty = gradient_penalty(critic, torch.rand(4, 3, 6, 8), torch.rand(4, 3, 6, 8), torch.ones(4, 1, 6, 8))
    assert_close(penalty, torch.tensor((abs(slope) - 1) ** 2))
    penalty.backward()
    at_slope = 2 * (abs(slope) - 1) * math.copysign(1, slope) if slope else 0.0
    assert_close(critic.slope.grad, torch.tensor(at_slope), atol=1e-5, rtol=0)  # 0, not NaN, where the slope is 0


def test_penalty_equals_the_formula_worked_out(monkeypatch):
    torch.manual_seed(0)
    critic, real, fake = Tanh(), torch.rand(3, 3, 4, 5), torch.rand(3, 3, 4, 5)
    mask = (torch.rand(3, 1, 4, 5) > 0.5).float()
    t = torch.tensor([0.2, 0.5, 0.9]).view(3, 1, 1, 1)
    monkeypatch.setattr(torch, "rand", lambda *shape, device: t if shape == (3, 1, 1, 1) else None)
    mixed = t * real + (1 - t) * fake
    slope = critic.a * critic.b * (1 - torch.tanh(critic.b * mixed) ** 2) * mask.mean(dim=(1, 2, 3)).view(3, 1, 1, 1)
    by_hand = (((slope**2).flatten(1).sum(dim=1).sqrt() - 1) ** 2).mean()
    penalty = gradient_penalty(critic, real, fake, mask)
    assert_close(penalty, by_hand)
    ours = torch.autograd.grad(penalty, list(critic.parameters()))
    assert_close(ours, torch.autograd.grad(by_hand, list(critic.parameters())))


def test_penalty_is_in_float32_under_autocast():
    class Conv(nn.Conv2d):
        def forward(self, image: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(image)

    torch.manual_seed(0)
    critic, real, fake = Conv(3, 4, 3), torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    # a linear critic's slope is the same wherever it is taken
    (slope,) = torch.autograd.grad(critic(real.requires_grad_(), torch.ones(2, 1, 8, 8)).sum(), real)
    expected = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        penalty = gradient_penalty(critic, real, fake.bfloat16(), torch.ones(2, 1, 8, 8))
    assert penalty.dtype == torch.float32
    assert_close(penalty, expected)


def test_signs():  # Eq. 17: the critic tells real (score 1) above fake (score 0.25), the generator lifts its own score
    critic = Linear(1 / math.sqrt(60))  # the mean of all values
    inputs, _ = step(real=1.0, fake=0.25)
    term = WassersteinGP(critic, penalty_weight=10.0)
    total, parts = term.critic_loss(inputs)
    penalty = (1 / math.sqrt(60) - 1) ** 2
    assert_close(parts["critic_real"], torch.tensor(1.0))
    assert_close(parts["critic_fake"], torch.tensor(0.25))
    assert_close(parts["gradient_penalty"], torch.tensor(penalty))
    assert_close(total, torch.tensor(0.25 - 1.0 + 10 * penalty))
    assert_close(term(inputs), torch.tensor(-0.25))
    assert not any(part.requires_grad for part in parts.values())


def test_one_descent_of_each_goes_the_right_way():
    critic = Linear(0.5)
    inputs, prediction = step(real=1.0, fake=0.25)
    term = WassersteinGP(critic, penalty_weight=1e-6)
    term.critic_loss(inputs)[0].backward()
    assert prediction.grad is None  # the critic's loss has no path to the generator
    assert critic.slope.grad < 0  # a step against it raises D(real) - D(fake)
    term(inputs).backward()
    assert (prediction.grad < 0).all()  # a step against it raises the prediction's score


def test_real_and_fake_are_scored_once_each():
    critic = Linear(1.0)
    WassersteinGP(critic).critic_loss(step(1.0, 0.0)[0])
    assert critic.calls == 3  # and once for the penalty


def test_the_critic_sees_the_view_it_was_given():
    inputs, _ = step(real=1.0, fake=0.25)
    inputs.mask[:] = 1.0  # everything is known: the composite is the truth
    critic = Linear(1 / math.sqrt(60))
    assert_close(WassersteinGP(critic, view="composite")(inputs), torch.tensor(-1.0))
    assert_close(WassersteinGP(critic, view="prediction")(inputs), torch.tensor(-0.25))
