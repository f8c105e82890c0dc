"""Adversarial objectives on a critic's scores: Wasserstein, DCGAN, LSGAN, relativistic hinge and Lorentzian.

Scores are one value per image or a volume (B, C, h, w); means are over all elements. Scores are logits: higher is more
real.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from src.common.distributed import mean_over_processes


class Objective(ABC):
    """The losses of critic and generator as functions of scores; both are scalars to minimise."""

    @abstractmethod
    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the critic's loss, given the scores of real and fake images."""

    @abstractmethod
    def generator(self, fake: Tensor, real: Callable[[], Tensor]) -> Tensor:
        """Return the generator's loss; real() computes the scores of real images, for objectives that need them."""

    @abstractmethod
    def won(self, real: Tensor, fake: Tensor, reach: Tensor) -> Tensor | None:
        """Return the ratio of scores from which the critic can learn nothing more, a scalar in [0, 1].

        At 1 the critic has won: its gradient has vanished, or it violates its constraint, so the generator learns
        nothing. None if both sides minimise the same loss.

        Args:
            reach: expected largest score difference between each image and its inpainting, (B,); see `ScoreTerm`.
        """

    def lost(self, real: Tensor, fake: Tensor) -> Tensor | None:
        """Return the ratio of scores that are higher for the fake image than for its real image, a scalar in [0, 1].

        A critic at chance level has about 0.5. At 1 every fake image scores above its real image, so the generator's
        gradient points away from real images. None if both sides minimise the same loss.
        """
        return (fake > real).float().mean()


class Wasserstein(Objective):
    """Critic: mean D(fake) - mean D(real); generator: - mean D(fake).

    Source: Gulrajani et al., NeurIPS 2017, Algorithm 1; its gradient penalty is `GradientPenalty`.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the critic's loss."""
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor, real: Callable[[], Tensor]) -> Tensor:
        """Return the generator's loss."""
        return -fake.mean()

    def won(self, real: Tensor, fake: Tensor, reach: Tensor) -> Tensor:
        """Return the ratio of pairs with a score gap above twice their reach: the critic has diverged there."""
        return (_gap(real, fake) > 2 * reach).float().mean()

    def lost(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the ratio of pairs whose fake image has the higher mean score."""
        return (_gap(real, fake) < 0).float().mean()


class NonSaturating(Objective):
    """Critic: - mean log s(D(real)) - mean log(1 - s(D(fake))); generator: - mean log s(D(fake)); s the sigmoid.

    Source: Goodfellow et al., NeurIPS 2014, Sec. 3; the loss of DCGAN (Radford et al., ICLR 2016).
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the critic's loss."""
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator(self, fake: Tensor, real: Callable[[], Tensor]) -> Tensor:
        """Return the generator's loss."""
        return F.softplus(-fake).mean()

    def won(self, real: Tensor, fake: Tensor, reach: Tensor) -> Tensor:
        """Return the ratio of scores that the critic classifies correctly with a probability of at least 0.95."""
        return _mean_of_both(real.sigmoid() >= 0.95, fake.sigmoid() <= 0.05)


class LeastSquares(Objective):
    """Critic: mean (D(real) - 1)^2 / 2 + mean D(fake)^2 / 2; generator: mean (D(fake) - 1)^2 / 2.

    Source: LSGAN (Mao et al., ICCV 2017), Eq. 9.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the critic's loss."""
        return ((real - 1).square().mean() + fake.square().mean()) / 2

    def generator(self, fake: Tensor, real: Callable[[], Tensor]) -> Tensor:
        """Return the generator's loss."""
        return (fake - 1).square().mean() / 2

    def won(self, real: Tensor, fake: Tensor, reach: Tensor) -> Tensor:
        """Return the ratio of scores that are closer to their target than to 1/2."""
        return _mean_of_both((real - 1).abs() < 0.25, fake.abs() < 0.25)


class LeastSquaresMatching(LeastSquares):
    """Critic: as `LeastSquares`; generator: mean (D(fake) - D(real))^2 / 2, element by element.

    Source: PICNet (Zheng et al., CVPR 2019), Eq. 12: mean feature matching of the last layer, for reconstructions. With
    the same factor as in `LeastSquares`.
    """

    def generator(self, fake: Tensor, real: Callable[[], Tensor]) -> Tensor:
        """Return the generator's loss."""
        return (fake - real()).square().mean() / 2


class Hinge(Objective):
    """Discriminator: (mean max(0, 1 - D(real)) + mean max(0, 1 + D(fake))) / 2; generator: - mean D(fake).

    Source: DeepFill v2 (Yu et al., ICCV 2019), Sec. 3.3; the factor 1/2 is from its release.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss."""
        return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2

    def generator(self, fake: Tensor, real: Callable[[], Tensor]) -> Tensor:
        """Return the generator's loss."""
        return -fake.mean()

    def won(self, real: Tensor, fake: Tensor, reach: Tensor) -> Tensor:
        """Return the ratio of scores beyond the margin, where the discriminator's gradient is zero."""
        return _mean_of_both(real > 1, fake < -1)


class RelativisticAverageHinge(Objective):
    """Relativistic average hinge: each score is compared with the mean score of the other side.

    r = D(real) - mean D(fake);  f = D(fake) - mean D(real)                     (Eqs. 16, 17)
    critic:     scale * (mean max(0, 1 - r) + mean max(0, 1 + f))               (Eq. 14)
    generator:  scale * (mean max(0, 1 - f) + mean max(0, 1 + r))               (Eq. 15)

    Source: MPGA/GLA (Sensors 2020), Sec. 3.4, after Jolicoeur-Martineau, ICLR 2019.
    Decision where the paper is silent: expectations are means over batch, channels and positions, across all processes.

    Args:
        scale: 1 as printed; the release halves both sides.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the critic's loss."""
        lifted, lowered = real - mean_over_processes(fake), fake - mean_over_processes(real)
        return self.scale * (F.relu(1 - lifted).mean() + F.relu(1 + lowered).mean())

    def generator(self, fake: Tensor, real: Callable[[], Tensor]) -> Tensor:
        """Return the generator's loss: the critic's with real and fake exchanged."""
        return self.critic(fake, real())

    def won(self, real: Tensor, fake: Tensor, reach: Tensor) -> Tensor:
        """Return the ratio of scores beyond half the margin; `Lorentzian` keeps them from reaching all of it."""
        lifted, lowered = real - mean_over_processes(fake), fake - mean_over_processes(real)
        return _mean_of_both(lifted > 0.5, lowered < -0.5)

    def lost(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the ratio of scores on the wrong side of the mean score of the other side."""
        return _mean_of_both(real < mean_over_processes(fake), fake > mean_over_processes(real))


class RelativisticAverageLeastSquares(Objective):
    """Relativistic average least squares: each score is compared with the mean score of the other side.

    r = D(real) - mean D(fake);  f = D(fake) - mean D(real)
    critic:     (mean (r - 1)^2 + mean (f + 1)^2) / 2
    generator:  (mean (f - 1)^2 + mean (r + 1)^2) / 2

    Source: Jolicoeur-Martineau, ICLR 2019, appendix; MEDFE (Liu et al., ECCV 2020). The release of MEDFE has the 1/2.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the critic's loss."""
        lifted, lowered = real - mean_over_processes(fake), fake - mean_over_processes(real)
        return ((lifted - 1).square().mean() + (lowered + 1).square().mean()) / 2

    def generator(self, fake: Tensor, real: Callable[[], Tensor]) -> Tensor:
        """Return the generator's loss: the critic's with real and fake exchanged."""
        return self.critic(fake, real())

    def won(self, real: Tensor, fake: Tensor, reach: Tensor) -> Tensor:
        """Return the ratio of scores that are closer to their target than to 0."""
        lifted, lowered = real - mean_over_processes(fake), fake - mean_over_processes(real)
        return _mean_of_both((lifted - 1).abs() < 0.5, (lowered + 1).abs() < 0.5)


class Lorentzian(Objective):
    """mean log(1 + |D(real) - D(fake)|), minimised by both sides.

    Source: MPGA/GLA (Sensors 2020), Eqs. 18 to 20: log(1 + |P - Q|) "for both the generator and discriminator".
    Decision where the paper is vague, as the release: P and Q, "the distributions of the real data and generated data",
    are the critic's scores of an image and its inpainting, element by element. As printed, the critic's loss has the
    same sign as the generator's and regularises the critic: it rewards similar scores for real and fake.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the critic's loss."""
        return (real - fake).abs().log1p().mean()

    def generator(self, fake: Tensor, real: Callable[[], Tensor]) -> Tensor:
        """Return the generator's loss."""
        return self.critic(real(), fake)

    def won(self, real: Tensor, fake: Tensor, reach: Tensor) -> None:
        """Return None: both sides minimise the same loss."""

    def lost(self, real: Tensor, fake: Tensor) -> None:
        """Return None: both sides minimise the same loss."""


def _gap(real: Tensor, fake: Tensor) -> Tensor:
    """Return the mean score of each real image minus that of its fake image, (B,)."""
    return (real - fake).reshape(len(real), -1).mean(dim=1)


def _mean_of_both(real: Tensor, fake: Tensor) -> Tensor:
    """Return the mean of two boolean volumes, with equal weight."""
    return (real.float().mean() + fake.float().mean()) / 2
