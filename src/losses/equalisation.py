"""MEDFE's terms on the images of its structure and texture features."""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.losses.inputs import LossInput


def unfiltered(image: Tensor) -> Tensor:
    """Return the image, (B, 3, H, W)."""
    return image


def edge_preserving(image: Tensor) -> Tensor:
    """Smooth images (B, 3, H, W) in [0, 1] but not across edges, by OpenCV's edgePreservingFilter in 8 bits.

    Source: Gastal & Oliveira, SIGGRAPH 2011, recursive filter, with OpenCV's parameters: a standard deviation of 60 px
    in space and 0.4 in colour.
    Departs from MEDFE (Liu et al., ECCV 2020), which smooths by relative total variation (Xu et al., SIGGRAPH Asia
    2012) before the training, in Matlab: it solves a sparse system of equations per image, which is too slow per step.
    """
    bytes_ = (image.detach() * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    smooth = [cv2.edgePreservingFilter(np.ascontiguousarray(one), flags=cv2.RECURS_FILTER) for one in bytes_]
    return torch.from_numpy(np.stack(smooth)).permute(0, 3, 1, 2).to(image) / 255


class PartL1(nn.Module):
    """mean |part - target(I_gt)|, the target resized to the size of the part.

    Source: Liu et al., ECCV 2020, Sec. 3.3: the structure features predict the smoothed truth, `edge_preserving`, and
    the texture features the truth, `unfiltered`. Where the paper is silent, as the release: bilinear resizing.

    Args:
        part: name of an image in `InpaintingOutput.parts`.
        target: makes the target at full size from the truth.
    """

    def __init__(self, part: str, target: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.part, self.target = part, target

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the loss, a scalar."""
        ours = inputs.output.parts[self.part].float()
        truth = F.interpolate(self.target(inputs.get_image("truth")), size=ours.shape[-2:], mode="bilinear")
        return (ours - truth).abs().mean()
