"""Adversarial terms: a critic, what it minimises, and what the generator minimises through it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from src.common.distributed import draw_rank_consistent
from src.common.errors import InputError
from src.losses.inputs import LossInput, View
from src.losses.objectives import Objective, Wasserstein

SATURATED = 0.95
"""Share of a critic's score range above which a real score has hardly any slope left, as for `NonSaturating`."""


def everywhere(slope: Tensor, mask: Tensor) -> Tensor:
    """The slope as it is: (B, 3, H, W) to the same."""
    return slope


def in_hole(slope: Tensor, mask: Tensor) -> Tensor:
    """slope * (1 - m), (B, 3, H, W): 0 on known pixels, as only the hole is predicted (Yu et al. 2018, Sec. 3)."""
    return slope * (1 - mask)


def gradient_penalty(
    critic: nn.Module,
    real: Tensor,
    fake: Tensor,
    mask: Tensor,
    part: Callable[[Tensor, Tensor], Tensor] = everywhere,
) -> Tensor:
    """mean over samples of (||part(d D(x) / d x)||_2 - 1)^2, x = t real + (1 - t) fake, one t ~ U(0, 1) per sample.

    Source: Gulrajani et al., NeurIPS 2017, Eq. 3; LBAM (Xie et al., ICCV 2019), Eq. 17; with `in_hole`, Yu et al.,
    CVPR 2018, Sec. 3.
    In float32 under autocast too: the square of a float16 gradient of 3 x 256 x 256 values overflows or vanishes.
    Per sample as long as the critic is: batch norm in it mixes the samples, and the slope of the summed scores with it.

    Args:
        critic: critic(image, mask) -> scores (B, ...).
        part: of the slope, which counts: `everywhere` or `in_hole`.
    Shapes:
        real, fake (B, 3, H, W) in [0, 1], fake without its graph; mask (B, 1, H, W), 1 = known, 0 = hole.
    """
    with torch.autocast(real.device.type, enabled=False):
        t = draw_rank_consistent(lambda samples: torch.rand(samples, 1, 1, 1, device=real.device), len(real))
        mixed = (t * real.float() + (1 - t) * fake.float()).detach().requires_grad_()
        (slope,) = torch.autograd.grad(critic(mixed, mask.float()).sum(), mixed, create_graph=True)
        # vector_norm, as the gradient of a written-out sqrt is not a number where the slope is 0
        slope_norms: Tensor = torch.linalg.vector_norm(part(slope, mask.float()).flatten(1), dim=1)
        return (slope_norms - 1).square().mean()


@dataclass(frozen=True)
class GradientPenalty:
    """`gradient_penalty` with its weight, lambda; 10 in LBAM (Eq. 17) and in Yu et al. (Sec. 3)."""

    weight: float = 10.0
    part: Callable[[Tensor, Tensor], Tensor] = everywhere


class AdversarialTerm(nn.Module, ABC):
    """A loss term with an opponent: `forward` is the generator's loss, `critic_loss` the critic's.

    Whoever trains steps `critic` on `critic_loss`, and keeps the generator's backward pass from moving it.

    Args:
        critic: the opponent's network. If its scores have bounds, such as a sigmoid's, its attribute `score_range` is
            (lowest, highest).
    """

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        self.critic = critic

    @abstractmethod
    def forward(self, inputs: LossInput) -> Tensor:
        """What the generator minimises; a scalar."""

    @abstractmethod
    def critic_loss(self, inputs: LossInput) -> tuple[Tensor, dict[str, Tensor]]:
        """What the critic minimises, a scalar without a path to the generator, and its parts to log, detached."""


class ScoreTerm(AdversarialTerm):
    """Objectives on the scores of one critic, added up, and a gradient penalty for the critic.

    Real and fake go through the critic one after the other: batch norm there sees each by itself, and its running
    statistics take in real, fake and mixed images in turn.

    Args:
        critic: critic(image, mask) -> scores (B, ...).
        objectives: by name; None is off.
        penalty: None for none.
        view: which of our pictures the critic sees.
    Raises:
        InputError: no objective is on.
    """

    def __init__(
        self,
        critic: nn.Module,
        objectives: Mapping[str, Objective | None],
        penalty: GradientPenalty | None = None,
        view: View = "prediction",
    ) -> None:
        super().__init__(critic)
        self.objectives = {name: objective for name, objective in objectives.items() if objective is not None}
        if not self.objectives:
            raise InputError("an adversarial term has no objective that is on: loss.terms.<name>=null turns it off")
        self.penalty = penalty
        self.view: View = view

    def _scores(self, inputs: LossInput, view: View) -> Tensor:
        picture = inputs.picture(view)
        scores: Tensor = self.critic(picture, inputs.mask)
        return scores.float()

    def forward(self, inputs: LossInput) -> Tensor:
        """The generator's loss; a scalar. Real pictures are scored, without a graph, if an objective asks for them."""

        @cache
        def real() -> Tensor:
            with torch.no_grad():
                return self._scores(inputs, "truth")

        fake = self._scores(inputs, self.view)
        return torch.stack([objective.generator(fake, real) for objective in self.objectives.values()]).sum()

    def critic_loss(self, inputs: LossInput) -> tuple[Tensor, dict[str, Tensor]]:
        """The critic's loss; its parts are the mean scores, each objective by name, and the penalty without weight.

        Also `critic_won` and `critic_lost` (`Objective.won`, `Objective.lost`), each the smallest over the objectives
        that have a contest.
        """
        truth, ours = inputs.picture("truth"), inputs.picture(self.view).detach()
        real, fake = self.critic(truth, inputs.mask).float(), self.critic(ours, inputs.mask).float()
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
        for name, shares in (("critic_won", won), ("critic_lost", lost)):
            if contests := [share for share in shares if share is not None]:
                parts[name] = torch.stack(contests).min()
        return total, {name: part.detach() for name, part in parts.items()}

    def _reach(self, truth: Tensor, ours: Tensor) -> Tensor:
        """Return how far apart the scores of each pair may lie before more does not pay the critic any longer, (B,).

        d (1 + d / (2 lambda)), d = ||truth - ours||_2; d without a penalty. A slope s along the line between the two,
        where the penalty is taken, makes a gap of s d, and s d - lambda (s - 1)^2 is largest at s = 1 + d / (2 lambda).

        Where the critic's scores have bounds (`score_range`), at most half of the gap between 95 % and 5 % of that
        range: `Wasserstein` asks for a gap of twice the reach, which a sigmoid could never have otherwise, and beyond
        those 95 % and 5 % it has hardly any slope.
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
    Departs from the paper: Eq. 17 as printed has the critic maximise the penalty; the sign is that of its ref. [9].
    Departs from the release: it negates the real score twice, so its critic pushes real and fake the same way.
    """

    def __init__(self, critic: nn.Module, penalty_weight: float = 10.0, view: View = "prediction") -> None:
        super().__init__(critic, {"wasserstein": Wasserstein()}, GradientPenalty(penalty_weight), view)
