"""Edge-LBAM: MECNet completes the edges, which guide the attention maps of a U-Net."""

import math

from torch import Tensor

from src.networks.interface import InpaintingOutput
from src.networks.layers.canny import DEFAULT_CANNY, Canny
from src.networks.layers.edge_completion import EdgeCompletingNetwork, EdgeGuidedNetwork, keep_known
from src.networks.lbam import LBAM
from src.networks.mecnet import MECNet


class EdgeLBAM(EdgeGuidedNetwork):
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
        self.completion, self.unet, self.canny, self.combine = completion, unet, canny, keep_known
        self.stride = math.lcm(completion.stride, unet.stride)

    @property
    def inpainting_network(self) -> LBAM:
        """The U-Net."""
        return self.unet


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
