"""The weighted sum of named loss terms: what a network is trained on."""

import logging
import math
from collections.abc import Callable, Collection, Mapping

from torch import Tensor, nn

from src.errors import InputError
from src.losses.adversarial import AdversarialTerm
from src.losses.inputs import LossInput
from src.networks.interface import InpaintingOutput

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

    def forward(self, inputs: LossInput, names: Collection[str] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The total, a scalar, and each term's unweighted value by name, detached.

        Args:
            names: of the terms that count in this step; None for all.
        """
        total, values = inputs.image.new_zeros(()), {}
        for name in self.terms if names is None else names:
            value = self.terms[name](inputs)
            total = total + self.weights[name] * value
            values[name] = value.detach()
        return total, values
