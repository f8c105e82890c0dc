"""What critic and generator make of a critic's scores: Wasserstein, DCGAN, LSGAN, relativistic hinge, Lorentzian.

Scores are one number an image or a whole volume (B, C, h, w) of them; a mean is over all their elements. A score is
not squashed by a sigmoid: the higher, the more real.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F

from src.common.distributed import mean_over_processes


class Objective(Protocol):
    """Both sides of a game on scores; each side is a scalar to minimise."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the critic minimises, given the scores of real and fake pictures."""

    def generator(self, fake: Tensor, real: Callable[[], Tensor]) -> Tensor:
        """What the generator minimises; real() scores the real pictures, for those who compare with them."""

    def won(self, real: Tensor, fake: Tensor, reach: Tensor) -> Tensor | None:
        """The share of the scores that leave the critic nothing to learn, a scalar in [0, 1]; None without a contest.

        At 1 the generator is beaten: a critic that has no slope left teaches it nothing, or has left its bounds.

        Args:
            reach: how far apart the scores of each picture and of its inpainting may lie; see `ScoreTerm`.
        Shapes:
            real, fake (B, ...), as for `critic`; reach (B,).
        """

    def lost(self, real: Tensor, fake: Tensor) -> Tensor | None:
        """Return the share of the scores that prefer the fake image, a scalar in [0, 1]; None without a contest.

        A critic at chance has about 0.5. At 1 it scores every fake above its real image, so the generator follows a
        gradient that leads away from real images.

        Shapes:
            real, fake (B, ...), as for `critic`.
        """


class Wasserstein:
    """Critic: mean D(fake) - mean D(real); generator: - mean D(fake).

    Source: Gulrajani et al., NeurIPS 2017, Algorithm 1; its gradient penalty is `GradientPenalty`.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """The critic's side."""
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor, real: Callable[[], Tensor]) -> Tensor:
        """The generator's side."""
        return -fake.mean()

    def won(self, real: Tensor, fake: Tensor, reach: Tensor) -> Tensor:
        """The share of pairs whose gap is more than twice their reach: it saturates nowhere, but may run away."""
        return (_gap(real, fake) > 2 * reach).float().mean()

    def lost(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the share of pairs whose fake image has the higher mean score."""
        return (_gap(real, fake) < 0).float().mean()


class NonSaturating:
    """Critic: - mean log s(D(real)) - mean log(1 - s(D(fake))); generator: - mean log s(D(fake)); s the sigmoid.

    Source: Goodfellow et al., NeurIPS 2014, Sec. 3; the loss of DCGAN (Radford et al., ICLR 2016).
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """The critic's side."""
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator(self, fake: Tensor, real: Callable[[], Tensor]) -> Tensor:
        """The generator's side."""
        return F.softplus(-fake).mean()

    def won(self, real: Tensor, fake: Tensor, reach: Tensor) -> Tensor:
        """The share that the critic is sure of: 0.95 or more for its true side."""
        return _mean_of_both(real.sigmoid() >= 0.95, fake.sigmoid() <= 0.05)

    def lost(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the share of scores that are higher for the fake image than for its real one."""
        return (fake > real).float().mean()


class LeastSquares:
    """Critic: mean (D(real) - 1)^2 / 2 + mean D(fake)^2 / 2; generator: mean (D(fake) - 1)^2 / 2.

    Source: LSGAN (Mao et al., ICCV 2017), Eq. 9.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """The critic's side."""
        return ((real - 1).square().mean() + fake.square().mean()) / 2

    def generator(self, fake: Tensor, real: Callable[[], Tensor]) -> Tensor:
        """The generator's side."""
        return (fake - 1).square().mean() / 2

    def won(self, real: Tensor, fake: Tensor, reach: Tensor) -> Tensor:
        """The share that is nearer to its target than to the undecided 1/2."""
        return _mean_of_both((real - 1).abs() < 0.25, fake.abs() < 0.25)

    def lost(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the share of scores that are higher for the fake image than for its real one."""
        return (fake > real).float().mean()


class RelativisticAverageHinge:
    """Each score against the mean score of the other side: is it more real than they are on average?

    r = D(real) - mean D(fake);  f = D(fake) - mean D(real)                     (Eqs. 16, 17)
    critic:     scale * (mean max(0, 1 - r) + mean max(0, 1 + f))               (Eq. 14)
    generator:  scale * (mean max(0, 1 - f) + mean max(0, 1 + r))               (Eq. 15)

    Source: MPGA/GLA (Sensors 2020), Sec. 3.4, after Jolicoeur-Martineau, ICLR 2019.
    Decision where the paper is silent: the expectations are means over the batch, the channels and the places; where
    several processes hold parts of a batch, over all of it.

    Args:
        scale: 1 as printed; the release halves both sides.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """The critic's side."""
        return self._hinge(real - mean_over_processes(fake), fake - mean_over_processes(real))

    def generator(self, fake: Tensor, real: Callable[[], Tensor]) -> Tensor:
        """The generator's side: the critic's with real and fake exchanged."""
        return self.critic(fake, real())

    def won(self, real: Tensor, fake: Tensor, reach: Tensor) -> Tensor:
        """The share past the half of its margin; the whole, where the hinge is 0, is where `Lorentzian` pulls back."""
        lifted, lowered = real - mean_over_processes(fake), fake - mean_over_processes(real)
        return _mean_of_both(lifted > 0.5, lowered < -0.5)

    def lost(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the share of scores on the wrong side of the other images' mean score."""
        return _mean_of_both(real < mean_over_processes(fake), fake > mean_over_processes(real))

    def _hinge(self, lifted: Tensor, lowered: Tensor) -> Tensor:
        return self.scale * (F.relu(1 - lifted).mean() + F.relu(1 + lowered).mean())


class Lorentzian:
    """mean log(1 + |D(real) - D(fake)|), which both sides minimise.

    Source: MPGA/GLA (Sensors 2020), Eqs. 18 to 20: log(1 + |P - Q|) "for both the generator and discriminator".
    Decision where the paper is vague, as the release: P and Q, "the distributions of the real data and generated data",
    are the critic's scores of a picture and of its own inpainting, element by element. As printed, the critic's side
    has the same sign as the generator's and so holds the critic back: it is rewarded for telling the two less apart.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """The critic's side."""
        return (real - fake).abs().log1p().mean()

    def generator(self, fake: Tensor, real: Callable[[], Tensor]) -> Tensor:
        """The generator's side."""
        return self.critic(real(), fake)

    def won(self, real: Tensor, fake: Tensor, reach: Tensor) -> None:
        """None: both sides want the same."""

    def lost(self, real: Tensor, fake: Tensor) -> None:
        """Return None: both sides want the same."""


def _gap(real: Tensor, fake: Tensor) -> Tensor:
    """Return by how much each real image is scored above its fake one, (B,)."""
    return (real - fake).reshape(len(real), -1).mean(dim=1)


def _mean_of_both(real: Tensor, fake: Tensor) -> Tensor:
    """Of two volumes of truths the shares that are true, averaged."""
    return (real.float().mean() + fake.float().mean()) / 2
