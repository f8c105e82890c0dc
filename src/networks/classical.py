"""Methods without weights: mean colour, and the inpainting functions of OpenCV, scikit-image and PyPatchMatch."""

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.restoration import inpaint_biharmonic
from torch import Tensor

from src.common.errors import InputError
from src.networks.interface import InpaintingNetwork, InpaintingOutput

GREY = 0.5  # fills an image without any known pixel


class MeanColour(InpaintingNetwork):
    """Fill each image with the mean colour of its known pixels, or with grey if it has none."""

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the image, known pixels included; `edges` are ignored."""
        known = mask.sum(dim=(-2, -1), keepdim=True)
        mean = (image * mask).sum(dim=(-2, -1), keepdim=True) / known.clamp_min(1)
        return InpaintingOutput(torch.where(known > 0, mean, GREY).expand_as(image))


class Telea(InpaintingNetwork):
    """Fast marching inpainting: Telea, Journal of Graphics Tools 9(1), 2004. OpenCV's implementation, on 8 bits.

    Args:
        radius_px: radius of the neighbourhood from which each pixel is filled.
    """

    method = cv2.INPAINT_TELEA

    def __init__(self, radius_px: float = 3.0) -> None:
        super().__init__()
        self.radius_px = radius_px
        self.reach_px = 2 * math.ceil(radius_px) + 2

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole; `edges` are ignored."""
        return _fill_each(image, mask, self._fill)

    def _fill(self, rgb: NDArray[np.float32], hole: NDArray[np.bool_]) -> NDArray[np.float32]:
        if len(rgb) == 1:  # OpenCV reads out of bounds if the image has a single row
            return self._fill(rgb.repeat(3, axis=0), hole.repeat(3, axis=0))[1:2]
        eight_bit = np.rint(rgb * 255).astype(np.uint8)  # OpenCV supports colour in 8 bits only
        return cv2.inpaint(eight_bit, hole.astype(np.uint8), self.radius_px, self.method) / np.float32(255)


class NavierStokes(Telea):
    """Navier-Stokes inpainting: Bertalmio et al., CVPR 2001. OpenCV's implementation, on 8 bits, as `Telea`."""

    method = cv2.INPAINT_NS


class Biharmonic(InpaintingNetwork):
    """Biharmonic inpainting: Damelin and Hoang, 2018. scikit-image's implementation.

    It solves a sparse linear system with one unknown per hole pixel, which takes seconds for a large hole at 512x512.
    """

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole; `edges` are ignored."""
        return _fill_each(image, mask, lambda rgb, hole: inpaint_biharmonic(rgb, hole, channel_axis=-1))


class PatchMatch(InpaintingNetwork):
    """PatchMatch inpainting: Barnes et al., ACM TOG 28(3), 2009. PyPatchMatch's implementation, on 8 bits.

    Not the authors' code: PyPatchMatch 2.2 (MIT licence) continues Younesse Andam's. Holes are
    filled from coarse to fine by patches of the known pixels, which a randomised search finds.

    Args:
        radius_px: radius of the patches; 3, Barnes et al.'s 7x7 patches.
        seed: seed of the search, for every image.
    Raises InputError if PyPatchMatch is not installed.
    """

    def __init__(self, radius_px: int = 3, seed: int = 0) -> None:
        super().__init__()
        self.radius_px, self.seed = radius_px, seed
        if not has_patchmatch():
            raise InputError(
                "model=patchmatch needs the package pypatchmatch (Python 3.11 or newer), which can't be loaded: "
                "pip install -e '.[patchmatch]'"
            )

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole; `edges` are ignored."""
        return _fill_each(image, mask, self._fill)

    def _fill(self, rgb: NDArray[np.float32], hole: NDArray[np.bool_]) -> NDArray[np.float32]:
        import patchmatch

        patchmatch.set_random_seed(self.seed)
        filled: NDArray[np.uint8] = patchmatch.inpaint(
            np.rint(rgb * 255).astype(np.uint8), hole, patch_size=self.radius_px
        )
        return filled.astype(np.float32) / np.float32(255)


def has_patchmatch() -> bool:
    """Return whether PyPatchMatch and its library are installed."""
    try:
        import patchmatch
    except ImportError:
        return False
    return bool(patchmatch.patchmatch_available)


def _fill_each(
    image: Tensor, mask: Tensor, fill: Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.float32]]
) -> InpaintingOutput:
    """Call `fill` with (H, W, 3) in [0, 1] and the hole (H, W) for each image that has known and unknown pixels."""
    prediction = image.detach().clone()
    for one, known in zip(prediction, mask[:, 0] > 0, strict=True):
        if not known.any():
            one.fill_(GREY)
        elif not known.all():
            filled = fill(one.permute(1, 2, 0).float().cpu().numpy(), ~known.cpu().numpy())
            one.copy_(torch.from_numpy(filled).permute(2, 0, 1).clamp(0, 1))
    return InpaintingOutput(prediction)
