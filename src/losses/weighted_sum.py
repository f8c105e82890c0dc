"""The weighted sum of named loss terms: what a network is trained on."""

import logging
import math
from collections.abc import Callable, Collection, Mapping
from functools import reduce

import torch
from torch import Tensor, nn

from src.common.distributed import mean_over_processes
from src.common.errors import InputError
from src.losses.adversarial import AdversarialTerm
from src.losses.inputs import LossInput
from src.networks.interface import InpaintingOutput

SMALLEST = torch.finfo(torch.float32).tiny
"""Of a norm that something is divided by."""

log = logging.getLogger(__name__)


class WeightedSum(nn.Module):
    """sum of weights[name] * terms[name](inputs).

    A term that is off is None, and costs nothing: a config says `loss.terms.style=null` and may leave its weight.

    Args:
        terms: modules, LossInput -> scalar; one that reads features says so: `needs_features = True`.
        weights: one for every term, above 0.
        features: makes the feature extractor, image -> features by layer; called only if a term needs it. If it makes
            None, those terms are off, and a warning names them.
    Attributes:
        names: of all terms, those that are off too.
    Raises:
        InputError: no term; a term without a weight, a weight without a term, a weight that is not above 0; features
            are needed and there is no `features`.
    """

    def __init__(
        self,
        terms: Mapping[str, nn.Module | None],
        weights: Mapping[str, float],
        features: Callable[[], nn.Module | None] | None = None,
    ) -> None:
        super().__init__()
        if unknown := sorted(set(weights) - set(terms)):
            raise InputError(f"loss.weights names {unknown}, which loss.terms ({sorted(terms)}) does not")
        self.names = frozenset(terms)
        self.terms = nn.ModuleDict({name: term for name, term in terms.items() if term is not None})
        for name in self.terms:
            if name not in weights:
                raise InputError(f"the loss term {name} has no weight: set loss.weights.{name}")
            if not (math.isfinite(weights[name]) and weights[name] > 0):
                raise InputError(
                    f"loss.weights.{name} must be above 0, got {weights[name]}: "
                    f"loss.terms.{name}=null turns the term off, and does not pay for it"
                )
        self.weights = {name: float(weights[name]) for name in self.terms}
        needy = [name for name, term in self.terms.items() if getattr(term, "needs_features", False)]
        if needy and features is None:
            raise InputError(f"the loss terms {needy} need loss.features, a feature extractor")
        self.extractor = features() if needy and features is not None else None
        if needy and self.extractor is None:
            log.warning("the loss terms %s are off, as loss.features.weights=none", ", ".join(needy))
            self.terms = nn.ModuleDict({name: term for name, term in self.terms.items() if name not in needy})
        if not self.terms:
            raise InputError("loss.terms has no term that is on: at least one is needed")

    @property
    def adversarial(self) -> dict[str, AdversarialTerm]:
        """The terms that come with a critic to train, by name."""
        return {name: term for name, term in self.terms.items() if isinstance(term, AdversarialTerm)}

    def prepare(self, image: Tensor, mask: Tensor, output: InpaintingOutput, edges: Tensor | None = None) -> LossInput:
        """What all terms of one step read: pass the same object to `forward` and to every `critic_loss`.

        Shapes:
            image (B, 3, H, W) in [0, 1], the truth, hole and all; mask (B, 1, H, W), 1 = known, 0 = hole;
            edges (B, 1, H, W), the true image's.
        """
        return LossInput(image, mask, output, self.extractor, edges)

    def values(self, inputs: LossInput, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Return each term's unweighted value, a scalar with its graph, by name.

        Args:
            names: of the terms that count in this step; None for all.
        """
        return {name: self.terms[name](inputs) for name in (self.terms if names is None else names)}

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of values by name, a scalar."""
        return reduce(torch.add, [self.weights[name] * value for name, value in values.items()])

    def forward(self, inputs: LossInput, names: Collection[str] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total, a scalar, and each term's unweighted value by name, detached.

        Args:
            names: of the terms that count in this step; None for all.
        """
        values = self.values(inputs, names)
        return self.total(values), {name: value.detach() for name, value in values.items()}

    def gradient_ratios(self, inputs: LossInput, values: Mapping[str, Tensor], scale: float = 1.0) -> dict[str, Tensor]:
        """Return how strongly each adversarial term pulls at the prediction, by its name.

        ||w_a d a / d prediction||_2 / ||d sum of w_t t / d prediction||_2, t all terms that are not adversarial

        About 0.1 to 0.5 is healthy: below, the critic hardly matters; above 1 it outweighs the truth. The gradients end
        at the prediction, whose composite is a function of it, so the network's backward pass is not run. A term has no
        ratio where it or the others do not depend on the prediction, as one on edges.

        Args:
            values: of the terms of this step, with their graphs.
            scale: of float16's loss, in which small gradients would otherwise be 0; it cancels.
        """
        prediction = inputs.output.prediction
        critics = [name for name in values if name in self.adversarial]
        others = {name: value for name, value in values.items() if name not in critics}
        if not (critics and others and prediction.requires_grad):
            return {}
        norms = {}
        pulls = {name: self.weights[name] * values[name] for name in critics} | {"": self.total(others)}
        for name, value in pulls.items():
            (slope,) = torch.autograd.grad(scale * value, prediction, retain_graph=True, allow_unused=True)
            if slope is not None:
                # of all processes' samples: each of their losses is a mean over as many
                norm = torch.linalg.vector_norm(slope, dtype=torch.promote_types(slope.dtype, torch.float32))
                norms[name] = mean_over_processes(norm.square()).sqrt()
        rest = norms.pop("", None)
        return {} if rest is None else {name: norm / rest.clamp_min(SMALLEST) for name, norm in norms.items()}
