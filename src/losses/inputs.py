"""The input of all loss terms in a step: truth, mask, network output, and features that are computed once."""

from dataclasses import replace
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.common.errors import InputError
from src.losses.distance import distance_to_known
from src.networks.interface import InpaintingOutput, composite

View = Literal[
    "truth",
    "prediction",
    "composite",
    "coarse",
    "coarse_composite",
    "truth_in_hole",
    "prediction_in_hole",
    "reconstruction",
]
"""An image of a step; a composite has the known pixels pasted back, and the views of the hole are 0 outside it. The
reconstruction is PICNet's second result."""


class LossInput:
    """Images, mask and features of one step, in float32 regardless of the precision of the network.

    Args:
        edges: edges of the true image, for terms on predicted edges; None if no edges are predicted.
        extractor: frozen feature extractor, image -> features by layer; None if no term needs features.
    Shapes:
        image (B, 3, H, W) in [0, 1], the ground truth including the hole; mask (B, 1, H, W), 1 = known, 0 = hole;
        edges (B, 1, H, W), 1 on edges, 0 elsewhere.
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
        self._levels: dict[int, LossInput] = {0: self}

    @cached_property
    def composite(self) -> Tensor:
        """The prediction in the hole, the truth elsewhere; (B, 3, H, W)."""
        return composite(self.image, self.mask, self.output).float()

    @cached_property
    def distance(self) -> Tensor:
        """Distance of each pixel to the nearest known pixel; (B, 1, H, W), see `distance_to_known`."""
        return distance_to_known(self.mask)

    def at_level(self, level: int) -> "LossInput":
        """Return the input of terms on the result at 1 / 2^level of the size, `output.parts["level_<level>"]`, cached.

        Image and mask are resized bilinearly, without antialiasing, as in DFNet's release; a cell is known if all
        pixels that it interpolates are.
        """
        if level not in self._levels:
            result = self.output.parts[f"level_{level}"]
            image, mask = (
                F.interpolate(t, size=result.shape[-2:], mode="bilinear", align_corners=False)
                for t in (self.image, self.mask)
            )
            known = (mask == 1).to(mask)
            self._levels[level] = LossInput(image, known, InpaintingOutput(result), self.extractor)
        return self._levels[level]

    def get_image(self, view: View) -> Tensor:
        """Return the image of a view, (B, 3, H, W) in [0, 1].

        Raises InputError if the view is coarse, but the network has no coarse stage; ValueError if it is unknown.
        """
        match view:
            case "truth":
                return self.image.float()
            case "prediction":
                return self.output.prediction.float()
            case "truth_in_hole":
                return self.image.float() * (1 - self.mask)
            case "prediction_in_hole":
                return self.output.prediction.float() * (1 - self.mask)
            case "reconstruction":
                return self.output.parts["reconstruction"].float()
            case "composite":
                return self.composite
            case "coarse" | "coarse_composite":
                if self.output.coarse is None:
                    raise InputError(
                        f"a loss term has view={view}, but this network has no coarse stage: "
                        "turn the term off with loss.terms.<name>=null"
                    )
                if view == "coarse":
                    return self.output.coarse.float()
                coarse_output = replace(self.output, prediction=self.output.coarse)
                return composite(self.image, self.mask, coarse_output).float()
        raise ValueError(f"view must be one of {get_args(View)}, got {view!r}")

    def features(self, view: View) -> tuple[Tensor, ...]:
        """Return the features by layer, each (B, C, h, w) in float32, cached by view; the truth's have no graph."""
        if self.extractor is None:
            raise ValueError("a loss term needs features, but this LossInput has no extractor: set loss.features")
        if view not in self._features:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not view.startswith("truth")):
                self._features[view] = tuple(layer.float() for layer in self.extractor(self.get_image(view)))
        return self._features[view]
