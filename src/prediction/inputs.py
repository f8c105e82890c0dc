"""Convert images, masks and edge maps (PIL, NumPy or PyTorch) to the tensors that networks take, and results back."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from src.common.errors import InputError
from src.image_files.binary_images import Hole, to_edge_array, to_mask_array
from src.image_files.decoding import name_file_in_errors
from src.image_files.reading import to_rgb_array
from src.image_files.source_pixels import fill_hole, to_eight_bits

ImageT = TypeVar("ImageT", Image.Image, NDArray[Any], Tensor)
"""Type of the image, and therefore of the result."""

MaskLike = Image.Image | NDArray[Any] | Tensor
"""A mask or an edge map; its type may differ from the image's."""

Colour = Literal["white", "black"]


def convert_image(image: ImageT) -> tuple[Tensor, Callable[[Tensor, Tensor], ImageT]]:
    """Convert a PIL image of any mode, an array (H, W, 3), or a tensor (3, H, W) or (B, 3, H, W).

    Returns:
        A tensor (B, 3, H, W), uint8 or float32, the latter in [0, 1] where known, and a function that converts a filled
        tensor of the same dtype and the mask to the original type, with the known pixels of the original.
    """
    if isinstance(image, Image.Image):
        return _convert_pil(image)
    if isinstance(image, np.ndarray):
        return _convert_array(image)
    if isinstance(image, Tensor):
        return _convert_tensor(image)
    raise InputError(f"the image must be a PIL image, a NumPy array or a tensor, got {type(image).__name__}")


def convert_mask(mask: MaskLike, image: Tensor, hole: Hole) -> Tensor:
    """Convert a mask: a PIL image, as described in `read_mask`, or numbers, 1 = known and 0 = hole.

    Shapes:
        image (B, 3, H, W). mask (H, W), (1, H, W) or (B, 1, H, W); arrays may be (H, W, 1). Returns (B, 1, H, W).
    """
    if isinstance(mask, Image.Image):
        with name_file_in_errors("the mask"):
            mask = to_mask_array(to_eight_bits(mask, keep_labels=True), hole)
    plane = _reshape_plane("mask", mask, image)
    if not ((plane == 0) | (plane == 1)).all():
        other = float(plane[(plane != 0) & (plane != 1)][0])
        raise InputError(
            f"the mask must contain only 1 (known) and 0 (hole), got {other:g}: convert 8-bit values whose hole is "
            "white with mask = values < 128"
        )
    return plane


def convert_edges(edges: MaskLike, image: Tensor, lines: Colour) -> Tensor:
    """Convert an edge map: a PIL image whose lines have the colour `lines`, or numbers in [0, 1], 1 on a line."""
    if isinstance(edges, Image.Image):
        with name_file_in_errors("the edges"):
            edges = to_edge_array(to_eight_bits(edges), lines)
    plane = _reshape_plane("edges", edges, image)
    if not ((plane >= 0) & (plane <= 1)).all():
        raise InputError("edges must be in [0, 1], 1 on a line and 0 elsewhere: divide 8-bit values by 255")
    return plane


def to_unit(pixels: Tensor) -> Tensor:
    """Convert uint8 to [0, 1]; floating point is returned unchanged."""
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels


def from_unit(filled: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert [0, 1] back to `dtype`; 8 bits are rounded."""
    return (filled * 255).round_().byte() if dtype == torch.uint8 else filled


def _to_array(image: Tensor) -> NDArray[Any]:
    return np.asarray(image.permute(1, 2, 0).cpu().numpy())


def _convert_pil(image: Image.Image) -> tuple[Tensor, Callable[[Tensor, Tensor], Image.Image]]:
    with name_file_in_errors("the image"):
        stored = to_eight_bits(image)
        pixels = torch.from_numpy(to_rgb_array(stored)).permute(2, 0, 1)[None]

    def restore(filled: Tensor, mask: Tensor) -> Image.Image:
        return fill_hole(stored, _to_array(filled[0]), mask[0, 0].cpu().numpy() > 0)

    return pixels, restore


def _convert_array(image: NDArray[Any]) -> tuple[Tensor, Callable[[Tensor, Tensor], NDArray[Any]]]:
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(
            f"an image array must be (H, W, 3), got {image.shape}: convert other layouts with Image.fromarray"
        )
    is_uint8 = image.dtype == np.uint8
    if not (is_uint8 or np.issubdtype(image.dtype, np.floating)):
        raise InputError(f"an image array must be uint8, or floating point in [0, 1], got {image.dtype}")

    def restore(filled: Tensor, mask: Tensor) -> NDArray[Any]:
        known = mask[0, 0, :, :, None].cpu().numpy() > 0
        return np.where(known, image, _to_array(filled[0]).astype(image.dtype))

    return _copy_to_tensor(image if is_uint8 else image.astype(np.float32)).permute(2, 0, 1)[None], restore


def _convert_tensor(image: Tensor) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
    if image.ndim not in (3, 4) or image.shape[-3] != 3:
        raise InputError(f"an image tensor must be (3, H, W) or (B, 3, H, W), got {tuple(image.shape)}")
    if not image.is_floating_point():
        raise InputError(f"an image tensor must be floating point in [0, 1], got {image.dtype}")

    def restore(filled: Tensor, mask: Tensor) -> Tensor:
        known = mask.reshape(*image.shape[:-3], 1, *image.shape[-2:]).to(image.device) > 0
        return torch.where(known, image, filled.reshape(image.shape).to(image))

    return image.float().reshape(-1, *image.shape[-3:]), restore


def _copy_to_tensor(values: NDArray[Any]) -> Tensor:
    """Copy an array, which may be read-only (PIL's are) or have negative strides, into a tensor."""
    return torch.from_numpy(np.array(values, order="C"))


def _reshape_plane(name: str, values: NDArray[Any] | Tensor, image: Tensor) -> Tensor:
    if isinstance(values, np.ndarray):
        values = _copy_to_tensor(values[..., 0] if values.shape[2:] == (1,) else values)
    if not isinstance(values, Tensor):
        raise InputError(f"the {name} must be a PIL image, a NumPy array or a tensor, got {type(values).__name__}")
    batch, _, height, width = image.shape
    if values.ndim >= 2 and values.shape[-2:] != image.shape[-2:]:
        raise InputError(
            f"the {name} has size {tuple(values.shape[-2:])} but the image has size {(height, width)}, both as (H, W): "
            "resize one of them"
        )
    allowed = [(height, width), (1, height, width)] if batch == 1 else []
    if tuple(values.shape) not in (allowed := [*allowed, (batch, 1, height, width)]):
        raise InputError(f"the {name} must be {' or '.join(map(str, allowed))}, got {tuple(values.shape)}")
    return values.reshape(batch, 1, height, width).to(image.device, torch.float32)
