"""The loss term on predicted edges: a patch discriminator's verdict, and how its features differ from true edges'."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.errors import InputError
from src.losses.adversarial import AdversarialTerm
from src.losses.inputs import LossInput
from src.losses.objectives import NonSaturating


class EdgeCompletion(AdversarialTerm):
    """MECNet's objective, on edges E of the true image and predicted ones E', both beside the corrupted image I.

    the critic minimises     - mean log s(D(E, I)) - mean log(1 - s(D(E', I)))
    the generator minimises  - mean log s(D(E', I)) + matching_weight * sum over layers of mean |D_l(E', I) - D_l(E, I)|

    Source: Edge-LBAM, Sec. 3.3, Eqs. 7 to 9; alpha_r = 10. "Adversarial loss" in its non-saturating form.
    Departs from the paper: Eq. 7 prints a minus between the two logs, with which the critic would call both real.
    Decision where the paper is silent: Eq. 8's ||.||_1 is a mean for each layer, as in EdgeConnect (Nazeri et al.
    2019); I is the image with its hole set to 0.

    With an edge pyramid (variant ML, Sec. 4.3, "supervision to each scale") the same objective is added for each scale.
    Decision where the paper is silent: true edges are shrunk by maximum, so that none is lost, and both are enlarged by
    repetition to the image's size: an 8 x 8 map is too small for the discriminator's layers, and one serves all scales.

    Args:
        critic: critic(edges, image) -> each layer's features, the scores last.
    """

    def __init__(self, critic: nn.Module, matching_weight: float = 10.0) -> None:
        super().__init__(critic)
        self.matching_weight = matching_weight
        self.objective = NonSaturating()

    def forward(self, inputs: LossInput) -> Tensor:
        """The generator's loss; a scalar.

        Raises:
            InputError: `inputs` or its output has no edges.
        """
        image, total = inputs.image.float() * inputs.mask, inputs.image.new_zeros(())
        for true, predicted in _scales(inputs):
            with torch.no_grad():
                targets = self._layers(true, image)
            layers = self._layers(predicted, image)
            matching = torch.stack([F.l1_loss(ours, real) for ours, real in zip(layers, targets, strict=True)]).sum()
            adversarial = self.objective.generator(layers[-1], real=targets[-1].detach)
            total = total + adversarial + self.matching_weight * matching
        return total

    def critic_loss(self, inputs: LossInput) -> tuple[Tensor, dict[str, Tensor]]:
        """The critic's loss, and of the finest scale the mean scores and `Objective.won`.

        Raises:
            InputError: `inputs` or its output has no edges.
        """
        image, total = inputs.image.float() * inputs.mask, inputs.image.new_zeros(())
        parts: dict[str, Tensor] = {}
        for true, predicted in _scales(inputs):
            real, fake = self._layers(true, image)[-1], self._layers(predicted.detach(), image)[-1]
            total = total + self.objective.critic(real, fake)
            won = self.objective.won(real, fake, reach=fake.new_zeros(len(fake)))  # which it does not ask for
            parts = {"critic_real": real.mean(), "critic_fake": fake.mean(), "critic_won": won}
        return total, {name: part.detach() for name, part in parts.items()}

    def _layers(self, edges: Tensor, image: Tensor) -> list[Tensor]:
        return [layer.float() for layer in self.critic(edges, image)]


def _scales(inputs: LossInput) -> Iterator[tuple[Tensor, Tensor]]:
    """True and predicted edges of each scale, (B, 1, H, W) in the image's size, the finest last."""
    if inputs.edges is None:
        raise InputError("a loss term on edges needs the true image's: it is for models that learn edges (edge_lbam)")
    if inputs.output.edges is None:
        raise InputError(
            "a loss term on edges needs a network that predicts them (edge_lbam): this one's output has none"
        )
    true, size = inputs.edges.float(), inputs.edges.shape[-2:]
    for predicted in inputs.output.edge_pyramid:
        shrunk = F.adaptive_max_pool2d(true, predicted.shape[-2:])
        yield F.interpolate(shrunk, size), F.interpolate(predicted.float(), size)  # nearest
    yield true, inputs.output.edges.float()
