"""Filling a batch by one method: checked before, pasted and checked after."""

import torch
from torch import Tensor

from src.common.errors import InputError
from src.networks.interface import InpaintingNetwork, InpaintingOutput, composite
from src.prediction.sizes import Size, Whole

WHOLE = Whole()


def fill(
    network: InpaintingNetwork, image: Tensor, mask: Tensor, drawn: Tensor | None = None, size: Size = WHOLE
) -> Tensor:
    """Fill the holes of a batch; known pixels stay as they are.

    It looks at values, as a network's `forward` does not: that is called in every step of a training, whose data were
    looked at when they were read.

    Args:
        drawn: edges that the hole is to have; where the picture is known its own count.
        size: how much of a picture the network sees at once.
    Shapes:
        as of `InpaintingNetwork.forward`; returns (B, 3, H, W) in [0, 1].
    Raises:
        InputError: a known pixel is no number in [0, 1], the mask has values between 0 and 1, or the network answers
            with something other than numbers, as one does whose weights are none.
        ValueError: a shape is another.
    """
    if not ((mask == 0) | (mask == 1)).all():
        raise InputError("the mask must hold 0 (hole) and 1 (known), and nothing else")
    if not ((mask == 0) | ((image >= 0) & (image <= 1))).all():  # NaN is neither
        raise InputError("the known pixels of the image must be numbers in [0, 1]")

    def paint(image: Tensor, mask: Tensor, drawn: Tensor | None) -> Tensor:
        output: InpaintingOutput = network(image, mask, edges_taken(network, image, mask, drawn))
        return output.prediction

    with torch.inference_mode():
        filled = composite(image, mask, InpaintingOutput(size.paint(paint, image, mask, drawn)))
    if not filled.isfinite().all():
        raise InputError(f"{type(network).__name__} fills in NaN or infinity: its weights are not those of a good run")
    return filled


def edges_taken(network: InpaintingNetwork, image: Tensor, mask: Tensor, drawn: Tensor | None) -> Tensor | None:
    """What `network` is given for edges: the drawing in the hole and, where the picture is known, its own edges.

    Shapes:
        as of `fill`.
    """
    return None if drawn is None else torch.where(mask > 0, network.canny.known_edges(image, mask), drawn)
