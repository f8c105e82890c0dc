"""What the loss terms of one step read: truth, mask, output, and features that are computed once for all of them."""

from dataclasses import replace
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from src.common.errors import InputError
from src.losses.distance import distance_to_known
from src.networks.interface import InpaintingOutput, composite

View = Literal["truth", "prediction", "composite", "coarse", "coarse_composite"]
"""Which picture of a step: the true image, the raw output, the output with the known pixels pasted back, and the same
two of the first of two stages."""


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

    @cached_property
    def distance(self) -> Tensor:
        """Of each pixel to the nearest known one of its own mask, in pixels; (B, 1, H, W), see `distance_to_known`."""
        return distance_to_known(self.mask)

    def picture(self, view: View) -> Tensor:
        """The picture of that name, (B, 3, H, W) in [0, 1].

        Raises:
            InputError: the coarse picture of a network that has one stage. ValueError: no view has that name.
        """
        match view:
            case "truth":
                return self.image.float()
            case "prediction":
                return self.output.prediction.float()
            case "composite":
                return self.composite
            case "coarse" | "coarse_composite":
                if self.output.coarse is None:
                    raise InputError(
                        f"a loss term has view={view}, yet this network has no coarse stage: "
                        "turn the term off with loss.terms.<name>=null"
                    )
                if view == "coarse":
                    return self.output.coarse.float()
                coarse_output = replace(self.output, prediction=self.output.coarse)
                return composite(self.image, self.mask, coarse_output).float()
        raise ValueError(f"a view is one of {get_args(View)}, got {view!r}")

    def features(self, view: View) -> tuple[Tensor, ...]:
        """Features by layer, each (B, C, h, w) in float32; computed once per view, the truth's without a graph."""
        if self.extractor is None:
            raise ValueError("a term asks for features, yet this LossInput was made without an extractor")
        if view not in self._features:
            with torch.set_grad_enabled(torch.is_grad_enabled() and view != "truth"):
                self._features[view] = tuple(layer.float() for layer in self.extractor(self.picture(view)))
        return self._features[view]
