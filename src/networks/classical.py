"""Methods without weights: mean colour, and OpenCV's and scikit-image's inpainting, behind the networks' interface."""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.restoration import inpaint_biharmonic
from torch import Tensor

from src.networks.interface import InpaintingNetwork, InpaintingOutput

GREY = 0.5  # the colour of an image of which nothing is known


class MeanColour(InpaintingNetwork):
    """One colour an image: the mean of its known pixels, or grey where there are none."""

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill everything, known pixels too; `edges` are not used."""
        known = mask.sum(dim=(-2, -1), keepdim=True)
        mean = (image * mask).sum(dim=(-2, -1), keepdim=True) / known.clamp_min(1)
        return InpaintingOutput(torch.where(known > 0, mean, GREY).expand_as(image))


class Telea(InpaintingNetwork):
    """Fast marching from the rim inwards. Source: Telea, Journal of Graphics Tools 9(1), 2004; OpenCV's, on 8 bits.

    Args:
        radius_px: of the neighbourhood that each pixel is filled from.
    """

    def __init__(self, radius_px: float = 3.0) -> None:
        super().__init__()
        self.radius_px = radius_px

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole; `edges` are not used."""
        return _fill_each(image, mask, lambda rgb, hole: _opencv_fill(rgb, hole, self.radius_px, cv2.INPAINT_TELEA))


class NavierStokes(InpaintingNetwork):
    """Isophotes continued as a fluid's stream lines. Source: Bertalmio et al., CVPR 2001; OpenCV's, on 8 bits.

    Args:
        radius_px: of the neighbourhood that each pixel is filled from.
    """

    def __init__(self, radius_px: float = 3.0) -> None:
        super().__init__()
        self.radius_px = radius_px

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole; `edges` are not used."""
        return _fill_each(image, mask, lambda rgb, hole: _opencv_fill(rgb, hole, self.radius_px, cv2.INPAINT_NS))


class Biharmonic(InpaintingNetwork):
    """The smoothest surface through the known pixels. Source: Damelin and Hoang, 2018; scikit-image's.

    Slow: one sparse linear system with as many unknowns as the hole has pixels, seconds for a large hole at 512x512.
    """

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole; `edges` are not used."""
        return _fill_each(image, mask, lambda rgb, hole: inpaint_biharmonic(rgb, hole, channel_axis=-1))


def _opencv_fill(
    rgb: NDArray[np.float32], hole: NDArray[np.bool_], radius_px: float, method: int
) -> NDArray[np.float32]:
    eight_bit = np.rint(rgb * 255).astype(np.uint8)  # OpenCV takes colour as 8 bits only
    if len(rgb) == 1:  # of one row OpenCV reads beyond the end, and fills in whatever is there
        return _opencv_fill(rgb.repeat(3, axis=0), hole.repeat(3, axis=0), radius_px, method)[1:2]
    return cv2.inpaint(eight_bit, hole.astype(np.uint8), radius_px, method) / np.float32(255)


def _fill_each(
    image: Tensor,
    mask: Tensor,
    fill: Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.float32]],
) -> InpaintingOutput:
    """Give each image that has a hole and something known to `fill`, as (H, W, 3) in [0, 1] and (H, W), True = hole."""
    prediction = image.detach().clone()
    for one, known in zip(prediction, mask[:, 0] > 0, strict=True):
        if not known.any():
            one.fill_(GREY)
        elif not known.all():
            rgb = one.permute(1, 2, 0).float().cpu().numpy()
            filled = fill(rgb, ~known.cpu().numpy())
            one.copy_(torch.from_numpy(filled).permute(2, 0, 1).clamp(0, 1))
    return InpaintingOutput(prediction)
