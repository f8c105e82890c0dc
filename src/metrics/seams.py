"""Scores of what shows a fill at a glance: a step across the hole's border, and another colour along it.

Shapes of all: as in `functional`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

RING_PX = 8


def seam_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return 100 * max(0, mean |step of the prediction| - mean |step of the truth|); NaN without a border.

    A step is the difference of two neighbouring pixels, horizontally or vertically, of which one is in the hole and
    one is known; the means are over all such pairs and all channels. A fill whose steps are as large as the truth's
    scores 0, whether or not its pixels are right, and so does a smooth one. For a composite only the pixel in the hole
    is the network's; if it is the truth's plus a constant, the score does not fall as the constant grows.

    Invariant to adding an image to both that is constant across the border, and to flips; linear in contrast.
    """
    excess = torch.zeros(len(truth), dtype=torch.float64, device=truth.device)
    pairs = torch.zeros_like(excess)
    for axis in (-1, -2):
        crossing = mask.diff(dim=axis).abs().double()
        ours, true = (image.diff(dim=axis).abs() for image in (prediction, truth))
        excess = excess + (crossing * (ours - true)).sum(dim=(1, 2, 3))
        pairs = pairs + crossing.sum(dim=(1, 2, 3))
    return 100 * (excess / (truth.shape[1] * pairs)).clamp_min(0)


def colour_shift_percent(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return 100 * mean |local mean of d| over the ring; NaN without a ring.

    The ring are the hole's pixels with a known pixel at most 8 px away, along each axis. The local mean at a pixel is
    over the ring's pixels at most 8 px away from it, per channel, so noise and texture cancel but a tint does not.

    A constant error in the hole scores 100 times its size. It depends on d only, and not on pixels outside the ring.
    """
    window = 2 * RING_PX + 1
    near_known = F.max_pool2d(mask, window, stride=1, padding=RING_PX)
    ring = (1 - mask) * near_known
    count = _window_mean(ring)
    shift = _window_mean(ring * (prediction - truth)) / count.clamp_min(1 / window**2)
    total = (ring * shift.abs()).sum(dim=(1, 2, 3))
    return 100 * total / (truth.shape[1] * ring.sum(dim=(1, 2, 3)))


def _window_mean(values: Tensor) -> Tensor:
    """Return the mean in a square window with zeros beyond the border; rows first, as that takes fewer additions."""
    window = 2 * RING_PX + 1
    rows = F.avg_pool2d(values, (1, window), stride=1, padding=(0, RING_PX))
    return F.avg_pool2d(rows, (window, 1), stride=1, padding=(RING_PX, 0))
