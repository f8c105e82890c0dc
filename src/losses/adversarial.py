"""Adversarial loss terms: a critic with its loss and the generator's loss."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from operator import attrgetter

import torch
from torch import Tensor, nn

from src.common.distributed import draw_rank_consistent
from src.common.errors import InputError
from src.losses.inputs import LossInput, View
from src.losses.objectives import Objective, Wasserstein

SATURATED = 0.95
"""Fraction of the score range of a bounded critic above which the gradient almost vanishes."""


def everywhere(slope: Tensor, mask: Tensor) -> Tensor:
    """Return the slope unchanged, (B, 3, H, W)."""
    return slope


def in_hole(slope: Tensor, mask: Tensor) -> Tensor:
    """Return slope * (1 - m), (B, 3, H, W), as only the hole is predicted (Yu et al. 2018, Sec. 3)."""
    return slope * (1 - mask)


def gradient_penalty(
    critic: nn.Module, real: Tensor, fake: Tensor, mask: Tensor, part: Callable[[Tensor, Tensor], Tensor] = everywhere
) -> Tensor:
    """Return mean (||part(d D(x) / d x)||_2 - 1)^2 over samples, x = t real + (1 - t) fake, t ~ U(0, 1) per sample.

    Source: Gulrajani et al., NeurIPS 2017, Eq. 3; LBAM (Xie et al., ICCV 2019), Eq. 17; with `in_hole`, Yu et al.,
    CVPR 2018, Sec. 3. In float32 also under autocast: in float16 the sum of squares overflows or vanishes.
    The penalty is only per sample if the critic is: batch norm mixes the samples, and hence their gradients.

    Args:
        part: selects the part of the slope to penalise: `everywhere` or `in_hole`.
    Shapes:
        real, fake (B, 3, H, W) in [0, 1], fake detached; mask (B, 1, H, W), 1 = known, 0 = hole.
    """
    with torch.autocast(real.device.type, enabled=False):
        t = draw_rank_consistent(lambda samples: torch.rand(samples, 1, 1, 1, device=real.device), len(real))
        mixed = (t * real.float() + (1 - t) * fake.float()).detach().requires_grad_()
        (slope,) = torch.autograd.grad(critic(mixed, mask.float()).sum(), mixed, create_graph=True)
        # vector_norm: the gradient of torch.sqrt is NaN where the slope is 0
        slope_norms: Tensor = torch.linalg.vector_norm(part(slope, mask.float()).flatten(1), dim=1)
        return (slope_norms - 1).square().mean()


@dataclass(frozen=True)
class GradientPenalty:
    """A gradient penalty and its weight lambda; 10 in LBAM (Eq. 17) and in Yu et al. (Sec. 3)."""

    weight: float = 10.0
    part: Callable[[Tensor, Tensor], Tensor] = everywhere


class AdversarialTerm(nn.Module, ABC):
    """A loss term with a critic: `forward` returns the generator's loss, `critic_loss` the critic's.

    Args:
        critic: the critic's network. If its scores are bounded, e.g. by a sigmoid, its attribute `score_range` is
            (lowest, highest).
    """

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        self.critic = critic

    @abstractmethod
    def forward(self, inputs: LossInput) -> Tensor:
        """Return the generator's loss, a scalar."""

    @abstractmethod
    def critic_loss(self, inputs: LossInput) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the critic's loss, a scalar without a graph to the generator, and detached values to log."""


class ScoreTerm(AdversarialTerm):
    """Sum of objectives on the scores of one critic, with an optional gradient penalty.

    Real and fake images pass through the critic separately, so batch norm normalises each on its own.

    Args:
        critic: critic(image, condition) -> scores (B, ...).
        objectives: the objectives by name; None disables one.
        penalty: gradient penalty of the critic, or None.
        view: the fake image that the critic sees.
        condition: makes the critic's second argument (B, C, H, W), without a gradient, instead of the mask.
    Raises InputError if all objectives are disabled.
    """

    def __init__(
        self,
        critic: nn.Module,
        objectives: Mapping[str, Objective | None],
        penalty: GradientPenalty | None = None,
        view: View = "prediction",
        condition: Callable[[LossInput], Tensor] = attrgetter("mask"),
    ) -> None:
        super().__init__(critic)
        self.condition = condition
        self.objectives = {name: objective for name, objective in objectives.items() if objective is not None}
        if not self.objectives:
            raise InputError(
                "all objectives of an adversarial term are null: to disable it, set loss.terms.<name>=null"
            )
        self.penalty = penalty
        self.view: View = view

    def _scores(self, inputs: LossInput, view: View) -> Tensor:
        scores: Tensor = self.critic(inputs.get_image(view), self.condition(inputs))
        return scores.float()

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the generator's loss, a scalar; real images are only scored if an objective needs it."""

        @cache
        def real() -> Tensor:
            with torch.no_grad():
                return self._scores(inputs, "truth")

        fake = self._scores(inputs, self.view)
        return torch.stack([objective.generator(fake, real) for objective in self.objectives.values()]).sum()

    def critic_loss(self, inputs: LossInput) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the critic's loss, and to log the objectives by name, mean scores and the unweighted penalty.

        `critic_won` and `critic_lost` are the minima of `Objective.won` and `Objective.lost` over the objectives.
        """
        truth, ours = inputs.get_image("truth"), inputs.get_image(self.view).detach()
        condition = self.condition(inputs)
        real, fake = self.critic(truth, condition).float(), self.critic(ours, condition).float()
        parts = {f"critic_{name}": objective.critic(real, fake) for name, objective in self.objectives.items()}
        total = torch.stack(list(parts.values())).sum()
        parts |= {"critic_real": real.mean(), "critic_fake": fake.mean()}
        if self.penalty is not None:
            penalty = gradient_penalty(self.critic, truth, ours, inputs.mask, self.penalty.part)
            total = total + self.penalty.weight * penalty
            parts["gradient_penalty"] = penalty
        reach = self._reach(truth, ours)
        won = [objective.won(real, fake, reach) for objective in self.objectives.values()]
        lost = [objective.lost(real, fake) for objective in self.objectives.values()]
        for name, ratios in (("critic_won", won), ("critic_lost", lost)):
            if defined := [ratio for ratio in ratios if ratio is not None]:
                parts[name] = torch.stack(defined).min()
        return total, {name: part.detach() for name, part in parts.items()}

    def _reach(self, truth: Tensor, ours: Tensor) -> Tensor:
        """Return the score gap of each pair beyond which the critic's loss no longer decreases, (B,).

        d (1 + d / (2 lambda)) with d = ||truth - ours||_2; d without a penalty. A slope s between the two images gives
        a gap of s d, and s d - lambda (s - 1)^2 is largest at s = 1 + d / (2 lambda). For a bounded critic, at most
        half the gap between 95 % and 5 % of its range, as `Wasserstein` compares the gap with twice the reach.
        """
        distance: Tensor = torch.linalg.vector_norm((truth - ours).flatten(1), dim=1)
        reach = distance if self.penalty is None else distance * (1 + distance / (2 * self.penalty.weight))
        low, high = getattr(self.critic, "score_range", (-math.inf, math.inf))
        return reach.clamp_max((SATURATED - (1 - SATURATED)) * (high - low) / 2)


class WassersteinGP(ScoreTerm):
    """Wasserstein distance with a gradient penalty.

    the critic minimises     mean D(fake) - mean D(real) + penalty_weight * gradient_penalty
    the generator minimises  - mean D(fake)

    Source: Gulrajani et al., NeurIPS 2017, Algorithm 1; LBAM (Xie et al., ICCV 2019), Eq. 17, with lambda = 10 and
    fake = I_out, the raw prediction.
    Departs from the paper: as printed, the critic of Eq. 17 maximises the penalty; the sign is from its ref. [9].
    Departs from the release: it negates the real score twice, so its critic moves real and fake scores alike.
    """

    def __init__(self, critic: nn.Module, penalty_weight: float = 10.0, view: View = "prediction") -> None:
        super().__init__(critic, {"wasserstein": Wasserstein()}, GradientPenalty(penalty_weight), view)
