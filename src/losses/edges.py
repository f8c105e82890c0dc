"""Loss terms on predicted edges: adversarial loss with feature matching, and weighted cross entropy."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.common.errors import InputError
from src.losses.adversarial import AdversarialTerm
from src.losses.inputs import LossInput
from src.losses.objectives import NonSaturating
from src.networks.layers.canny import LUMA, Canny


def corrupted_image(inputs: LossInput) -> Tensor:
    """Return the image with its hole set to 0, the I of Edge-LBAM's Eq. 7: (B, 3, H, W) in [0, 1]."""
    return inputs.image.float() * inputs.mask


def complete_gray(inputs: LossInput, luma: Sequence[float] = LUMA) -> Tensor:
    """Return the true image in grey, with `luma` weights, including the hole, as in the release: (B, 1, H, W)."""
    return Canny(luma=luma).gray(inputs.image.float())


def composite_edges(inputs: LossInput) -> Tensor:
    """Return the true edges of known pixels and the predicted ones in the hole, (B, 1, H, W), without a gradient.

    EdgeConnect's composite edge map, Sec. 3.2; the true edges of the whole image where the network predicts none.
    Raises InputError if `inputs` has no true edges.
    """
    if inputs.edges is None:
        raise InputError("the discriminator needs true edges, but the batch has none: use model=edge_connect")
    true = inputs.edges.float()
    return true if inputs.output.edges is None else torch.where(inputs.mask > 0, true, inputs.output.edges.detach())


class EdgeCompletionLoss(AdversarialTerm):
    """MECNet's objective, on edges E of the true image and predicted edges E', both conditioned on the image I.

    the critic minimises     - mean log s(D(E, I)) - mean log(1 - s(D(E', I)))
    the generator minimises  - mean log s(D(E', I)) + matching_weight * sum over layers of mean |D_l(E', I) - D_l(E, I)|

    Source: Edge-LBAM, Sec. 3.3, Eqs. 7 to 9; alpha_r = 10. "Adversarial loss" in its non-saturating form.
    Departs from the paper: Eq. 7 prints a minus between the two logs, so the critic would classify both as real.
    Decision where the paper is silent: Eq. 8's ||.||_1 is a mean per layer, as in EdgeConnect (Nazeri et al.
    2019).

    With an edge pyramid (variant ML, Sec. 4.3, "supervision to each scale") the objective is summed over scales.
    Decision where the paper is silent: true edges are downsampled by max pooling, so that none is lost, and both are
    upsampled to the image size (nearest): an 8x8 map is too small for the discriminator, which all scales share.

    Args:
        critic: critic(edges, image) -> features of each layer, with the scores last.
        condition: makes I, (B, C, H, W), from the inputs: `corrupted_image`, as in Eq. 7, or `complete_gray`, as in the
            release.
    """

    def __init__(
        self,
        critic: nn.Module,
        matching_weight: float = 10.0,
        condition: Callable[[LossInput], Tensor] = corrupted_image,
    ) -> None:
        super().__init__(critic)
        self.matching_weight, self.condition = matching_weight, condition
        self.objective = NonSaturating()

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the generator's loss, a scalar. Raises InputError if `inputs` or its output has no edges."""
        image, total = self.condition(inputs), inputs.image.new_zeros(())
        for true, predicted in _scales(inputs):
            with torch.no_grad():
                targets = self._layers(true, image)
            layers = self._layers(predicted, image)
            matching = torch.stack([F.l1_loss(ours, real) for ours, real in zip(layers, targets, strict=True)]).sum()
            adversarial = self.objective.generator(layers[-1], real=targets[-1].detach)
            total = total + adversarial + self.matching_weight * matching
        return total

    def critic_loss(self, inputs: LossInput) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the critic's loss; for the finest scale also mean scores, `Objective.won` and `Objective.lost`.

        Raises InputError if `inputs` or its output has no edges.
        """
        image, total = self.condition(inputs), inputs.image.new_zeros(())
        parts: dict[str, Tensor] = {}
        for true, predicted in _scales(inputs):
            real, fake = self._layers(true, image)[-1], self._layers(predicted.detach(), image)[-1]
            total = total + self.objective.critic(real, fake)
            won = self.objective.won(real, fake, reach=fake.new_zeros(len(fake)))  # not used by NonSaturating
            lost = self.objective.lost(real, fake)
            assert lost is not None  # only `Lorentzian` has none
            parts = {"critic_real": real.mean(), "critic_fake": fake.mean(), "critic_won": won, "critic_lost": lost}
        return total, {name: part.detach() for name, part in parts.items()}

    def _layers(self, edges: Tensor, image: Tensor) -> list[Tensor]:
        return [layer.float() for layer in self.critic(edges, image)]


class WeightedCrossEntropy(nn.Module):
    """Cross entropy of predicted edges, with weight `edge_weight` on true edges.

    mean over images of  h(hole) + h(known);  h(region) = mean over its pixels of - (w t log p + (1 - t) log(1 - p))

    Known pixels are included: restricted to the hole, MECNet learns several times more slowly (src/networks/README.md).

    With w = (1 - q0) / q0, q0 being the ratio of edge pixels, both classes have the same total weight.
    Not in the paper. Short runs need it: while the discriminator is close to its random initialisation, its features
    for an empty hole are closer to those of true edges than its features for true edges shifted by one pixel.
    Edges of coarser scales (MECNet(ML)) have their own adversarial loss and are not used.

    Args:
        edge_weight: w.
    Raises InputError if `edge_weight` is not above 0.
    """

    smallest = 1e-6  # lower bound of p and 1 - p, as log(0) is infinite

    def __init__(self, edge_weight: float) -> None:
        super().__init__()
        if not edge_weight > 0:
            raise InputError(f"edge_weight of the edge cross entropy must be above 0, got {edge_weight}")
        self.edge_weight = edge_weight

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the loss, a scalar; an empty region contributes 0.

        Raises InputError if `inputs` or its output has no edges.
        """
        *_, (true, predicted) = _scales(inputs)
        p = predicted.clamp(self.smallest, 1 - self.smallest)
        entropy = -(self.edge_weight * true * p.log() + (1 - true) * (1 - p).log())
        hole = (inputs.mask == 0).float()
        regions = [hole, 1 - hole]
        means = [((entropy * m).sum((1, 2, 3)) / m.sum((1, 2, 3)).clamp_min(1)).mean() for m in regions]
        return torch.stack(means).sum()


def cross_entropy_of(edge_weight: float | None) -> WeightedCrossEntropy | None:
    """Build the term, or None if it is off: the config of a scale holds a number, not a class."""
    return None if edge_weight is None else WeightedCrossEntropy(edge_weight)


def _scales(inputs: LossInput) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield true and predicted edges of each scale, (B, 1, H, W) at image size, finest last."""
    if inputs.edges is None:
        raise InputError("a loss term on edges needs true edges, but the batch has none: use model=edge_lbam")
    if inputs.output.edges is None:
        raise InputError(
            "a loss term on edges needs predicted edges, but the network has none: use it with model=edge_lbam"
        )
    true, size = inputs.edges.float(), inputs.edges.shape[-2:]
    for predicted in inputs.output.edge_pyramid:
        shrunk = F.adaptive_max_pool2d(true, predicted.shape[-2:])
        yield F.interpolate(shrunk, size), F.interpolate(predicted.float(), size)  # nearest
    yield true, inputs.output.edges.float()
