"""Canny edges of the known pixels of an image, computed by scikit-image, ten times as fast as kornia on a CPU."""

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
"""Standard deviation of the smoothing in px. Edge-LBAM gives none; EdgeConnect (arXiv:1901.00212) found 2 best."""
LOW_THRESHOLD, HIGH_THRESHOLD = 0.1, 0.2
"""Hysteresis thresholds of the gradient magnitude for values in [0, 1]: scikit-image's defaults, as in EdgeConnect."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey: ITU-R BT.601."""


def canny_edges(
    gray: NDArray[np.floating[Any]], known: NDArray[np.bool_] | None = None, sigma: float = SIGMA
) -> NDArray[np.bool_]:
    """Return the Canny edges of the known part of an image, one pixel wide.

    Unknown pixels are never read. Unknown pixels, known pixels next to them and pixels at the image border have no
    edges, because no gradient is known there.

    Shapes:
        gray (H, W) in [0, 1]; known (H, W), True for known pixels, or None if all are known; returns (H, W).
    Raises ValueError if gray is not two-dimensional, or the shapes differ.
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
    """Settings of the Canny edge detector.

    Attributes:
        sigma: standard deviation of the smoothing, in px.
        luma: weights of red, green and blue in grey.
    Raises InputError if sigma is not positive, or luma is not three numbers that sum to 1.
    """

    sigma: float = SIGMA
    luma: Sequence[float] = LUMA

    def __post_init__(self) -> None:
        object.__setattr__(self, "luma", tuple(self.luma))  # a config passes a list
        if not self.sigma > 0:
            raise InputError(f"sigma must be > 0, got {self.sigma}")
        if len(self.luma) != 3 or not math.isclose(sum(self.luma), 1, abs_tol=1e-6):
            raise InputError(f"luma must be three numbers that sum to 1, got {self.luma}")

    def gray(self, image: Tensor) -> Tensor:
        """Convert an image to grey: (B, 3, H, W) in [0, 1] to (B, 1, H, W) in [0, 1]."""
        return (image * image.new_tensor(self.luma)[:, None, None]).sum(dim=1, keepdim=True)

    @torch.no_grad()
    def known_edges(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return `canny_edges` of the known pixels of each image, computed on the CPU without a gradient.

        Shapes:
            image (B, 3, H, W) in [0, 1]; mask (B, 1, H, W), 1 = known, 0 = hole; pass ones for the edges of the whole
            image. Returns (B, 1, H, W), 1 on an edge and 0 elsewhere, in the dtype of the image.
        """
        pairs = zip(self.gray(image.float())[:, 0].cpu().numpy(), (mask[:, 0] > 0).cpu().numpy(), strict=True)
        found = [torch.from_numpy(canny_edges(one, known, self.sigma)) for one, known in pairs]
        return torch.stack(found)[:, None].to(image)


DEFAULT_CANNY = Canny()
RELEASED_CANNY = Canny(sigma=1.5, luma=(0.2125, 0.7154, 0.0721))
"""The settings of Edge-LBAM's release; the grey is scikit-image's, ITU-R BT.709 with four digits."""

EDGE_CONNECT_CANNY = Canny(luma=RELEASED_CANNY.luma)
"""The settings of EdgeConnect's release, which computes grey with scikit-image."""
