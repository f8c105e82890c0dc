"""Blend a prediction into the hole: paste it, or continue the colours around the hole (Poisson blending)."""

from collections.abc import Callable

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

    Source: Iizuka et al., SIGGRAPH 2017, Sec. 3.4: "blending the completed region with the color of the surrounding
    pixels" by Telea's inpainting and Poisson blending (Perez et al., SIGGRAPH 2003). Both are OpenCV's, on 8 bits.
    Images without a hole or without a known pixel keep the prediction.
    """
    blended = []
    for one, known, predicted in zip(image, mask > 0, prediction, strict=True):
        hole = (~known[0]).cpu().numpy().astype(np.uint8) * 255
        if hole.all() or not hole.any():
            blended.append(predicted)
            continue
        hole = cv2.copyMakeBorder(hole, *[MARGIN_PX] * 4, cv2.BORDER_CONSTANT, value=0)
        source, target = (
            cv2.copyMakeBorder(_to_bytes(picture), *[MARGIN_PX] * 4, cv2.BORDER_REPLICATE)
            for picture in (predicted, torch.where(known, one, 0.0))
        )
        target = cv2.inpaint(target, _with_margin_of_hole(hole), 3, cv2.INPAINT_TELEA)
        left, top, width, height = cv2.boundingRect(hole)
        cloned = cv2.seamlessClone(source, target, hole, (left + width // 2, top + height // 2), cv2.NORMAL_CLONE)
        inside = cloned[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
        blended.append(torch.from_numpy(inside / np.float32(255)).permute(2, 0, 1).to(prediction))
    return torch.stack(blended)


def _to_bytes(image: Tensor) -> np.ndarray:
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()


def _with_margin_of_hole(hole: np.ndarray) -> np.ndarray:
    """Return the hole continued into the margin, whose colours next to a hole are unknown, too."""
    inner = hole[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    return cv2.copyMakeBorder(inner, *[MARGIN_PX] * 4, cv2.BORDER_REPLICATE)


BLENDS: dict[str, Blend] = {"paste": paste, "poisson": blend_poisson}
