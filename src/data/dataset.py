"""Samples: a crop of an image and a mask, a pure function of (seed, mask_seed, epoch, index)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict

import albumentations as A
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from src.common.errors import InputError
from src.data.cached_images import CachedImages
from src.data.transforms import apply_transform, apply_transform_to_pair, shorter_side_px
from src.image_files.reading import UInt8Array
from src.masks.bank import MaskBank
from src.masks.generators import Mask, MaskGenerator
from src.masks.paired import MatchedMasks
from src.networks.layers.canny import Canny, canny_edges

CROP_ATTEMPTS = 20
"""How often a random crop is drawn in search of a part of the image's own hole."""

SampleKey = tuple[int, int]
"""(epoch, index)."""


class Edges(TypedDict, total=False):
    """Entries for models that learn edges: Canny edges of the whole crop and of its known pixels, (1, H, W), 0 or 1."""

    edges: Tensor
    known_edges: Tensor


class Sample(Edges):
    """One item of the dataset. A batch has the same keys, with stacked tensors and a list of paths.

    Shapes:
        image (3, H, W) float32 in [0, 1]; mask (1, H, W) float32, 1 = known, 0 = hole.
    """

    image: Tensor
    mask: Tensor
    index: int
    path: str


class MaskSource(Protocol):
    """Assigns masks to crops."""

    @property
    def per_crop(self) -> int:
        """Number of masks, and so of samples, of each crop."""

    def mask(self, size: tuple[int, int], crop: int, variant: int, rng: np.random.Generator) -> Mask:
        """Return mask number `variant`, below `per_crop`, of a crop; size is (H, W)."""


@dataclass(frozen=True)
class RandomMasks:
    """A new random mask for every sample, for training."""

    generator: MaskGenerator
    hole_ratio: tuple[float, float]
    per_crop: int = 1

    def mask(self, size: tuple[int, int], crop: int, variant: int, rng: np.random.Generator) -> Mask:
        """Draw a mask with `rng`."""
        return self.generator(size, rng, self.hole_ratio)


class BankMasks:
    """Fixed masks for evaluation: `per_bin` masks of every bin for each crop, cycling through the bank."""

    def __init__(self, bank: MaskBank, per_bin: int) -> None:
        if not 1 <= per_bin <= bank.per_bin:
            raise InputError(f"data.masks_per_bin={per_bin}, but the mask bank has {bank.per_bin} masks per bin")
        self.bank, self.per_bin = bank, per_bin
        self.per_crop = per_bin * len(bank.bins)

    def mask(self, size: tuple[int, int], crop: int, variant: int, rng: np.random.Generator) -> Mask:
        """Return a mask of the bank; `rng` is not used."""
        if size != self.bank.size:
            height, width = self.bank.size
            raise InputError(f"the masks of the bank are {height}x{width}, but the crops are {size[0]}x{size[1]}")
        bin_index, repeat = divmod(variant, self.per_bin)
        return self.bank.mask(bin_index, (crop * self.per_bin + repeat) % self.bank.per_bin)


class ImageMasks:
    """Each image's own masks, cropped as the image is: one drawn at random for training, all for evaluation."""

    def __init__(self, masks: MatchedMasks, *, draw: bool) -> None:
        self.masks, self.draw = masks, draw
        self.per_bin, self.per_crop = 1, 1 if draw else masks.per_image

    def mask(self, size: tuple[int, int], crop: int, variant: int, rng: np.random.Generator) -> Mask:
        """Not used: `stored` returns the mask of an image."""
        raise NotImplementedError

    def stored(self, image: int, variant: int, rng: np.random.Generator) -> Mask:
        """Return a mask of an image at its stored size."""
        count = len(self.masks.files[image])
        return self.masks.read(image, int(rng.integers(count)) if self.draw else variant)


class InpaintingDataset(Dataset[Sample]):
    """Crops of images with masks, indexed by (epoch, index).

    Each image gives `samples_per_image` crops, and each crop one sample per mask. The samples of a crop are adjacent,
    and so are the crops of an image. Crops are random functions of (seed, epoch, crop), masks of (mask_seed, epoch,
    crop): other transforms or another seed leave the masks unchanged, other masks or another mask_seed the crops.

    Args:
        mask_seed: seed of the masks; None uses `seed`.
        cache_bytes: memory for decoded images in each worker; the latest image and crop are always kept.
        edges: edge detector whose results are added to the samples; None for none.
        reduced_decode: decode JPEGs no larger than the transform's first resize needs.
    """

    def __init__(
        self,
        files: Sequence[Path],
        transform: A.Compose,
        masks: MaskSource,
        *,
        seed: int,
        mask_seed: int | None = None,
        samples_per_image: int = 1,
        cache_bytes: int = 0,
        edges: Canny | None = None,
        reduced_decode: bool = False,
    ) -> None:
        self.transform, self.masks = transform, masks
        self.seed, self.mask_seed = seed, seed if mask_seed is None else mask_seed
        self.samples_per_image, self.edges = samples_per_image, edges
        side_px = shorter_side_px(transform)
        self._images = CachedImages(files, side_px, reduced_decode=reduced_decode, cache_bytes=cache_bytes)
        self._latest: dict[SampleKey, tuple[UInt8Array, Tensor | None]] = {}  # the latest crop and its edges

    def __len__(self) -> int:
        return len(self._images) * self.samples_per_image * self.masks.per_crop

    def __getitem__(self, key: SampleKey) -> Sample:
        epoch, index = key
        number, variant = divmod(index, self.masks.per_crop)
        # As SeedSequence.spawn makes them: the first child for crops, the second for masks, so that the two streams
        # differ even if the seeds are equal.
        crop_seed = np.random.SeedSequence((self.seed, epoch, number), spawn_key=(0,))
        mask_seed = np.random.SeedSequence((self.mask_seed, epoch, number), spawn_key=(1,))
        if isinstance(self.masks, ImageMasks):
            return self._sample_with_own_mask(self.masks, key, mask_seed)
        if (epoch, number) not in self._latest:
            image = self._images[number // self.samples_per_image]
            pixels = apply_transform(self.transform, image, crop_seed)
            self._latest = {(epoch, number): (pixels, self._edges(pixels, None))}
        pixels, edges = self._latest[epoch, number]
        height, width, _ = pixels.shape
        mask = self.masks.mask((height, width), number, variant, np.random.default_rng(mask_seed))
        return self._sample(index, pixels, mask, edges)

    def _sample_with_own_mask(self, masks: ImageMasks, key: SampleKey, mask_seed: np.random.SeedSequence) -> Sample:
        """Crop an image and its mask alike; crops without a part of the hole, or nothing else, are drawn again."""
        epoch, index = key
        number, variant = divmod(index, masks.per_crop)
        n = number // self.samples_per_image
        image, stored = self._images[n], masks.stored(n, variant, np.random.default_rng(mask_seed))
        (height, width), (mask_height, mask_width) = image.shape[:2], stored.shape
        if abs(mask_height * width - mask_width * height) > mask_height + mask_width + height + width:  # roundings
            raise InputError(
                f"{self._images.path(n)} has a mask of another shape: {mask_width}x{mask_height} (width x height), but "
                f"the image is {width}x{height}: resize one of them"
            )
        resized = np.asarray(cv2.resize(stored, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
        for attempt in range(CROP_ATTEMPTS):
            spawned = (0,) if attempt == 0 else (0, attempt)
            crop_seed = np.random.SeedSequence((self.seed, epoch, number), spawn_key=spawned)
            pixels, mask = apply_transform_to_pair(self.transform, image, resized, crop_seed)
            if mask.any() and not mask.all():
                return self._sample(index, pixels, mask, self._edges(pixels, None))
        raise InputError(
            f"{self._images.path(n)}: {CROP_ATTEMPTS} crops have no part of the hole of its mask, or nothing else: use "
            "another mask, or larger crops"
        )

    def _sample(self, index: int, pixels: UInt8Array, mask: Mask, edges: Tensor | None) -> Sample:
        number = index // self.masks.per_crop
        sample: Sample = {
            # NumPy converts on one core: synchronising torch's threads takes longer than the conversion.
            "image": torch.from_numpy(np.divide(pixels.transpose(2, 0, 1), 255, dtype=np.float32, order="C")),
            "mask": torch.from_numpy(mask[None].astype(np.float32)),
            "index": index,
            "path": self._images.path(number // self.samples_per_image),
        }
        if edges is not None and (known_edges := self._edges(pixels, mask.astype(bool))) is not None:
            sample["edges"], sample["known_edges"] = edges.clone(), known_edges
        return sample

    def _edges(self, pixels: UInt8Array, mask: NDArray[np.bool_] | None) -> Tensor | None:
        if self.edges is None:
            return None
        grey = pixels @ np.array(self.edges.luma, dtype=np.float32) / 255
        return torch.from_numpy(canny_edges(grey, mask, self.edges.sigma)[None].astype(np.float32))
