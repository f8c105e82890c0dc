"""Edge-LBAM: MECNet completes the edges, which guide the attention maps of a U-Net."""

import math

import torch
from torch import Tensor, nn

from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.layers.canny import DEFAULT_CANNY, Canny
from src.networks.lbam import LBAM
from src.networks.mecnet import MECNet


class EdgeCompletingNetwork(InpaintingNetwork):
    """Base class of networks with a MECNet, `completion`, and the settings `canny` of its edge detector."""

    takes_edges = True
    completion: MECNet

    def complete_edges(
        self, image: Tensor, mask: Tensor, known: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return MECNet's edges of the whole image, as Eqs. 7 and 8 use them, and those of coarser scales.

        Args:
            known: edges of the known pixels, not read in the hole; None runs Canny.
        Shapes:
            image (B, 3, H, W) in [0, 1], not read in the hole; mask (B, 1, H, W), 1 = known, 0 = hole; H and W are
            multiples of `completion.stride`. known (B, 1, H, W). Returns (B, 1, H, W) in [0, 1], and the edges of the
            coarser scales, coarsest first.
        """
        edges = self.canny.known_edges(image, mask) if known is None else known
        predicted: tuple[Tensor, tuple[Tensor, ...]] = self.completion(self.canny.gray(image), edges, mask)
        return predicted


class EdgeLBAM(EdgeCompletingNetwork):
    """Image inpainting with edge-guided learnable bidirectional attention maps.

    known = Canny of the known pixels;  E = MECNet(gray, known, mask);  prediction = U-Net(image, mask, known or E)
    Source: Edge-LBAM (arXiv:2104.12087), Sec. 3.2 and Fig. 3; the caption of Fig. 9 says which edges the U-Net gets.
    The U-Net gets Canny's edges of known pixels and MECNet's edges in the hole. Decision: the latter are not
    thresholded, so the joint training of Sec. 4.1 reaches MECNet through the U-Net.

    Args:
        completion: predicts edges.
        unet: an LBAM; the rows of Table 5 and the pairs of Fig. 12 have other `forward_maps` and `reverse_maps`.
        canny: settings for the edges of known pixels and for the grey image that MECNet gets.
    """

    def __init__(self, completion: MECNet, unet: LBAM, canny: Canny = DEFAULT_CANNY) -> None:
        super().__init__()
        self.completion, self.unet, self.canny = completion, unet, canny
        self.stride = math.lcm(completion.stride, unet.stride)

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole, guided by `edges`; None predicts them from the edges of the known pixels.

        `output.edges` are the completed edges, or None if `edges` were passed. Canny also sees the padding.
        """
        if edges is not None:
            return self.unet.inpaint(image, mask, edges)
        return self.inpaint_from_known(image, mask, self.canny.known_edges(image, mask))

    def inpaint_from_known(self, image: Tensor, mask: Tensor, known: Tensor) -> InpaintingOutput:
        """Complete the edges of known pixels (B, 1, H, W), which are not read in the hole, and fill the hole."""
        predicted, pyramid = self.complete_edges(image, mask, known)
        completed = torch.where(mask > 0, known.to(predicted), predicted)
        inpainted = self.unet.inpaint(image, mask, completed)
        return InpaintingOutput(inpainted.prediction, edges=completed, edge_pyramid=pyramid)

    def map_layers(self) -> dict[str, nn.Module]:
        """Return the layers of the U-Net."""
        return self.unet.map_layers()


class EdgeCompletion(EdgeCompletingNetwork):
    """MECNet as an inpainting network of its own: it completes edges and leaves the hole empty.

    The prediction is the input image, 0 in the hole. `output.edges` are MECNet's edges of the whole image, known pixels
    included, as its losses use them; EdgeLBAM instead keeps Canny's edges of known pixels.
    """

    def __init__(self, completion: MECNet, canny: Canny = DEFAULT_CANNY) -> None:
        super().__init__()
        self.completion, self.canny = completion, canny
        self.stride = completion.stride

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Complete `edges`, which are not read in the hole; None runs Canny on the known pixels."""
        predicted, pyramid = self.complete_edges(image, mask, edges)
        return InpaintingOutput(image, edges=predicted, edge_pyramid=pyramid)
