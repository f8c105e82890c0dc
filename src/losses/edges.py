"""Loss terms on predicted edges: a patch discriminator's verdict with its features, and a cross entropy."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.common.errors import InputError
from src.losses.adversarial import AdversarialTerm
from src.losses.inputs import LossInput
from src.losses.objectives import NonSaturating
from src.networks.ops.canny import LUMA


def corrupted_image(inputs: LossInput) -> Tensor:
    """Return the image with its hole set to 0, the I of Edge-LBAM's Eq. 7: (B, 3, H, W) in [0, 1]."""
    return inputs.image.float() * inputs.mask


def complete_gray(inputs: LossInput, luma: Sequence[float] = LUMA) -> Tensor:
    """Return the true image in grey, hole included, which the release's discriminator sees: (B, 1, H, W) in [0, 1].

    Args:
        luma: red, green and blue in grey.
    """
    return (inputs.image.float() * inputs.image.new_tensor(luma)[:, None, None]).sum(dim=1, keepdim=True)


class EdgeCompletion(AdversarialTerm):
    """MECNet's objective, on edges E of the true image and predicted ones E', each with the same image I.

    the critic minimises     - mean log s(D(E, I)) - mean log(1 - s(D(E', I)))
    the generator minimises  - mean log s(D(E', I)) + matching_weight * sum over layers of mean |D_l(E', I) - D_l(E, I)|

    Source: Edge-LBAM, Sec. 3.3, Eqs. 7 to 9; alpha_r = 10. "Adversarial loss" in its non-saturating form.
    Departs from the paper: Eq. 7 prints a minus between the two logs, with which the critic would call both real.
    Decision where the paper is silent: Eq. 8's ||.||_1 is a mean for each layer, as in EdgeConnect (Nazeri et al.
    2019).

    With an edge pyramid (variant ML, Sec. 4.3, "supervision to each scale") the same objective is added for each scale.
    Decision where the paper is silent: true edges are shrunk by maximum, so that none is lost, and both are enlarged by
    repetition to the image's size: an 8 x 8 map is too small for the discriminator's layers, and one serves all scales.

    Args:
        critic: critic(edges, image) -> each layer's features, the scores last.
        seen: makes I, (B, C, H, W), from a step's inputs: `corrupted_image`, as Eq. 7 says, or `complete_gray`, as the
            release; the critic's `image_channels` must match.
    """

    def __init__(
        self,
        critic: nn.Module,
        matching_weight: float = 10.0,
        seen: Callable[[LossInput], Tensor] = corrupted_image,
    ) -> None:
        super().__init__(critic)
        self.matching_weight, self.seen = matching_weight, seen
        self.objective = NonSaturating()

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the generator's loss, a scalar.

        Raises:
            InputError: `inputs` or its output has no edges.
        """
        image, total = self.seen(inputs), inputs.image.new_zeros(())
        for true, predicted in _scales(inputs):
            with torch.no_grad():
                targets = self._layers(true, image)
            layers = self._layers(predicted, image)
            matching = torch.stack([F.l1_loss(ours, real) for ours, real in zip(layers, targets, strict=True)]).sum()
            adversarial = self.objective.generator(layers[-1], real=targets[-1].detach)
            total = total + adversarial + self.matching_weight * matching
        return total

    def critic_loss(self, inputs: LossInput) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the critic's loss and, of the finest scale, the mean scores, `Objective.won` and `Objective.lost`.

        Raises:
            InputError: `inputs` or its output has no edges.
        """
        image, total = self.seen(inputs), inputs.image.new_zeros(())
        parts: dict[str, Tensor] = {}
        for true, predicted in _scales(inputs):
            real, fake = self._layers(true, image)[-1], self._layers(predicted.detach(), image)[-1]
            total = total + self.objective.critic(real, fake)
            won = self.objective.won(real, fake, reach=fake.new_zeros(len(fake)))  # which it does not ask for
            lost = self.objective.lost(real, fake)
            parts = {"critic_real": real.mean(), "critic_fake": fake.mean(), "critic_won": won, "critic_lost": lost}
        return total, {name: part.detach() for name, part in parts.items()}

    def _layers(self, edges: Tensor, image: Tensor) -> list[Tensor]:
        return [layer.float() for layer in self.critic(edges, image)]


class WeightedCrossEntropy(nn.Module):
    """Cross entropy of predicted edges, where a true edge counts `edge_weight` times as much as none.

    mean over images of  h(hole) + h(known);  h(region) = mean over its pixels of - (w t log p + (1 - t) log(1 - p))

    Known pixels count, too, though their edges are given: what MECNet learns there it continues into the hole. With the
    hole alone it learns several times more slowly (src/networks/README.md).

    The minimum is p = w q / (w q + 1 - q) where an edge has probability q: p exceeds 0.5 where q exceeds 1 / (1 + w).
    With w = (1 - q0) / q0, q0 being the share of edges among all pixels, both classes count equally.
    No term of the paper's. Short runs need it: while the discriminator is close to its random start, its features are
    nearer to those of true edges for an empty hole than for true edges shifted by one pixel.

    Edges of coarser scales (MECNet(ML)) have their own adversarial loss and are not read.

    Args:
        edge_weight: w.
    Raises:
        InputError: `edge_weight` is not above 0.
    """

    smallest = 1e-6  # of p and 1 - p, whose logarithms would be infinite at 0

    def __init__(self, edge_weight: float) -> None:
        super().__init__()
        if not edge_weight > 0:
            raise InputError(f"edge_weight of the cross entropy of edges must be above 0, got {edge_weight}")
        self.edge_weight = edge_weight

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the loss, a scalar; a region without a pixel counts as 0.

        Raises:
            InputError: `inputs` or its output has no edges.
        """
        *_, (true, predicted) = _scales(inputs)
        p = predicted.clamp(self.smallest, 1 - self.smallest)
        entropy = -(self.edge_weight * true * p.log() + (1 - true) * (1 - p).log())
        hole = (inputs.mask == 0).float()
        return torch.stack([_mean_over(region, entropy) for region in (hole, 1 - hole)]).sum()


def _mean_over(region: Tensor, values: Tensor) -> Tensor:
    """Mean over images of each one's mean over a region, (B, 1, H, W) of 0 and 1; 0 where that is empty."""
    in_region = (values * region).flatten(1).sum(dim=1) / region.flatten(1).sum(dim=1).clamp_min(1)
    return in_region.mean()


def cross_entropy_of(edge_weight: float | None) -> WeightedCrossEntropy | None:
    """Make the term, or None where it is off: a scale's configuration can hold a number, but no class."""
    return None if edge_weight is None else WeightedCrossEntropy(edge_weight)


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
