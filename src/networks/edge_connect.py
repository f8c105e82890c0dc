"""EdgeConnect: an edge generator completes the edges, along which a second generator inpaints."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from src.common.errors import InputError
from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.layers.canny import EDGE_CONNECT_CANNY, Canny
from src.networks.layers.coarse_to_fine import scaled, to_unit
from src.networks.layers.edge_completion import EdgeGuidedNetwork, keep_known
from src.networks.layers.residual_block import ResidualBlock, Start, decoder, encoder, initialised
from src.networks.mecnet import MECNet


class EdgeConnectGenerator(InpaintingNetwork):
    """EdgeConnect's image completion network, which inpaints along given edges.

    prediction = to_unit(decoder(body(encoder(image, edges))))

    Source: Nazeri et al., ICCV workshops 2019, arXiv:1901.00212, Sec. 3.2 and appendix A. Where the paper is silent, as
    the release: the hole is white, no mask channel, eight residual blocks, no spectral norm, biases everywhere,
    filters from N(0, 0.02^2), output (tanh + 1) / 2.

    Args:
        width: factor of the channels 64, 128, 256 (at least 4 are kept).
        blocks: number of residual blocks.
        upsampling_start: initialises a transposed convolution; `start_upsampling` or, as the release, `initialised`.
    """

    takes_edges = True
    stride = 8  # deepest features of at least 2x2, as instance norm needs more than one value

    def __init__(self, width: float = 1.0, blocks: int = 8, upsampling_start: Start = initialised) -> None:
        super().__init__()
        channels = [scaled(count, width) for count in (64, 128, 256)]
        self.encoder = encoder(4, channels, initialised)
        self.body = nn.Sequential(*(ResidualBlock(channels[-1], start=initialised, bias=True) for _ in range(blocks)))
        self.decoder = decoder(channels[-1], 3, channels, upsampling_start)

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole along `edges` of the whole image. Raises InputError if they are missing."""
        if edges is None:
            raise InputError(
                "EdgeConnect's image completion network requires edges of shape (B, 1, H, W), got None: pass the edges "
                "of the image, or use EdgeConnect, which predicts them"
            )
        seen = torch.cat([torch.where(mask > 0, image, 1.0), edges.to(image)], dim=1)
        return InpaintingOutput(to_unit(self.decoder(self.body(self.encoder(seen))).float().tanh()))


class EdgeConnect(EdgeGuidedNetwork):
    """Image inpainting along completed edges.

    known = Canny of the known pixels;  E = completion(gray, known, mask);  prediction = inpainting(image, mask, E)

    Source: Nazeri et al., ICCV workshops 2019, arXiv:1901.00212, Sec. 3. The edge generator is MECNet with a single
    scale, which was built from it. Edge-LBAM compares itself with EC+ and DFv2+: with MECNet as `completion`, and the
    generators of EdgeConnect and of DeepFill v2 as `inpainting`.

    Args:
        completion: predicts edges.
        inpainting: inpaints along given edges.
        canny: settings for the edges of known pixels and for the grey image that `completion` gets: a standard
            deviation of 2 px (Sec. 5.2), and the release's grey, scikit-image's.
        combine: edges that `inpainting` gets: `keep_known` (Sec. 3.2, the composite edge map), or `keep_predicted`.
    """

    def __init__(
        self,
        completion: MECNet,
        inpainting: InpaintingNetwork,
        canny: Canny = EDGE_CONNECT_CANNY,
        combine: Callable[[Tensor, Tensor, Tensor], Tensor] = keep_known,
    ) -> None:
        super().__init__()
        self.completion, self.inpainting, self.canny, self.combine = completion, inpainting, canny, combine
        self.stride = math.lcm(completion.stride, inpainting.stride)

    @property
    def inpainting_network(self) -> InpaintingNetwork:
        """`inpainting`."""
        return self.inpainting
