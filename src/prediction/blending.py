"""Blend a prediction into the hole: paste it, or continue the colours around the hole (Poisson blending)."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

Blend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""image, mask, prediction -> what is pasted into the hole; shapes as in `InpaintingNetwork.forward`."""

MARGIN_PX = 2  # added around the image, as OpenCV ignores the outermost pixels of a hole at the border


def paste(image: Tensor, mask: Tensor, prediction: Tensor) -> Tensor:
    """Return the prediction."""
    return prediction


def blend_poisson(image: Tensor, mask: Tensor, prediction: Tensor) -> Tensor:
    """Return images with the gradients of the prediction and the colours of the image at the border of the hole.

    Source: Iizuka et al., SIGGRAPH 2017: the completed region is blended with the colours of the surrounding pixels by
    Telea's inpainting and Poisson blending (Perez et al., SIGGRAPH 2003). Both are OpenCV's, on 8 bits, as in the
    PyTorch port. Images without a hole or without a known pixel keep the prediction.
    """
    blended = []
    for one, known, predicted in zip(image, mask > 0, prediction, strict=True):
        hole = (~known[0]).byte().mul(255).cpu().numpy()
        if hole.all() or not hole.any():
            blended.append(predicted)
            continue
        unknown, hole = np.pad(hole, MARGIN_PX, mode="edge"), np.pad(hole, MARGIN_PX)
        target = cv2.inpaint(_to_bytes(torch.where(known, one, 0.0)), unknown, 3, cv2.INPAINT_TELEA)
        left, top, width, height = cv2.boundingRect(hole)
        centre = left + width // 2, top + height // 2
        cloned = cv2.seamlessClone(_to_bytes(predicted), target, hole, centre, cv2.NORMAL_CLONE)
        inside = cloned[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
        blended.append(torch.from_numpy(inside / np.float32(255)).permute(2, 0, 1).to(prediction))
    return torch.stack(blended)


def _to_bytes(image: Tensor) -> Any:
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return np.pad(pixels, [(MARGIN_PX, MARGIN_PX), (MARGIN_PX, MARGIN_PX), (0, 0)], mode="edge")


BLENDS: dict[str, Blend] = {"paste": paste, "poisson": blend_poisson}
