"""What a caller hands over, PIL, NumPy or tensors, as the tensors that networks take, and back again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from src.common.errors import InputError
from src.image_files.binary_images import to_edge_array, to_mask_array
from src.image_files.decoding import name_file_in_errors
from src.image_files.reading import to_rgb_array
from src.image_files.source_pixels import fill_hole, to_eight_bits

Kind = TypeVar("Kind", Image.Image, NDArray[Any], Tensor)
"""Of what kind the image is, the result is too."""

Given = Image.Image | NDArray[Any] | Tensor
"""A mask or edges of any kind, which need not be the image's."""

Colour = Literal["white", "black"]


@dataclass(frozen=True)
class GivenImage(Generic[Kind]):
    """An image on its way through a network.

    Attributes:
        tensor: (B, 3, H, W), float32 in [0, 1] where known.
        pasted: makes of the filled tensor and the mask an image of the caller's kind, whose known pixels are its own.
    """

    tensor: Tensor
    pasted: Callable[[Tensor, Tensor], Kind]


def given_image(image: Kind) -> GivenImage[Kind]:
    """Take an image: PIL of any mode, (H, W, 3) of NumPy, (3, H, W) or (B, 3, H, W) of PyTorch.

    Raises:
        InputError: it is of another kind, shape or range.
    """
    if isinstance(image, Image.Image):
        return _picture(image)
    if isinstance(image, np.ndarray):
        return _array(image)
    if isinstance(image, Tensor):
        return _tensor(image)
    raise InputError(f"the image must be a PIL image, a NumPy array or a tensor, got {type(image).__name__}")


def given_mask(mask: Given, image: Tensor, hole: Colour) -> Tensor:
    """Take a mask: a picture, `hole` its hole, or numbers, 1 = known and 0 = hole.

    Shapes:
        image (B, 3, H, W). mask (H, W), (1, H, W) or (B, 1, H, W), of NumPy (H, W, 1) as well. Returns (B, 1, H, W).
    Raises:
        InputError: it is of another kind, shape or range.
    """
    if isinstance(mask, Image.Image):
        with name_file_in_errors("the mask"):
            known = torch.from_numpy(to_mask_array(to_eight_bits(mask), hole))
        return _plane("mask", known, image)
    plane = _plane("mask", _numbers("mask", mask), image)
    if not ((plane == 0) | (plane == 1)).all():
        other = float(plane[(plane != 0) & (plane != 1)][0])
        raise InputError(
            f"the mask holds {other:g}, where it must hold 1 (known) and 0 (hole) alone: of a picture's values, where "
            "white is the hole, mask = values < 128"
        )
    return plane


def given_edges(edges: Given, image: Tensor, lines: Colour) -> Tensor:
    """Take edges: a picture, `lines` what it draws with, or numbers, 1 on a line and 0 beside it.

    Shapes:
        as of `given_mask`.
    Raises:
        InputError: they are of another kind, shape or range.
    """
    if isinstance(edges, Image.Image):
        with name_file_in_errors("the edges"):
            drawn = torch.from_numpy(to_edge_array(to_eight_bits(edges), lines))
        return _plane("edges", drawn, image)
    plane = _plane("edges", _numbers("edges", edges), image)
    if not ((plane >= 0) & (plane <= 1)).all():
        raise InputError("the edges must lie in [0, 1], 1 on a line and 0 beside it")
    return plane


def eight_bit(picture: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) in [0, 1] as (H, W, 3) of 0 ... 255, rounded."""
    return (picture * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def _picture(image: Image.Image) -> GivenImage[Image.Image]:
    with name_file_in_errors("the image"):
        stored = to_eight_bits(image)
        pixels = _unit(to_rgb_array(stored))

    def pasted(filled: Tensor, mask: Tensor) -> Image.Image:
        return fill_hole(stored, eight_bit(filled[0]), mask[0, 0].cpu().numpy() > 0)

    return GivenImage(pixels, pasted)


def _array(image: NDArray[Any]) -> GivenImage[NDArray[Any]]:
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(
            f"an image of NumPy must be (H, W, 3), got {image.shape}; Image.fromarray makes a PIL image of others"
        )
    if not (image.dtype == np.uint8 or np.issubdtype(image.dtype, np.floating)):
        raise InputError(f"an image of NumPy must be of uint8, or of floats in [0, 1], got {image.dtype}")

    def pasted(filled: Tensor, mask: Tensor) -> NDArray[Any]:
        known = mask[0, 0, :, :, None].cpu().numpy() > 0
        if image.dtype == np.uint8:
            return np.where(known, image, eight_bit(filled[0]))
        return np.where(known, image, filled[0].permute(1, 2, 0).cpu().numpy().astype(image.dtype))

    if image.dtype == np.uint8:
        return GivenImage(_unit(image), pasted)
    return GivenImage(torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None], pasted)


def _tensor(image: Tensor) -> GivenImage[Tensor]:
    if image.ndim not in (3, 4) or image.shape[-3] != 3:
        raise InputError(f"an image of PyTorch must be (3, H, W) or (B, 3, H, W), got {tuple(image.shape)}")
    if not image.is_floating_point():
        raise InputError(f"an image of PyTorch must be of floats in [0, 1], got {image.dtype}")

    def pasted(filled: Tensor, mask: Tensor) -> Tensor:
        known = mask.reshape(*image.shape[:-3], 1, *image.shape[-2:]).to(image.device) > 0
        return torch.where(known, image, filled.reshape(image.shape).to(image))

    return GivenImage(image.float().reshape(-1, *image.shape[-3:]), pasted)


def _unit(pixels: NDArray[np.uint8]) -> Tensor:
    return _copied(pixels).permute(2, 0, 1)[None].float() / 255


def _copied(values: NDArray[Any]) -> Tensor:
    """The array's values, be it read-only, as PIL's are, or flipped."""
    return torch.from_numpy(np.array(values, order="C"))


def _numbers(name: str, values: NDArray[Any] | Tensor) -> Tensor:
    if isinstance(values, Tensor):
        return values
    if isinstance(values, np.ndarray):
        return _copied(values[..., 0] if values.shape[2:] == (1,) else values)
    raise InputError(f"the {name} must be a PIL image, a NumPy array or a tensor, got {type(values).__name__}")


def _plane(name: str, values: Tensor, image: Tensor) -> Tensor:
    batch, _, height, width = image.shape
    if values.ndim >= 2 and values.shape[-2:] != image.shape[-2:]:
        sizes = [f"{columns}x{rows}" for rows, columns in (values.shape[-2:], image.shape[-2:])]
        raise InputError(f"the {name} is {sizes[0]}, the image is {sizes[1]}: both must have the same size")
    allowed = [(height, width), (1, height, width)] if batch == 1 else []
    if tuple(values.shape) not in (allowed := [*allowed, (batch, 1, height, width)]):
        raise InputError(f"the {name} must be {' or '.join(map(str, allowed))}, got {tuple(values.shape)}")
    return values.reshape(batch, 1, height, width).to(image)
