"""Each image's own masks: files that are named after the images of a dataset."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.common.errors import InputError
from src.image_files.binary_images import Hole, read_mask
from src.image_files.matching import FoundFiles, find_files, match_by_name
from src.masks.generators import Mask


@dataclass(frozen=True)
class PairedMasks:
    """Masks from the files of a folder, matched with images by name and subdirectory; see `match_by_name`.

    Args:
        hole: the hole in the files, see `read_mask`.
    """

    root: str
    hole: Hole = "white"

    def __post_init__(self) -> None:
        if not self.root:
            raise InputError("mask.root is not set: set it to a folder of masks that are named after the images")

    def __call__(self, size: tuple[int, int], rng: np.random.Generator, hole_ratio: tuple[float, float]) -> Mask:
        """Raise InputError, as these masks belong to images: a bank would apply them to others."""
        raise InputError(
            "mask=paired needs no mask bank, as every image has masks of its own, whose hash is in the results: "
            f"evaluate with mask=paired, or draw a bank for any images with mask=folder mask.root={self.root}"
        )

    def match(self, directory: Path, images: Sequence[Path]) -> "MatchedMasks":
        """Return the masks of the images in a directory; raises InputError if one has none."""
        matched = match_by_name(FoundFiles(directory, tuple(images)), find_files(self.root, "mask.root"), "mask")
        return MatchedMasks([tuple(matched[image]) for image in images], self.hole)


@dataclass(frozen=True)
class MatchedMasks:
    """The mask files of each image, by its number."""

    files: Sequence[tuple[Path, ...]]
    hole: Hole

    @property
    def per_image(self) -> int:
        """Number of masks of each image; raises InputError if it varies."""
        counts = {len(files) for files in self.files}
        if len(counts) != 1:
            fewest = min(self.files, key=len)
            raise InputError(
                f"mask=paired: the images have from {min(counts)} to {max(counts)} masks, such as {fewest[0]}; an "
                "evaluation needs the same number for each"
            )
        return counts.pop()

    def read(self, image: int, number: int) -> Mask:
        """Return a mask at its stored size, (H, W); 1 = known, 0 = hole."""
        return read_mask(self.files[image][number], self.hole)

    @property
    def hash(self) -> str:
        """SHA-256 of the contents of all files, in order."""
        digest = hashlib.sha256()
        for files in self.files:
            for file in files:
                digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()
