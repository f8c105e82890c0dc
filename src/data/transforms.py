"""What happens to a photo between its file and a batch: resized, cropped, perhaps flipped, by albumentations.

A factory a pipeline, for configs to name; `transformed`, which makes a pipeline's result a function of a seed; and what
a pipeline begins with, where that is the same for every sample of a photo and need not be done for each.
"""

import os
import random
from collections.abc import Sequence
from typing import Any

# Importing albumentations would otherwise ask the internet for a newer version, for two seconds where there is none.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import numpy as np
import numpy.typing as npt

from src.common.errors import InputError

UInt8Array = npt.NDArray[np.uint8]


def resize_and_random_crop(image_size: int | Sequence[int], shorter_side_px: int) -> A.Compose:
    """Shorter side to `shorter_side_px`, a random crop, a flip in half of the cases: the papers' training pictures.

    Source: LBAM Sec. 4 and Edge-LBAM Sec. 4.1: shorter side 350, crop 256x256, "data augmentation such as flipping".

    Args:
        image_size: of the crop: one number for a square, or (H, W).
    """
    height, width = _checked_size(image_size, shorter_side_px)
    return A.Compose([_resize(shorter_side_px), A.RandomCrop(height, width), A.HorizontalFlip(p=0.5)])


def resize_and_center_crop(image_size: int | Sequence[int], shorter_side_px: int | None) -> A.Compose:
    """Resize the shorter side to `shorter_side_px` and take the middle: the same crop for every method.

    Departs from the papers: LBAM and Edge-LBAM crop test pictures at random too, and don't say where.

    Args:
        image_size: of the crop: one number for a square, or (H, W).
        shorter_side_px: None resizes just so far that the crop fits, so that it shows as much of the image as it can.
    """
    if shorter_side_px is None:
        height, width = _height_and_width(image_size)
        return A.Compose(
            [_Covering(max_size_hw=(height, width), area_for_downscale="image"), A.CenterCrop(height, width)]
        )
    height, width = _checked_size(image_size, shorter_side_px)
    return A.Compose([_resize(shorter_side_px), A.CenterCrop(height, width)])


def random_resized_crop(
    image_size: int | Sequence[int],
    area_share: Sequence[float] = (0.2, 1.0),
    augmentations: Sequence[A.BasicTransform] = (),
) -> A.Compose:
    """A random crop of `area_share` of the photo, not distorted, resized: many samples from few photos.

    Args:
        augmentations: what else happens to the crop, in this order.
    """
    height, width = _height_and_width(image_size)
    low, high = area_share
    aspect = width / height
    crop = A.RandomResizedCrop((height, width), (low, high), (aspect, aspect), area_for_downscale="image")
    return A.Compose([crop, *augmentations])


def transformed(transform: A.Compose, image: UInt8Array, seed: np.random.SeedSequence) -> UInt8Array:
    """Run a pipeline; the result is a function of the pipeline, the image and the seed, whatever ran before.

    Not through `Compose.set_random_seed`: it starts every step of the pipeline with the same random numbers, so that,
    for one, a picture would be flipped only if it was cropped from the upper half. Here the steps share one stream.

    Shapes:
        image (H, W, 3); returns (h, w, 3), h and w as the pipeline crops.
    """
    rng = np.random.default_rng(seed)
    transform.set_random_state(rng, random.Random(int(rng.integers(2**63))))
    result: UInt8Array = transform(image=image)["image"]
    return result


def shorter_side_px(transform: A.Compose) -> int | None:
    """What a pipeline's first step resizes the shorter side to; None if that is not its first step."""
    first = next(iter(transform.transforms), None)
    return int(first.max_size) if isinstance(first, _ShorterSide) else None


def with_shorter_side(image: UInt8Array, side_px: int) -> UInt8Array:
    """The image as that first step leaves it, which finds nothing more to do then and draws as it would have."""
    return _resize(side_px).resized(image)


class _Covering(A.SmallestMaxSize):  # type: ignore[misc]  # albumentations is not typed for mypy
    """SmallestMaxSize that hits its size: 49 * (64 / 49) is 63.99... in floating point, and albumentations makes it 63.

    A crop of the whole shorter side would then fail, for one side length in twelve.
    """

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        exact = super().get_params_dependent_on_data(params, data)["scale"]
        return {"scale": exact * (1 + 1e-9)}


class _ShorterSide(_Covering):
    """Resizes the shorter side, whichever it is."""

    def resized(self, image: UInt8Array) -> UInt8Array:
        """What the step makes of an image, outside of a pipeline; it does nothing to an image that has been resized."""
        result: UInt8Array = self.apply(image, **self.get_params_dependent_on_data({"shape": image.shape}, {}))
        return result


def _resize(shorter_side_px: int) -> _ShorterSide:
    # Averaging over areas when shrinking: linear interpolation skips pixels, and networks would learn to fill aliases.
    return _ShorterSide(shorter_side_px, area_for_downscale="image")


def _height_and_width(image_size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return height, width


def _checked_size(image_size: int | Sequence[int], shorter_side_px: int) -> tuple[int, int]:
    height, width = _height_and_width(image_size)
    if shorter_side_px < max(height, width):
        raise InputError(
            f"shorter_side_px={shorter_side_px} is below the image size {height}x{width}: crops would not fit"
        )
    return height, width
