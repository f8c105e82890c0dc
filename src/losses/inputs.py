"""What the loss terms of one step read: truth, mask, output, and features that are computed once for all of them."""

from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from src.networks.interface import InpaintingOutput, composite

View = Literal["truth", "prediction", "composite"]
"""Which picture of a step: the true image, the raw output, or the output with the known pixels pasted back."""


class LossInput:
    """One step's pictures, in float32 whatever the precision of the network that made them.

    Args:
        edges: the true image's edges, for terms on predicted ones; None where no edges are predicted.
        extractor: a frozen feature extractor, image -> features by layer; None where no term asks for features.
    Shapes:
        image (B, 3, H, W) in [0, 1], the truth, hole and all; mask (B, 1, H, W), 1 = known, 0 = hole;
        edges (B, 1, H, W), 1 on an edge, else 0.
    """

    def __init__(
        self,
        image: Tensor,
        mask: Tensor,
        output: InpaintingOutput,
        extractor: nn.Module | None = None,
        edges: Tensor | None = None,
    ) -> None:
        self.image, self.mask, self.output, self.extractor, self.edges = image, mask, output, extractor, edges
        self._features: dict[View, tuple[Tensor, ...]] = {}

    @cached_property
    def composite(self) -> Tensor:
        """Known pixels of the truth, the prediction in the hole; (B, 3, H, W)."""
        return composite(self.image, self.mask, self.output).float()

    def picture(self, view: View) -> Tensor:
        """The picture of that name, (B, 3, H, W) in [0, 1]."""
        match view:
            case "truth":
                return self.image.float()
            case "prediction":
                return self.output.prediction.float()
            case "composite":
                return self.composite
        raise ValueError(f"a view is truth, prediction or composite, got {view!r}")

    def features(self, view: View) -> tuple[Tensor, ...]:
        """Features by layer, each (B, C, h, w) in float32; computed once per view, the truth's without a graph."""
        if self.extractor is None:
            raise ValueError("a term asks for features, yet this LossInput was made without an extractor")
        if view not in self._features:
            with torch.set_grad_enabled(torch.is_grad_enabled() and view != "truth"):
                self._features[view] = tuple(layer.float() for layer in self.extractor(self.picture(view)))
        return self._features[view]
