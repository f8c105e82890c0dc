"""The weighted sum of named loss terms."""

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
"""Lower bound of a norm in a denominator."""

log = logging.getLogger(__name__)


class WeightedSum(nn.Module):
    """sum of weights[name] * terms[name](inputs).

    A disabled term is None and costs nothing: `loss.terms.style=null`; its weight may remain.

    Args:
        terms: modules, LossInput -> scalar; those that use features have `needs_features = True`.
        weights: positive weights by name, one per term.
        features: builds the feature extractor, image -> features by layer; only called if a term needs it. If it
            returns None, those terms are disabled with a warning.
    Raises InputError if there is no term, a weight is missing, unknown or not positive, or `features` are missing.
    """

    def __init__(
        self,
        terms: Mapping[str, nn.Module | None],
        weights: Mapping[str, float],
        features: Callable[[], nn.Module | None] | None = None,
    ) -> None:
        super().__init__()
        if unknown := sorted(set(weights) - set(terms)):
            raise InputError(f"loss.weights has unknown terms {unknown}: loss.terms has {sorted(terms)}")
        self.names = frozenset(terms)  # including disabled ones
        self.terms = nn.ModuleDict({name: term for name, term in terms.items() if term is not None})
        for name in self.terms:
            if name not in weights:
                raise InputError(f"the loss term {name} has no weight: set loss.weights.{name}")
            if not (math.isfinite(weights[name]) and weights[name] > 0):
                raise InputError(
                    f"loss.weights.{name} must be above 0, got {weights[name]}: "
                    f"to disable the term, set loss.terms.{name}=null"
                )
        self.weights = {name: float(weights[name]) for name in self.terms}
        needy = [name for name, term in self.terms.items() if getattr(term, "needs_features", False)]
        if needy and features is None:
            raise InputError(f"the loss terms {needy} need a feature extractor: set loss.features")
        self.extractor = features() if needy and features is not None else None
        if needy and self.extractor is None:
            log.warning("the loss terms %s are disabled, as loss.features.weights=none", ", ".join(needy))
            self.terms = nn.ModuleDict({name: term for name, term in self.terms.items() if name not in needy})
        if not self.terms:
            raise InputError("all loss.terms are disabled: at least one is needed")

    @property
    def adversarial(self) -> dict[str, AdversarialTerm]:
        """The terms with a critic, by name."""
        return {name: term for name, term in self.terms.items() if isinstance(term, AdversarialTerm)}

    def prepare(self, image: Tensor, mask: Tensor, output: InpaintingOutput, edges: Tensor | None = None) -> LossInput:
        """Return the input of all terms of a step; pass the same object to `forward` and to each `critic_loss`.

        Shapes:
            image (B, 3, H, W) in [0, 1], the ground truth including the hole; mask (B, 1, H, W), 1 = known, 0 = hole;
            edges (B, 1, H, W), those of the true image.
        """
        return LossInput(image, mask, output, self.extractor, edges)

    def values(self, inputs: LossInput, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Return the unweighted value of each term in `names` (None for all) by name, a scalar with its graph."""
        return {name: self.terms[name](inputs) for name in (self.terms if names is None else names)}

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the values, a scalar."""
        return reduce(torch.add, [self.weights[name] * value for name, value in values.items()])

    def forward(self, inputs: LossInput, names: Collection[str] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of the terms in `names` (None for all), and their detached unweighted values."""
        values = self.values(inputs, names)
        return self.total(values), {name: value.detach() for name, value in values.items()}

    def gradient_ratios(self, inputs: LossInput, values: Mapping[str, Tensor], scale: float = 1.0) -> dict[str, Tensor]:
        """Return the gradient norm of each adversarial term over that of all other terms, by name.

        ||w_a d a / d prediction||_2 / ||d sum of w_t t / d prediction||_2, t all terms that are not adversarial

        About 0.1 to 0.5 is healthy: below that the critic has little effect; above 1 it outweighs the other terms.
        Terms that do not depend on the prediction, such as those on edges, have no ratio.

        Args:
            values: values of the terms of this step, with their graphs.
            scale: loss scale of float16 training, which keeps small gradients from underflowing; it cancels.
        """
        prediction = inputs.output.prediction
        critics = [name for name in values if name in self.adversarial]
        others = {name: value for name, value in values.items() if name not in critics}
        if not (critics and others and prediction.requires_grad):
            return {}
        norms = {}
        weighted = {name: self.weights[name] * values[name] for name in critics} | {"": self.total(others)}
        for name, value in weighted.items():
            (slope,) = torch.autograd.grad(scale * value, prediction, retain_graph=True, allow_unused=True)
            if slope is not None:
                # over the samples of all processes, which have equally many each
                norm = torch.linalg.vector_norm(slope, dtype=torch.promote_types(slope.dtype, torch.float32))
                norms[name] = mean_over_processes(norm.square()).sqrt()
        rest = norms.pop("", None)
        return {} if rest is None else {name: norm / rest.clamp_min(SMALLEST) for name, norm in norms.items()}
