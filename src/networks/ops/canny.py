"""Canny's edges of an image's known pixels, by scikit-image.

scikit-image and not kornia: 5 ms a 256 x 256 image on one CPU thread against 55 ms with hysteresis, and its `mask`
smooths by known pixels alone and drops the edges beside the hole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from src.common.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIGMA = 2.0
"""Of the smoothing, px. Edge-LBAM is silent; EdgeConnect (arXiv:1901.00212), Sec. 4.1, finds 2 best."""
LOW_THRESHOLD, HIGH_THRESHOLD = 0.1, 0.2
"""Of the gradient's magnitude, for values in [0, 1], with hysteresis; scikit-image's own, as in EdgeConnect's code."""
LUMA = (0.299, 0.587, 0.114)
"""Red, green and blue in grey: ITU-R BT.601."""


def canny_edges(
    gray: NDArray[np.floating[Any]], known: NDArray[np.bool_] | None = None, sigma: float = SIGMA
) -> NDArray[np.bool_]:
    """Edges of the known part of one picture, one pixel wide.

    Unknown pixels are never read, and have no edges; nor have known ones that touch them, or the picture's border,
    as no gradient is known there.

    Args:
        known: True where a pixel counts; None where all do.
        sigma: of the smoothing, px.
    Shapes:
        gray (H, W) in [0, 1]; known (H, W); returns (H, W).
    Raises:
        ValueError: the shapes differ, or there are not two dimensions.
    """
    from skimage.feature import canny

    if gray.ndim != 2 or (known is not None and known.shape != gray.shape):
        raise ValueError(
            f"gray and known must share (H, W), got {gray.shape} and {None if known is None else known.shape}"
        )
    edges: NDArray[np.bool_] = canny(  # type: ignore[no-untyped-call]  # scikit-image has no types
        gray, sigma=sigma, low_threshold=LOW_THRESHOLD, high_threshold=HIGH_THRESHOLD, mask=known
    )
    return edges


@dataclass(frozen=True)
class Canny:
    """How a method finds edges.

    Attributes:
        sigma: of the smoothing, px.
        luma: red, green and blue in grey.
    Raises:
        InputError: sigma is not above 0; luma are not three numbers whose sum is 1.
    """

    sigma: float = SIGMA
    luma: Sequence[float] = LUMA

    def __post_init__(self) -> None:
        object.__setattr__(self, "luma", tuple(self.luma))  # a list, in a configuration
        if not self.sigma > 0:
            raise InputError(f"sigma must be above 0, got {self.sigma}")
        if len(self.luma) != 3 or not math.isclose(sum(self.luma), 1, abs_tol=1e-6):
            raise InputError(f"luma must be three numbers whose sum is 1, got {self.luma}")

    def gray(self, image: Tensor) -> Tensor:
        """The luma of a picture: (B, 3, H, W) in [0, 1] to (B, 1, H, W) in [0, 1]."""
        return (image * image.new_tensor(self.luma)[:, None, None]).sum(dim=1, keepdim=True)

    @torch.no_grad()
    def known_edges(self, image: Tensor, mask: Tensor) -> Tensor:
        """`canny_edges` of every picture's known pixels, found on the CPU one by one; no gradient.

        Shapes:
            image (B, 3, H, W) in [0, 1]; mask (B, 1, H, W), 1 = known, 0 = hole, all ones for all of an image's edges.
            Returns (B, 1, H, W), 1 on an edge, else 0, of the image's type.
        """
        pairs = zip(self.gray(image.float())[:, 0].cpu().numpy(), (mask[:, 0] > 0).cpu().numpy(), strict=True)
        found = [torch.from_numpy(canny_edges(one, known, self.sigma)) for one, known in pairs]
        return torch.stack(found)[:, None].to(image)


DEFAULT_CANNY = Canny()
"""What this file's constants say."""

RELEASED_CANNY = Canny(sigma=1.5, luma=(0.2125, 0.7154, 0.0721))
"""Of Edge-LBAM's release: scikit-image's own grey, ITU-R BT.709's with four digits."""
