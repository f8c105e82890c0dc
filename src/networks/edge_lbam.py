"""Edge-LBAM: edges are completed first, and guide the attention maps of a U-Net then."""

import math

import torch
from torch import Tensor, nn

from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.layers.canny import gray, known_edges
from src.networks.lbam import LBAM
from src.networks.mecnet import MECNet


class EdgeLBAM(InpaintingNetwork):
    """Image inpainting with edge-guided learnable bidirectional attention maps.

    known = Canny of the known pixels;  E = MECNet(gray, known, mask);  prediction = U-Net(image, mask, known or E)
    Source: Edge-LBAM (arXiv:2104.12087), Sec. 3.2 and Fig. 3; which edges go on, the caption of Fig. 9.
    The U-Net sees the known pixels' own edges where pixels are known, and MECNet's in the hole. Decision: the latter as
    they are, between 0 and 1, so that the joint training of Sec. 4.1 reaches MECNet through the U-Net.

    Args:
        completion: predicts edges.
        unet: an LBAM; its `forward_maps` and `reverse_maps` make the rows of Table 5 and the pairs of Fig. 12.
    """

    takes_edges = True

    def __init__(self, completion: MECNet, unet: LBAM) -> None:
        super().__init__()
        self.completion, self.unet = completion, unet
        self.stride = math.lcm(completion.stride, unet.stride)

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole along `edges`, which are taken as they are; None completes those of the known pixels.

        `output.edges` are the completed edges: the known pixels' own and, in the hole, the predicted ones. They are
        None where edges were given. Canny sees what the padding repeats at the right and bottom, too.
        """
        if edges is not None:
            return self.unet.inpaint(image, mask, edges)
        known = known_edges(image, mask)
        predicted, pyramid = self.complete_edges(image, mask, known)
        completed = torch.where(mask > 0, known.to(predicted), predicted)
        inpainted = self.unet.inpaint(image, mask, completed)
        return InpaintingOutput(inpainted.prediction, edges=completed, edge_pyramid=pyramid)

    def complete_edges(
        self, image: Tensor, mask: Tensor, known: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """MECNet's edges of the whole image as Eqs. 7 and 8 judge them, and those of coarser scales, coarsest first.

        Args:
            known: the known pixels' edges, where they are at hand; None finds them. They are not read in the hole.
        Shapes:
            image (B, 3, H, W) in [0, 1], not read in the hole; mask (B, 1, H, W), 1 = known, 0 = hole; H and W are
            multiples of `completion.stride`. known (B, 1, H, W). Returns (B, 1, H, W) in [0, 1] and the pyramid.
        """
        predicted: tuple[Tensor, tuple[Tensor, ...]] = self.completion(
            gray(image), known_edges(image, mask) if known is None else known, mask
        )
        return predicted

    def map_layers(self) -> dict[str, nn.Module]:
        """The U-Net's."""
        return self.unet.map_layers()
