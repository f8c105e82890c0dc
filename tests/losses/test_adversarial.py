import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from src.common.errors import InputError
from src.losses.adversarial import GradientPenalty, ScoreTerm, WassersteinGP, gradient_penalty, in_hole
from src.losses.inputs import LossInput
from src.losses.objectives import LeastSquares, Lorentzian, NonSaturating, RelativisticAverageHinge, Wasserstein
from src.networks.discriminators.whole_image import TwoColumnDiscriminator
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


def test_penalty_matches_formula(monkeypatch):
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


def test_signs():  # Eq. 17: the critic separates real (1) from fake (0.25), the generator raises its score
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


def test_one_step_of_each_side_improves_its_objective():
    critic = Linear(0.5)
    inputs, prediction = step(real=1.0, fake=0.25)
    term = WassersteinGP(critic, penalty_weight=1e-6)
    term.critic_loss(inputs)[0].backward()
    assert prediction.grad is None  # the critic's loss has no path to the generator
    assert critic.slope.grad < 0  # a step against it raises D(real) - D(fake)
    term(inputs).backward()
    assert (prediction.grad < 0).all()  # a step against it raises the prediction's score


def test_critic_scores_real_and_fake_once():
    critic = Linear(1.0)
    WassersteinGP(critic).critic_loss(step(1.0, 0.0)[0])
    assert critic.calls == 3  # and once for the penalty


def test_critic_gets_configured_view():
    inputs, _ = step(real=1.0, fake=0.25)
    inputs.mask[:] = 1.0  # everything is known: the composite is the truth
    critic = Linear(1 / math.sqrt(60))
    assert_close(WassersteinGP(critic, view="composite")(inputs), torch.tensor(-1.0))
    assert_close(WassersteinGP(critic, view="prediction")(inputs), torch.tensor(-0.25))


class Weighted(nn.Module):
    """D(x) = <weight, x> / 2: its gradient is weight / 2 everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, 5))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return (self.weight * image).flatten(1).sum(dim=1) / 2


def test_hole_penalty_uses_only_each_samples_hole():
    torch.manual_seed(0)
    critic, mask = Weighted(), (torch.rand(3, 1, 4, 5) > 0.5).float()
    mask[2] = 1.0  # no hole at all
    penalty = gradient_penalty(critic, torch.rand(3, 3, 4, 5), torch.rand(3, 3, 4, 5), mask, in_hole)
    norms = [math.sqrt(((critic.weight / 2) ** 2 * (1 - m)).sum().item()) for m in mask]
    assert norms[0] != norms[1]
    assert norms[2] == 0
    assert_close(penalty, torch.tensor(sum((norm - 1) ** 2 for norm in norms) / 3))


def test_hole_penalty_ignores_slopes_outside_hole():
    torch.manual_seed(0)
    critic, mask, real, fake = Weighted(), torch.ones(2, 1, 4, 5), torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    mask[..., 1:3, 2:] = 0.0
    penalty = gradient_penalty(critic, real, fake, mask, in_hole)
    penalty.backward()
    assert (critic.weight.grad[:, mask[0, 0] == 1] == 0).all()
    assert (critic.weight.grad[:, mask[0, 0] == 0] != 0).all()
    critic.weight.data[:, mask[0, 0] == 1] = 1e3
    assert_close(gradient_penalty(critic, real, fake, mask, in_hole), penalty)
    assert gradient_penalty(critic, real, fake, mask) > 1e5


def test_penalty_without_hole_is_constant_with_finite_gradient():
    critic = Weighted()
    penalty = gradient_penalty(critic, torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5), torch.ones(2, 1, 4, 5), in_hole)
    assert penalty == 1
    penalty.backward()
    assert (critic.weight.grad == 0).all()


def test_batch_penalty_is_mean_over_samples(monkeypatch):
    torch.manual_seed(0)
    critic, real, fake = Tanh(), torch.rand(3, 3, 4, 5), torch.rand(3, 3, 4, 5)
    mask, t = (torch.rand(3, 1, 4, 5) > 0.5).float(), torch.full((1,), 0.3)
    monkeypatch.setattr(torch, "rand", lambda *shape, device: t.expand(shape))
    singles = [gradient_penalty(critic, *(x[i : i + 1] for x in (real, fake, mask)), in_hole) for i in range(3)]
    assert_close(gradient_penalty(critic, real, fake, mask, in_hole), torch.stack(singles).mean())


def test_term_sums_objectives_and_penalty():
    inputs, prediction = step(real=1.0, fake=0.25)
    inputs.mask[..., 2:, :] = 1.0  # the lower half is known
    critic = Linear(1 / math.sqrt(60))  # the mean of all values
    objectives = {"gan": Wasserstein(), "off": None, "squares": LeastSquares()}
    term = ScoreTerm(critic, objectives, GradientPenalty(weight=3.0, part=in_hole))
    total, parts = term.critic_loss(inputs)
    penalty = (math.sqrt(30) / 60 - 1) ** 2
    by_hand = {"gan": 0.25 - 1.0, "squares": 0.25**2 / 2}
    expected = {
        **{f"critic_{name}": value for name, value in by_hand.items()},
        "critic_real": 1.0,
        "critic_fake": 0.25,
        "gradient_penalty": penalty,
        "critic_won": 0.0,
        "critic_lost": 0.0,
    }
    assert_close(parts, {name: torch.tensor(value) for name, value in expected.items()})
    assert_close(total, torch.tensor(sum(by_hand.values()) + 3 * penalty))
    assert_close(term(inputs), torch.tensor(-0.25 + (0.25 - 1) ** 2 / 2))
    total.backward()
    assert prediction.grad is None


def test_critic_and_penalty_get_composites_if_configured():
    torch.manual_seed(0)
    critic, seen = Weighted(), []
    critic.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    mask = (torch.rand(2, 1, 4, 5) > 0.5).float()
    inputs = LossInput(torch.rand(2, 3, 4, 5), mask, InpaintingOutput(torch.rand(2, 3, 4, 5)))
    ScoreTerm(critic, {"gan": Wasserstein()}, GradientPenalty(), view="composite").critic_loss(inputs)
    truth, ours, mixed = seen
    assert torch.equal(truth, inputs.image)
    assert torch.equal(ours, inputs.get_image("composite"))
    known = mask.expand_as(truth) == 1
    assert_close(mixed[known], truth[known])
    assert (mixed[~known] != truth[~known]).all()


@pytest.mark.parametrize(
    ("objectives", "passes"),
    [
        ({"gan": Wasserstein(), "dcgan": NonSaturating(), "lsgan": LeastSquares()}, 1),
        ({"hinge": RelativisticAverageHinge(), "lorentzian": Lorentzian()}, 2),
    ],
)
def test_generator_step_scores_real_images_only_if_needed(objectives, passes):
    critic, (inputs, prediction) = Linear(0.1), step(real=1.0, fake=0.25)
    value = ScoreTerm(critic, objectives)(inputs)
    assert critic.calls == passes  # once for both objectives
    value.backward()
    assert (prediction.grad < 0).all()


def test_generator_step_has_no_gradient_through_real_scores():
    critic, (inputs, _) = Linear(2.0), step(real=1.0, fake=0.25)
    ScoreTerm(critic, {"lorentzian": Lorentzian()})(inputs).backward()
    # |D(real) - D(fake)| = slope * sqrt(60) * 0.75: with a constant D(real), d/dslope is that of D(fake)
    gap = 2 * math.sqrt(60) * 0.75
    assert_close(critic.slope.grad, torch.tensor(-math.sqrt(60) * 0.25 / (1 + gap)))


def test_rejects_term_without_objectives():
    with pytest.raises(InputError, match=r"are null: to disable it, set loss\.terms\.<name>=null"):
        ScoreTerm(Linear(1.0), {"hinge": None})


@pytest.mark.parametrize("known", [0.0, 1.0])
def test_constant_masks_are_finite_in_half_precision(known):
    class Conv(nn.Conv2d):
        def forward(self, image: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(image)

    torch.manual_seed(0)
    critic, prediction = Conv(3, 4, 3), torch.rand(2, 3, 8, 8, requires_grad=True)
    inputs = LossInput(torch.rand(2, 3, 8, 8), torch.full((2, 1, 8, 8), known), InpaintingOutput(prediction))
    objectives = {cls.__name__: cls() for cls in (NonSaturating, RelativisticAverageHinge, Lorentzian)}
    term = ScoreTerm(critic, objectives, GradientPenalty(part=in_hole), view="composite")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, value = term.critic_loss(inputs)[0], term(inputs)
    assert total.dtype == value.dtype == torch.float32
    (total + value).backward()
    assert prediction.grad.isfinite().all()
    assert (prediction.grad == 0).all() == bool(known)
    assert all(p.grad.isfinite().all() for p in critic.parameters())


@pytest.mark.parametrize("weight", [None, 10.0])
def test_wasserstein_critic_has_won_at_twice_the_reach(weight):
    distance = math.sqrt(60) * 0.75  # of the two images of each pair
    best = 1.0 if weight is None else 1 + distance / (2 * weight)  # slope: s d - lambda (s - 1)^2 at its largest
    penalty = None if weight is None else GradientPenalty(weight)
    for slope, won in {-9.0: 0.0, 1.0: 0.0, 1.95 * best: 0.0, 2.05 * best: 1.0}.items():
        _, parts = ScoreTerm(Linear(slope), {"gan": Wasserstein()}, penalty).critic_loss(step(1.0, 0.25)[0])
        assert parts["critic_won"] == won, slope


def test_critic_won_is_minimum_over_objectives():
    inputs, _ = step(real=1.0, fake=0.0)
    objectives = {"squares": LeastSquares(), "dcgan": NonSaturating(), "lorentzian": Lorentzian()}
    critic = Linear(1 / math.sqrt(60))  # scores of 1 and 0: won for least squares, not for the sigmoid
    assert ScoreTerm(critic, objectives).critic_loss(inputs)[1]["critic_won"] == 0
    assert ScoreTerm(critic, {"squares": LeastSquares()}).critic_loss(inputs)[1]["critic_won"] == 1
    assert "critic_won" not in ScoreTerm(critic, {"lorentzian": Lorentzian()}).critic_loss(inputs)[1]
    assert "critic_lost" not in ScoreTerm(critic, {"lorentzian": Lorentzian()}).critic_loss(inputs)[1]


def test_critic_that_prefers_fakes_has_lost():
    for slope, lost in {1.0: 0.0, -1.0: 1.0}.items():
        _, parts = WassersteinGP(Linear(slope)).critic_loss(step(1.0, 0.25)[0])
        assert (parts["critic_lost"], parts["critic_won"]) == (lost, 0.0)


class Scores(nn.Module):
    """Fixed scores of real images, then of fake ones, then of mixtures."""

    def __init__(self, real: list[float], fake: list[float]) -> None:
        super().__init__()
        self.scores = [torch.tensor(real), torch.tensor(fake)]

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return self.scores.pop(0) if self.scores else image.flatten(1).sum(dim=1)


@pytest.mark.parametrize(
    ("real", "fake", "won", "lost"),
    [
        ([0.97, 0.97], [0.03, 0.1], 0.5, 0.0),  # gaps of 0.94 and 0.87 of a range of 1
        ([0.018, 0.018], [0.832, 0.832], 0.0, 1.0),
    ],
)
def test_bounded_critic_has_won_when_saturated(real, fake, won, lost):
    critic = Scores(real, fake)
    critic.score_range = (0.0, 1.0)
    _, parts = WassersteinGP(critic).critic_loss(step(1.0, 0.25)[0])
    assert_close((parts["critic_won"], parts["critic_lost"]), (torch.tensor(won), torch.tensor(lost)))
    _, unbounded = WassersteinGP(Scores(real, fake)).critic_loss(step(1.0, 0.25)[0])
    assert unbounded["critic_won"] == 0  # the penalty allows gaps of 7 and more here


def test_lbam_critic_declares_score_range():
    critic = TwoColumnDiscriminator(size=8)
    low, high = critic.score_range
    for bias, bound in ((-100.0, low), (100.0, high)):
        critic.score[0].bias.data.fill_(bias)
        assert_close(critic(torch.rand(2, 3, 8, 8), torch.ones(2, 1, 8, 8)), torch.full((2,), bound))
