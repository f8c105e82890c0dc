"""Each objective by hand: scores of two real images are 2 and 0, those of two fake ones -1 and 0.5."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from src.losses.objectives import (
    Hinge,
    LeastSquares,
    LeastSquaresMatching,
    Lorentzian,
    NonSaturating,
    RelativisticAverageHinge,
    RelativisticAverageLeastSquares,
    Wasserstein,
)

OBJECTIVES = (
    Wasserstein,
    NonSaturating,
    LeastSquares,
    LeastSquaresMatching,
    Hinge,
    RelativisticAverageHinge,
    RelativisticAverageLeastSquares,
    Lorentzian,
)


def log_sigmoid(x: float) -> float:
    return math.log(1 / (1 + math.exp(-x)))


def scores() -> tuple[Tensor, Tensor]:
    return torch.tensor([2.0, 0.0], requires_grad=True), torch.tensor([-1.0, 0.5], requires_grad=True)


# The mean real score is 1 and the mean fake score -0.25, so that in Eqs. 16 and 17
# r = (2.25, 0.25) and f = (-2, -0.5).
HAND = {
    Wasserstein: (-0.25 - 1.0, 0.25),
    NonSaturating: (
        -(log_sigmoid(2) + log_sigmoid(0)) / 2 - (log_sigmoid(1) + log_sigmoid(-0.5)) / 2,
        -(log_sigmoid(-1) + log_sigmoid(0.5)) / 2,
    ),
    LeastSquares: ((1 + 1) / 4 + (1 + 0.25) / 4, (4 + 0.25) / 4),
    LeastSquaresMatching: ((1 + 1) / 4 + (1 + 0.25) / 4, (9 + 0.25) / 4),
    Hinge: (((0 + 1) / 2 + (0 + 1.5) / 2) / 2, 0.25),
    RelativisticAverageLeastSquares: (
        ((1.25**2 + 0.75**2) / 2 + (1 + 0.5**2) / 2) / 2,
        ((3**2 + 1.5**2) / 2 + (3.25**2 + 1.25**2) / 2) / 2,
    ),
    RelativisticAverageHinge: ((0 + 0.75) / 2 + (0 + 0.5) / 2, (3 + 1.5) / 2 + (3.25 + 1.25) / 2),
    Lorentzian: ((math.log(4) + math.log(1.5)) / 2,) * 2,
}


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda cls: cls.__name__)
def test_both_sides_by_hand(objective):
    real, fake = scores()
    critic, generator = HAND[objective]
    assert_close(objective().critic(real, fake), torch.tensor(critic))
    assert_close(objective().generator(fake, lambda: real), torch.tensor(generator))


@pytest.mark.parametrize(
    "objective", [o for o in OBJECTIVES if o not in (Lorentzian, LeastSquaresMatching)], ids=lambda cls: cls.__name__
)
def test_critic_separates_real_and_fake_and_generator_raises_fake(objective):
    real, fake = torch.tensor([0.3, 0.2], requires_grad=True), torch.tensor([0.1, 0.4], requires_grad=True)
    on_real, on_fake = torch.autograd.grad(objective().critic(real, fake), (real, fake))
    assert (on_real < 0).all()
    assert (on_fake > 0).all()
    (on_fake,) = torch.autograd.grad(objective().generator(fake, real.detach), fake)
    assert (on_fake < 0).all()


def test_lorentzian_pulls_paired_scores_together():
    real, fake = scores()
    for loss in (Lorentzian().critic(real, fake), Lorentzian().generator(fake, lambda: real)):
        on_real, on_fake = torch.autograd.grad(loss, (real, fake))
        # d/dx log(1 + x) / 2, towards each other
        assert_close(on_fake, torch.tensor([-1 / 4, 1 / 1.5]) / 2)
        assert_close(on_real, torch.tensor([1 / 4, -1 / 1.5]) / 2)


def test_generator_hinge_has_gradient_through_fake_mean():  # Eq. 15 has them only in E[C(x_f)]
    real, fake = torch.tensor([0.0]), torch.tensor([5.0, 0.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(RelativisticAverageHinge().generator(fake, lambda: real), fake)
    # r = 0 - 2.5 is beyond the margin; f = (5, 0): only the second is within it
    assert_close(gradient, torch.tensor([0.0, -0.5]))
    fake = torch.tensor([1.5, 0.0], requires_grad=True)  # r = -0.75: -1/2 for both; f = (1.5, 0)
    (gradient,) = torch.autograd.grad(RelativisticAverageHinge().generator(fake, lambda: real), fake)
    assert_close(gradient, torch.tensor([-0.5, -1.0]))


def test_released_hinge_is_halved():
    real, fake = scores()
    full, half = RelativisticAverageHinge(), RelativisticAverageHinge(scale=0.5)
    assert_close(2 * half.critic(real, fake), full.critic(real, fake))
    assert_close(2 * half.generator(fake, lambda: real), full.generator(fake, lambda: real))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda cls: cls.__name__)
def test_volumes_are_averaged_over_elements(objective):
    torch.manual_seed(0)
    real, fake = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    assert_close(objective().critic(real, fake), objective().critic(real.flatten(), fake.flatten()))
    generators = [objective().generator(*pair) for pair in ((fake, lambda: real), (fake.flatten(), real.flatten))]
    assert_close(*generators)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda cls: cls.__name__)
def test_extreme_and_equal_scores_have_finite_values_and_gradients(objective):
    for value in (0.0, 1e4, -1e4):
        real, fake = (torch.full((3,), v, requires_grad=True) for v in (value, 0.0))
        for loss in (objective().critic(real, fake), objective().generator(fake, lambda real=real: real)):
            gradients = torch.autograd.grad(loss, (real, fake), allow_unused=True)
            assert loss.isfinite()
            assert all(g is None or g.isfinite().all() for g in gradients)


@pytest.mark.parametrize(
    ("objective", "real", "fake", "won"),
    [
        # won from a probability of 0.95 on, a score of log 19 = 2.944
        (NonSaturating, [2.94, 2.95], [-2.95, -2.94], 0.5),
        (NonSaturating, [9.0, 9.0], [9.0, 9.0], 0.5),  # all classified as real
        (LeastSquares, [0.76, 1.26], [0.24, -0.26], 0.5),
        (LeastSquares, [1.0, 1.0], [0.0, 0.0], 1.0),
        (LeastSquares, [5.0, 5.0], [-5.0, -5.0], 0.0),  # classified correctly, but far from the targets
        # r = (0.45, 0.55) and f = (-0.45, -0.55)
        (RelativisticAverageHinge, [0.45, 0.55], [0.05, -0.05], 0.5),
        (RelativisticAverageHinge, [101.0, 101.0], [100.0, 100.0], 1.0),
        (RelativisticAverageHinge, [0.0, 0.0], [1.0, 1.0], 0.0),
        # gaps of 1 and 3
        (Wasserstein, [2.0, 2.0], [1.0, -1.0], 0.5),
        (Lorentzian, [2.0, 2.0], [1.0, -1.0], None),
    ],
)
def test_critic_won_by_hand(objective, real, fake, won):
    share = objective().won(torch.tensor(real), torch.tensor(fake), torch.tensor([1.0, 1.0]))
    assert share is None if won is None else share == won


@pytest.mark.parametrize(
    ("objective", "real", "fake", "lost"),
    [
        (Wasserstein, [[2.0, 0.0], [2.0, 0.0]], [[1.5, 1.5], [0.5, 0.5]], 0.5),  # means of 1 and 1, of 1.5 and 0.5
        (Wasserstein, [0.018], [0.832], 1.0),
        (NonSaturating, [-3.0, 1.0, 2.0, 2.0], [-2.0, 0.0, 3.0, 2.0], 0.5),
        (LeastSquares, [1.0, 0.0], [0.0, 0.5], 0.5),
        # means of 1 and 1: real scores of 0 and 2, fake ones of 3 and -1
        (RelativisticAverageHinge, [0.0, 2.0], [3.0, -1.0], 0.5),
        (RelativisticAverageHinge, [0.0, 0.0], [1.0, 1.0], 1.0),
        (Lorentzian, [0.0], [1.0], None),
    ],
)
def test_critic_lost_by_hand(objective, real, fake, lost):
    share = objective().lost(torch.tensor(real), torch.tensor(fake))
    assert share is None if lost is None else share == lost
    same = objective().lost(torch.ones(3), torch.ones(3))
    assert same is None if lost is None else same == 0  # undecided, not lost
