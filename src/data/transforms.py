"""Albumentations pipelines from an image to a crop, and how to run them reproducibly.

A first step that only resizes is the same for every crop of an image: `resize_shorter_side` does it once for all.
"""

import os
import random
from collections.abc import Sequence
from functools import partial
from typing import Any

# Otherwise importing albumentations looks for a newer version on the internet, and waits two seconds if offline.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from src.common.errors import InputError

MAX_RESIZED_PX = 2**24
"""Pixels of an image after its shorter side is resized, 50 MB; only images of more than 60 to 1 have more at 512 px."""

UInt8Array = npt.NDArray[np.uint8]


def resize_and_random_crop(image_size: int | Sequence[int], shorter_side_px: int) -> A.Compose:
    """Resize the shorter side, take a random crop, and flip it half of the time: the papers' training crops.

    Source: LBAM Sec. 4 and Edge-LBAM Sec. 4.1: shorter side 350, crop 256x256, "data augmentation such as flipping".

    Args:
        image_size: size of the crop, (H, W), or the side of a square.
    """
    size = _height_and_width(image_size, shorter_side_px)
    return A.Compose([_resize_step(shorter_side_px), A.RandomCrop(*size), A.HorizontalFlip(p=0.5)])


def resize_and_center_crop(image_size: int | Sequence[int], shorter_side_px: int | None) -> A.Compose:
    """Resize the shorter side and take the centre crop, which is the same for every method.

    Departs from the papers: LBAM and Edge-LBAM take random crops of test images too, without giving their positions.

    Args:
        image_size: size of the crop, (H, W), or the side of a square.
        shorter_side_px: length of the shorter side; None resizes to the smallest size that covers the crop.
    """
    size = _height_and_width(image_size, shorter_side_px)
    covering = _ExactShorterSide(max_size_hw=size, area_for_downscale="image")
    resize = covering if shorter_side_px is None else _resize_step(shorter_side_px)
    return A.Compose([resize, A.CenterCrop(*size)])


def bicubic_center_crop(image_size: int) -> A.Compose:
    """Resize the shorter side to `image_size` with Pillow's antialiased bicubic filter, and take the centre square.

    Source: the resizing of LaMa's `gen_mask_dataset.py`, whose crop then follows the hole.
    """
    _height_and_width(image_size)
    return A.Compose(
        [A.Lambda(image=partial(_resize_bicubic, side_px=image_size)), A.CenterCrop(image_size, image_size)]
    )


def _resize_bicubic(image: UInt8Array, side_px: int, **_: Any) -> UInt8Array:
    height, width = image.shape[:2]
    scale = side_px / min(height, width)
    size = round(width * scale), round(height * scale)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def pad_and_center_crop(image_size: int) -> A.Compose:
    """Take the centre square without resizing; smaller images are first extended by reflection, below and to the right.

    Source: `dataset_512_val.py` and `dataset_256_val.py` of MAT's release.
    """
    _height_and_width(image_size)
    pad = A.PadIfNeeded(image_size, image_size, position="top_left", border_mode=cv2.BORDER_REFLECT)
    return A.Compose([pad, A.CenterCrop(image_size, image_size)])


def squash(image_size: int) -> A.Compose:
    """Resize to a square without keeping the proportions, as ZITS does."""
    _height_and_width(image_size)
    return A.Compose([A.Resize(image_size, image_size, area_for_downscale="image")])


def random_resized_crop(
    image_size: int | Sequence[int],
    area_share: Sequence[float] = (0.2, 1.0),
    augmentations: Sequence[A.BasicTransform] = (),
) -> A.Compose:
    """Take a random crop without distortion and resize it: many samples from a few images.

    Args:
        image_size: size of the crop, (H, W), or the side of a square.
        area_share: lowest and highest fraction of the image's area.
        augmentations: further steps, applied to the crop in this order.
    """
    height, width = _height_and_width(image_size)
    aspect = width / height
    crop = A.RandomResizedCrop((height, width), tuple(area_share), (aspect, aspect), area_for_downscale="image")
    return A.Compose([crop, *augmentations])


def apply_transform(transform: A.Compose, image: UInt8Array, seed: np.random.SeedSequence) -> UInt8Array:
    """Run a pipeline; the result depends on the pipeline, the image and the seed only.

    `Compose.set_random_seed` gives every step the same random numbers, so that, for example, only crops from the upper
    half would be flipped. Here the steps share one stream.

    Shapes:
        image (H, W, 3); returns (h, w, 3), the size of the crop.
    """
    _seed(transform, seed)
    result: UInt8Array = transform(image=image)["image"]
    return result


def apply_transform_to_pair(
    transform: A.Compose, image: UInt8Array, mask: UInt8Array, seed: np.random.SeedSequence
) -> tuple[UInt8Array, UInt8Array]:
    """Run a pipeline as `apply_transform` does, and move the mask, (H, W), as the image; its values stay 0 and 1."""
    _seed(transform, seed)
    result = transform(image=image, mask=mask)
    return result["image"], result["mask"]


def _seed(transform: A.Compose, seed: np.random.SeedSequence) -> None:
    rng = np.random.default_rng(seed)
    transform.set_random_state(rng, random.Random(int(rng.integers(2**63))))


def crop_size(transform: A.Compose, height: int, width: int) -> tuple[int, int]:
    """Return height and width of the crop of an image of this size, or raise InputError if it is too small for one."""
    try:
        crop = apply_transform(transform, np.zeros((height, width, 3), np.uint8), np.random.SeedSequence(0))
    except Exception as error:  # custom steps may raise anything
        raise InputError(f"has a size ({height}x{width}) that the transforms can't crop: {error}") from error
    return crop.shape[0], crop.shape[1]


def shorter_side_px(transform: A.Compose) -> int | None:
    """Return the length to which a pipeline's first step resizes the shorter side; None if it is another step."""
    first = next(iter(transform.transforms), None)
    return int(first.max_size) if isinstance(first, _ExactShorterSide) and first.max_size is not None else None


def resize_shorter_side(image: UInt8Array, side_px: int) -> UInt8Array:
    """Resize an image as that first step does, which then leaves it unchanged and draws the same random numbers."""
    step = _resize_step(side_px)
    result: UInt8Array = step.apply(image, **step.get_params_dependent_on_data({"shape": image.shape}, {}))
    return result


class _ExactShorterSide(A.SmallestMaxSize):  # type: ignore[misc]  # albumentations is not typed for mypy
    """SmallestMaxSize without rounding errors: albumentations truncates 49 * (64 / 49) = 63.99... to 63."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        exact = super().get_params_dependent_on_data(params, data)["scale"]
        return {"scale": exact * (1 + 1e-9)}

    def apply(self, img: UInt8Array, scale: float, **params: Any) -> UInt8Array:
        resized: UInt8Array = super().apply(_middle(img, scale), scale, **params)
        return resized

    def apply_to_mask(self, mask: UInt8Array, scale: float, **params: Any) -> UInt8Array:
        resized: UInt8Array = super().apply_to_mask(_middle(mask, scale), scale, **params)
        return resized


def _middle(image: UInt8Array, scale: float) -> UInt8Array:
    """Return the middle of an image so long that it would have more than `MAX_RESIZED_PX` when it is scaled."""
    height, width = image.shape[:2]
    shorter = min(height, width)
    kept = max(shorter, int(MAX_RESIZED_PX / (shorter * scale**2)))
    top, left = max(0, height - kept) // 2, max(0, width - kept) // 2
    return image[top : top + kept, left : left + kept]


def _resize_step(shorter_side_px: int) -> _ExactShorterSide:
    # Shrink by area averaging: linear interpolation skips pixels, and networks would learn to reproduce aliases.
    return _ExactShorterSide(shorter_side_px, area_for_downscale="image")


def _height_and_width(image_size: int | Sequence[int], shorter_side_px: int | None = None) -> tuple[int, int]:
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if shorter_side_px is not None and shorter_side_px < max(height, width):
        raise InputError(
            f"shorter_side_px={shorter_side_px} must be at least the longer side of image_size=[{height}, {width}]"
        )
    return height, width
