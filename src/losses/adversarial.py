"""Adversarial terms: a critic, what it minimises, and what the generator minimises through it."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from src.losses.inputs import LossInput, View


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    """mean over samples of (||d D(x) / d x||_2 - 1)^2, x = t real + (1 - t) fake, one t ~ U(0, 1) per sample.

    Source: Gulrajani et al., NeurIPS 2017, Eq. 3; LBAM (Xie et al., ICCV 2019), Eq. 17.
    In float32 under autocast too: the square of a float16 gradient of 3 x 256 x 256 values overflows or vanishes.
    Per sample as long as the critic is: batch norm in it mixes the samples, and the slope of the summed scores with it.

    Args:
        critic: critic(image, mask) -> scores (B, ...).
    Shapes:
        real, fake (B, 3, H, W) in [0, 1], fake without its graph; mask (B, 1, H, W), 1 = known, 0 = hole.
    """
    with torch.autocast(real.device.type, enabled=False):
        t = torch.rand(len(real), 1, 1, 1, device=real.device)
        mixed = (t * real.float() + (1 - t) * fake.float()).detach().requires_grad_()
        (slope,) = torch.autograd.grad(critic(mixed, mask.float()).sum(), mixed, create_graph=True)
        # vector_norm, as the gradient of a written-out sqrt is not a number where the slope is 0
        slope_norms: Tensor = torch.linalg.vector_norm(slope.flatten(1), dim=1)
        return (slope_norms - 1).square().mean()


class AdversarialTerm(nn.Module, ABC):
    """A loss term with an opponent: `forward` is the generator's loss, `critic_loss` the critic's.

    Whoever trains steps `critic` on `critic_loss`, and keeps the generator's backward pass from moving it.

    Args:
        critic: critic(image, mask) -> scores (B, ...).
        view: which of our pictures the critic sees.
    """

    def __init__(self, critic: nn.Module, view: View = "prediction") -> None:
        super().__init__()
        self.critic = critic
        self.view: View = view

    @abstractmethod
    def forward(self, inputs: LossInput) -> Tensor:
        """What the generator minimises; a scalar."""

    @abstractmethod
    def critic_loss(self, inputs: LossInput) -> tuple[Tensor, dict[str, Tensor]]:
        """What the critic minimises, a scalar without a path to the generator, and its parts to log, detached."""


class WassersteinGP(AdversarialTerm):
    """Wasserstein distance with a gradient penalty.

    the critic minimises     mean D(fake) - mean D(real) + penalty_weight * gradient_penalty
    the generator minimises  - mean D(fake)

    Source: Gulrajani et al., NeurIPS 2017, Algorithm 1; LBAM (Xie et al., ICCV 2019), Eq. 17, with lambda = 10 and
    fake = I_out, the raw prediction.
    Departs from the paper: Eq. 17 as printed has the critic maximise the penalty; the sign is that of its ref. [9].
    Departs from the release: it negates the real score twice, so its critic pushes real and fake the same way.

    Real and fake go through the critic one after the other: batch norm there sees each by itself, and its running
    statistics take in real, fake and mixed images in turn.
    """

    def __init__(self, critic: nn.Module, penalty_weight: float = 10.0, view: View = "prediction") -> None:
        super().__init__(critic, view)
        self.penalty_weight = penalty_weight

    def forward(self, inputs: LossInput) -> Tensor:
        """The generator's loss; a scalar."""
        scores: Tensor = self.critic(inputs.picture(self.view), inputs.mask)
        return -scores.float().mean()

    def critic_loss(self, inputs: LossInput) -> tuple[Tensor, dict[str, Tensor]]:
        """The critic's loss; the penalty in the parts is without its weight."""
        real, fake = inputs.picture("truth"), inputs.picture(self.view).detach()
        real_score = self.critic(real, inputs.mask).float().mean()
        fake_score = self.critic(fake, inputs.mask).float().mean()
        penalty = gradient_penalty(self.critic, real, fake, inputs.mask)
        parts = {"critic_real": real_score, "critic_fake": fake_score, "gradient_penalty": penalty}
        total = fake_score - real_score + self.penalty_weight * penalty
        return total, {name: part.detach() for name, part in parts.items()}
