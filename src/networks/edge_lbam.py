"""Edge-LBAM: edges are completed first, and guide the attention maps of a U-Net then; or completed alone."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.lbam import LBAM, released_edge_lbam_unet
from src.networks.mecnet import MECNet
from src.networks.ops.canny import DEFAULT_CANNY, RELEASED_CANNY, Canny


class EdgeLBAM(InpaintingNetwork):
    """Image inpainting with edge-guided learnable bidirectional attention maps.

    known = Canny of the known pixels;  E = MECNet(gray, known, mask);  prediction = U-Net(image, mask, known or E)
    Source: Edge-LBAM (arXiv:2104.12087), Sec. 3.2 and Fig. 3; which edges go on, the caption of Fig. 9.
    The U-Net sees the known pixels' own edges where pixels are known, and MECNet's in the hole. Decision: the latter as
    they are, between 0 and 1, so that the joint training of Sec. 4.1 reaches MECNet through the U-Net.

    Args:
        completion: predicts edges.
        unet: an LBAM; its `forward_maps` and `reverse_maps` make the rows of Table 5 and the pairs of Fig. 12.
        canny: how the known pixels' edges, and the grey that MECNet sees, are found.
    """

    takes_edges = True

    def __init__(self, completion: MECNet, unet: LBAM, canny: Canny = DEFAULT_CANNY) -> None:
        super().__init__()
        self.completion, self.unet, self.canny = completion, unet, canny
        self.stride = math.lcm(completion.stride, unet.stride)

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole along `edges`, which are taken as they are; None completes those of the known pixels.

        `output.edges` are the completed edges: the known pixels' own and, in the hole, the predicted ones. They are
        None where edges were given. Canny sees what the padding repeats at the right and bottom, too.
        """
        if edges is not None:
            return self.unet.inpaint(image, mask, edges)
        return self.inpaint_from_known(image, mask, self.canny.known_edges(image, mask))

    def inpaint_from_known(self, image: Tensor, mask: Tensor, known: Tensor) -> InpaintingOutput:
        """Complete the known pixels' edges (B, 1, H, W), which are not read in the hole, and fill it along them."""
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
        return _completed(self.completion, self.canny, image, mask, known)

    def map_layers(self) -> dict[str, nn.Module]:
        """The U-Net's."""
        return self.unet.map_layers()


class EdgeCompletion(InpaintingNetwork):
    """MECNet alone behind the interface: it completes edges and paints nothing.

    Its prediction is the picture as it is given, 0 in the hole. `output.edges` are MECNet's of the whole picture, those
    of known pixels too, as its losses judge them; EdgeLBAM keeps the known pixels' own.

    Args:
        completion: predicts edges.
        canny: as in EdgeLBAM.
    """

    takes_edges = True

    def __init__(self, completion: MECNet, canny: Canny = DEFAULT_CANNY) -> None:
        super().__init__()
        self.completion, self.canny = completion, canny
        self.stride = completion.stride

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Complete `edges`, which are not read in the hole; None finds those of the known pixels."""
        predicted, pyramid = self.complete_edges(image, mask, edges)
        return InpaintingOutput(image, edges=predicted, edge_pyramid=pyramid)

    def complete_edges(
        self, image: Tensor, mask: Tensor, known: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As `EdgeLBAM.complete_edges`."""
        return _completed(self.completion, self.canny, image, mask, known)


def _completed(
    completion: MECNet, canny: Canny, image: Tensor, mask: Tensor, known: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    edges = canny.known_edges(image, mask) if known is None else known
    predicted: tuple[Tensor, tuple[Tensor, ...]] = completion(canny.gray(image), edges, mask)
    return predicted


def released_edge_lbam(
    width: float = 1.0,
    levels: int = 7,
    unet: Callable[[float, int], LBAM] = released_edge_lbam_unet,
    canny: Canny = RELEASED_CANNY,
) -> EdgeLBAM:
    """Edge-LBAM's release (of its authors), built from the same parts, with MECNet, which is the paper's.

    Departs from the paper, as the release: Canny's sigma is 1.5 and grey is scikit-image's; and what
    `released_edge_lbam_unet` says.
    """
    return EdgeLBAM(MECNet(width), unet(width, levels), canny)
