"""Frozen, hashed sets of test masks, balanced over the bins of hole ratios, that all methods are evaluated on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.common.untrusted_files import read_arrays
from src.masks.generators import Mask, MaskGenerator
from src.masks.hole_ratios import BINS, Bin

_MEMBERS = {"bits", "size", "bins", "recipe", "hash"}


@dataclass(frozen=True, eq=False)
class MaskBank:
    """Test masks, with the same number in each bin of hole ratios.

    Mask k of bin b is drawn from `np.random.default_rng((seed, b, k))`, so a bank with more masks per bin extends a
    smaller one.

    Args:
        bits: (bins, per_bin, bytes) uint8, pixels in row-major order, eight per byte; 1 = known, 0 = hole.
        size: (H, W) in pixels.
        bins: (low, high] of each bin.
        recipe: how the masks were drawn, for information; not part of the hash.
    """

    bits: NDArray[np.uint8]
    size: tuple[int, int]
    bins: tuple[Bin, ...]
    recipe: Mapping[str, Any]

    def __post_init__(self) -> None:
        height, width = self.size
        bytes_per_mask = -(-height * width // 8)
        if self.bits.dtype != np.uint8 or self.bits.ndim != 3 or self.bits.shape[1] < 1:
            raise ValueError(f"bits must be uint8 (bins, per_bin, bytes), got {self.bits.dtype} {self.bits.shape}")
        if self.bits.shape[0] != len(self.bins) or self.bits.shape[2] != bytes_per_mask:
            raise ValueError(f"bits {self.bits.shape} do not match {len(self.bins)} bins of {height}x{width} masks")
        self.bits.flags.writeable = False

    @classmethod
    def draw(
        cls, generator: MaskGenerator, size: tuple[int, int], per_bin: int, seed: int, bins: Sequence[Bin] = BINS
    ) -> "MaskBank":
        """Draw a bank; raises InputError if an argument is invalid or the generator can't produce a mask for a bin."""
        if not isinstance(per_bin, int) or per_bin < 1:
            raise InputError(f"per_bin must be an integer >= 1, got {per_bin}")
        if not isinstance(seed, int) or seed < 0:
            raise InputError(f"the seed of a mask bank must be an integer >= 0, got {seed}")
        if not bins:
            raise InputError("a mask bank needs at least one bin of hole ratios, got none")
        bits = [
            [np.packbits(generator(size, np.random.default_rng((seed, b, k)), hole_ratio)) for k in range(per_bin)]
            for b, hole_ratio in enumerate(bins)
        ]
        recipe = {"generator": repr(generator), "seed": seed, "size": list(size), "per_bin": per_bin}
        return cls(np.array(bits), (size[0], size[1]), tuple((float(low), float(high)) for low, high in bins), recipe)

    def mask(self, bin_index: int, k: int) -> Mask:
        """Return mask k of a bin, (H, W); 1 = known, 0 = hole."""
        height, width = self.size
        return np.unpackbits(self.bits[bin_index, k], count=height * width).reshape(height, width)

    @property
    def per_bin(self) -> int:
        """Number of masks in each bin."""
        return int(self.bits.shape[1])

    def __len__(self) -> int:
        return len(self.bins) * self.per_bin

    @cached_property
    def hash(self) -> str:
        """Hexadecimal SHA-256 of size, bins and bits: the same masks are the same test, however they were made."""
        header = json.dumps({"size": self.size, "bins": self.bins, "per_bin": self.per_bin})
        return hashlib.sha256(header.encode() + b"\n" + self.bits.tobytes()).hexdigest()

    def save(self, path: Path | str) -> None:
        """Write the bank atomically to one .npz file."""
        parts: dict[str, Any] = {"bits": self.bits, "size": self.size, "bins": self.bins, "hash": self.hash}
        # An open file, as numpy would append a suffix to a path.
        with atomic_write(Path(path)) as unfinished, unfinished.open("wb") as file:
            np.savez_compressed(file, recipe=json.dumps(self.recipe), **parts)

    @classmethod
    def load(cls, path: Path | str) -> "MaskBank":
        """Read a bank and check its hash; raises InputError if the file is missing, corrupt or not a mask bank."""
        advice = "draw one with python -m src.make_masks"
        try:
            parts = read_arrays(Path(path))
            if set(parts) != _MEMBERS:
                raise ValueError(f"expected the arrays {sorted(_MEMBERS)}, got {sorted(parts)}")
            height, width = (int(side) for side in parts["size"])
            bins = tuple((float(low), float(high)) for low, high in parts["bins"])
            bank = cls(parts["bits"], (height, width), bins, json.loads(str(parts["recipe"])))
        except InputError as error:
            raise InputError(f"mask bank: {error}: {advice}") from None
        except Exception as error:  # corrupt archives raise unrelated exception types
            raise InputError(f"{path} is corrupt or not a mask bank ({error}): {advice}") from error
        if bank.hash != str(parts["hash"]):
            raise InputError(f"mask bank {path} is corrupt: its masks do not match its hash {parts['hash']}: {advice}")
        return bank


def height_and_width(key: str, value: Any) -> tuple[int, int]:
    """Return (H, W) of a size in a config, `key`: the side of a square in pixels, or [height, width]."""
    size = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, Sequence) else ()
    if len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise InputError(f"{key} must be an integer >= 1 or [height, width] in pixels, got {value}")
    return size


def bins_within(hole_ratio: tuple[float, float]) -> tuple[Bin, ...]:
    """Return the bins of `src.masks.hole_ratios` inside a range; raises InputError if there is none."""
    inside = tuple(bin_ for bin_ in BINS if hole_ratio[0] <= bin_[0] and bin_[1] <= hole_ratio[1])
    if not inside:
        low, high = hole_ratio
        bins = ", ".join(f"({first:g}, {last:g}]" for first, last in BINS)
        raise InputError(f"no bin lies inside mask.hole_ratio=[{low:g},{high:g}]: it must include one of {bins}")
    return inside


def contact_sheet(bank: MaskBank, columns: int = 10) -> NDArray[np.uint8]:
    """Return an image of a bank, (H, W): one row per bin, white holes on black, separated by grey lines."""

    def framed(b: int, k: int) -> NDArray[np.uint8]:
        return np.pad((1 - bank.mask(b, k)) * np.uint8(255), 2, constant_values=128)

    columns = min(columns, bank.per_bin)
    return np.vstack([np.hstack([framed(b, k) for k in range(columns)]) for b in range(len(bank.bins))])
