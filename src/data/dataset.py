"""Samples: a photo, cropped, beside a mask; each a pure function of (seed, mask_seed, epoch, index)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict

import albumentations as A
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from src.common.errors import InputError
from src.data.photos import PhotoReader, Photos
from src.data.transforms import apply_transform
from src.image_files.reading import UInt8Array
from src.masks.bank import MaskBank
from src.masks.generators import Mask, MaskGenerator
from src.networks.ops.canny import Canny, canny_edges

Key = tuple[int, int]
"""(epoch, index)."""


class Edges(TypedDict, total=False):
    """What samples hold for models that learn edges: Canny edges of the photo, and of its known pixels alone.

    Shapes:
        edges, known_edges (1, H, W) float32, 1 on an edge, else 0.
    """

    edges: Tensor
    known_edges: Tensor


class Sample(Edges):
    """What the data set returns; a batch has the same keys, tensors stacked, paths in a list.

    Shapes:
        image (3, H, W) float32 in [0, 1]; mask (1, H, W) float32, 1 = known, 0 = hole.
    """

    image: Tensor
    mask: Tensor
    index: int
    path: str


class MaskSource(Protocol):
    """Which masks a photo meets."""

    @property
    def per_picture(self) -> int:
        """The number of masks, and so of samples, of a picture."""

    def mask(self, size: tuple[int, int], picture: int, variant: int, rng: np.random.Generator) -> Mask:
        """The mask of the `variant`-th of `per_picture` samples of one picture; size is (H, W)."""


@dataclass(frozen=True)
class DrawnMasks:
    """Training: a new mask at every turn."""

    generator: MaskGenerator
    hole_ratio: tuple[float, float]
    per_picture: int = 1

    def mask(self, size: tuple[int, int], picture: int, variant: int, rng: np.random.Generator) -> Mask:
        """Draw one with `rng`."""
        return self.generator(size, rng, self.hole_ratio)


class BankMasks:
    """Evaluation: every picture meets `per_bin` masks of every bin of a bank, a picture others than the next one."""

    def __init__(self, bank: MaskBank, per_bin: int) -> None:
        if not 1 <= per_bin <= bank.per_bin:
            raise InputError(f"data.masks_per_bin={per_bin}, but the mask bank has {bank.per_bin} masks of each bin")
        self.bank, self.per_bin = bank, per_bin
        self.per_picture = per_bin * len(bank.bins)

    def mask(self, size: tuple[int, int], picture: int, variant: int, rng: np.random.Generator) -> Mask:
        """Look one up; `rng` is not asked."""
        if size != self.bank.size:
            height, width = self.bank.size
            raise InputError(f"the mask bank is for {height}x{width}, the pictures are {size[0]}x{size[1]}")
        bin_index, repeat = divmod(variant, self.per_bin)
        return self.bank.mask(bin_index, (picture * self.per_bin + repeat) % self.bank.per_bin)


class InpaintingImages(Dataset[Sample]):
    """Photos with masks, addressed by (epoch, index).

    A photo gives `samples_per_image` pictures (crops), a picture as many samples as it meets masks. The samples of one
    picture follow each other; so do the pictures of one photo. Crops are drawn from random numbers made from
    (seed, epoch, picture), masks from others made from (mask_seed, epoch, picture): with other transforms or another
    seed the masks stay, and with other masks or another mask_seed the crops.

    Args:
        mask_seed: None for `seed`.
        cache_bytes: keep photos in memory, as the transform's first resize leaves them, up to so many bytes in each
            worker; the latest photo, and the latest picture with its edges, are kept in any case.
        edges: samples hold edges, too, found so, and here, so that workers share the work; None for none.
        reduced_decode: read JPEGs no larger than the transform's first resize needs.
    Raises:
        InputError: on access, a file is missing or damaged.
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
        self._photos = Photos(files, PhotoReader.of(transform, reduced_decode), cache_bytes=cache_bytes)
        self._latest: tuple[Key, _Picture] | None = None

    def __len__(self) -> int:
        return len(self._photos) * self.samples_per_image * self.masks.per_picture

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        number, variant = divmod(index, self.masks.per_picture)
        # The first child for crops and the second for masks: where both seeds are one number, the streams still differ.
        # These are the children that SeedSequence.spawn makes, without the unused ones.
        crop_seed = np.random.SeedSequence((self.seed, epoch, number), spawn_key=(0,))
        mask_seed = np.random.SeedSequence((self.mask_seed, epoch, number), spawn_key=(1,))
        if self._latest is None or self._latest[0] != (epoch, number):
            photo = self._photos[number // self.samples_per_image]
            self._latest = (epoch, number), _Picture(apply_transform(self.transform, photo, crop_seed))
        picture = self._latest[1]
        mask = self.masks.mask(picture.size, number, variant, np.random.default_rng(mask_seed))
        sample: Sample = {
            "image": picture.tensor(),
            "mask": torch.from_numpy(mask[None].astype(np.float32)),
            "index": index,
            "path": self._photos.path(number // self.samples_per_image),
        }
        if self.edges is not None:
            sample.update(picture.edges(mask, self.edges))  # type: ignore[typeddict-item]  # mypy wants all of Sample's keys
        return sample


class _Picture:
    """A crop, and what all of its samples share.

    Shapes:
        pixels (H, W, 3).
    """

    def __init__(self, pixels: UInt8Array) -> None:
        self._pixels = pixels
        self.size = (pixels.shape[0], pixels.shape[1])
        self._whole_edges: NDArray[np.bool_] | None = None

    def tensor(self) -> Tensor:
        """(3, H, W) float32 in [0, 1], memory of its own."""
        # NumPy converts on one core: torch's threads, started for so little, wait for each other.
        return torch.from_numpy(np.divide(self._pixels.transpose(2, 0, 1), 255, dtype=np.float32, order="C"))

    def edges(self, mask: Mask, canny: Canny) -> Edges:
        """Those of the whole picture, and those of its known pixels."""
        grey = self._pixels @ np.array(canny.luma, dtype=np.float32) / 255
        if self._whole_edges is None:
            self._whole_edges = canny_edges(grey, None, canny.sigma)
        known_edges = canny_edges(grey, mask.astype(bool), canny.sigma)
        return {
            "edges": torch.from_numpy(self._whole_edges[None].astype(np.float32)),
            "known_edges": torch.from_numpy(known_edges[None].astype(np.float32)),
        }
