"""The centred hole that contextual attention's Table 1 was measured with: one mask for a size, nothing random."""

from dataclasses import dataclass

import numpy as np

from src.common.errors import InputError
from src.masks.generators import Mask


@dataclass(frozen=True)
class CentredRectangle:
    """One rectangular hole in the middle of the image, the same in every draw.

    height = floor(side_share * H), width = floor(side_share * W), top = (H - height) // 2, left = (W - width) // 2

    Where a margin is odd, the extra row or column is known and lies below or to the right.
    Source: contextual attention (Yu et al. 2018), Table 1: its author names "a center mask with H/2 * W/2" in issue 295
    of the release's repository; the paper does not describe its test masks.

    Args:
        side_share: the hole's sides over the image's; 0.5 makes a hole of 25 % of the image.
    """

    side_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.side_share < 1:
            raise InputError(f"side_share must lie in (0, 1), got {self.side_share:g}")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Return the mask of this size, as `MaskGenerator` documents it; `rng` is not used.

        Raises:
            InputError: the hole's ratio is outside `hole_ratio`.
        """
        height, width = (int(self.side_share * side) for side in size)
        ratio = height * width / (size[0] * size[1])
        if not hole_ratio[0] < ratio <= hole_ratio[1]:
            raise InputError(
                f"the centred hole of {height}x{width} in {size[0]}x{size[1]} has a hole ratio of {ratio:.4g}, outside "
                f"({hole_ratio[0]:g}, {hole_ratio[1]:g}]: change mask.generator.side_share or mask.hole_ratio"
            )
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        mask = np.ones(size, np.uint8)
        mask[top : top + height, left : left + width] = 0
        return mask
