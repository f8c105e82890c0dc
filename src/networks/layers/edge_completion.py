"""Base classes of networks that complete the edges of known pixels, and of those that inpaint along them."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from src.networks.interface import InpaintingNetwork, InpaintingOutput


def keep_known(known: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
    """Return the known edges of known pixels and the predicted ones in the hole; all are (B, 1, H, W)."""
    return torch.where(mask > 0, known, predicted)


def keep_predicted(known: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
    """Return the predicted edges of all pixels, as EdgeConnect's release does in its test."""
    return predicted


class EdgeCompletingNetwork(InpaintingNetwork):
    """Base class of networks that complete edges.

    Attributes:
        completion: MECNet, or its single-scale form, EdgeConnect's edge generator:
            completion(gray, edges, mask) -> edges, edges of coarser scales.
        canny: settings for the edges of known pixels and for the grey image that `completion` gets.
    """

    takes_edges = True
    completion: nn.Module

    def complete_edges(
        self, image: Tensor, mask: Tensor, known: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the completed edges of the whole image, known pixels included, and those of coarser scales.

        Args:
            known: edges of the known pixels, not read in the hole; None runs Canny.
        Shapes:
            image (B, 3, H, W) in [0, 1], not read in the hole; mask (B, 1, H, W), 1 = known, 0 = hole; H and W are
            multiples of `stride`. known (B, 1, H, W). Returns (B, 1, H, W) in [0, 1], and the edges of the
            coarser scales, coarsest first.
        """
        edges = self.canny.known_edges(image, mask) if known is None else known
        predicted: tuple[Tensor, tuple[Tensor, ...]] = self.completion(self.canny.gray(image), edges, mask)
        return predicted


class EdgeGuidedNetwork(EdgeCompletingNetwork):
    """Base class of networks that complete edges and inpaint along them.

    Attributes:
        combine: edges of the known pixels, predicted edges and mask -> edges that the inpainting network gets.
    """

    combine: Callable[[Tensor, Tensor, Tensor], Tensor]

    @property
    @abstractmethod
    def inpainting_network(self) -> InpaintingNetwork:
        """The network that inpaints along given edges."""

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole, guided by `edges`; None predicts them from the edges of the known pixels.

        `output.edges` are the completed edges, or None if `edges` were passed. Canny also sees the padding.
        """
        if edges is not None:
            return self.inpainting_network.inpaint(image, mask, edges)
        return self.inpaint_from_known(image, mask, self.canny.known_edges(image, mask))

    def inpaint_from_known(self, image: Tensor, mask: Tensor, known: Tensor) -> InpaintingOutput:
        """Complete the edges of known pixels (B, 1, H, W), which are not read in the hole, and fill the hole."""
        predicted, pyramid = self.complete_edges(image, mask, known)
        completed = self.combine(known.to(predicted), predicted, mask)
        inpainted = self.inpainting_network.inpaint(image, mask, completed)
        return replace(inpainted, edges=completed, edge_pyramid=pyramid)

    def map_layers(self) -> dict[str, nn.Module]:
        """Return those of the inpainting network."""
        return self.inpainting_network.map_layers()
