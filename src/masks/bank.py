"""A frozen, hashed set of test masks, so many for each bin of hole ratio: what every method is evaluated on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.masks.generators import Mask, MaskGenerator
from src.masks.hole_ratios import BINS, Bin

_MEMBERS = {"bits", "size", "bins", "recipe", "hash"}


@dataclass(frozen=True, eq=False)
class MaskBank:
    """Test masks balanced over bins of hole ratio.

    Mask k of bin b is drawn from `np.random.default_rng((seed, b, k))`, so a bank with more masks a bin begins with the
    masks of a smaller one.

    Args:
        bits: (bins, per_bin, bytes) uint8, the masks' pixels in reading order, eight to a byte; 1 = known, 0 = hole.
        size: (H, W) in pixels.
        bins: (low, high] of each bin.
        recipe: how the masks were drawn; for people, and not in the hash.
    Raises:
        ValueError: the parts do not fit each other.
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
            raise ValueError(f"bits {self.bits.shape} do not fit {len(self.bins)} bins of {height} x {width} masks")
        self.bits.flags.writeable = False

    @classmethod
    def draw(
        cls,
        generator: MaskGenerator,
        size: tuple[int, int],
        per_bin: int,
        seed: int,
        bins: Sequence[Bin] = BINS,
    ) -> "MaskBank":
        """Draw a bank.

        Raises:
            InputError: a number is out of its range, or the generator has no mask for a bin.
        """
        if not isinstance(per_bin, int) or per_bin < 1:
            raise InputError(f"per_bin must be a whole number from 1, got {per_bin}")
        if not isinstance(seed, int) or seed < 0:
            raise InputError(f"the seed of a mask bank must be a whole number from 0, got {seed}")
        if not bins:
            raise InputError("a mask bank needs at least one bin of hole ratio")
        bits = [
            [np.packbits(generator(size, np.random.default_rng((seed, b, k)), hole_ratio)) for k in range(per_bin)]
            for b, hole_ratio in enumerate(bins)
        ]
        recipe = {"generator": _described(generator), "seed": seed, "size": list(size), "per_bin": per_bin}
        return cls(np.array(bits), (size[0], size[1]), tuple((float(low), float(high)) for low, high in bins), recipe)

    def mask(self, bin_index: int, k: int) -> Mask:
        """Mask k of a bin, (H, W); 1 = known, 0 = hole."""
        height, width = self.size
        return np.unpackbits(self.bits[bin_index, k], count=height * width).reshape(height, width)

    @property
    def per_bin(self) -> int:
        """The number of masks of each bin."""
        return int(self.bits.shape[1])

    def __len__(self) -> int:
        return len(self.bins) * self.per_bin

    @cached_property
    def hash(self) -> str:
        """SHA-256, in hexadecimal digits, of size, bins and bits: of what methods are tested on, and nothing else.

        The recipe is left out: the same masks are the same test, whether drawn here or read from somebody's folder.
        """
        header = json.dumps({"size": self.size, "bins": self.bins, "per_bin": self.per_bin})
        return hashlib.sha256(header.encode() + b"\n" + self.bits.tobytes()).hexdigest()

    def save(self, path: Path | str) -> None:
        """Write one .npz file; a reader never meets a half-written one.

        Raises:
            InputError: the place can't be written to.
        """
        path = Path(path)
        parts: dict[str, Any] = {
            "bits": self.bits,
            "size": np.array(self.size),
            "bins": np.array(self.bins),
            "recipe": np.array(json.dumps(self.recipe)),
            "hash": np.array(self.hash),
        }
        # Opened here, as numpy would add a suffix to the name.
        with atomic_write(path) as unfinished, unfinished.open("wb") as file:
            np.savez_compressed(file, **parts)

    @classmethod
    def load(cls, path: Path | str) -> "MaskBank":
        """Read a bank and check its hash.

        Raises:
            InputError: the file is missing, is not a mask bank, or its masks are not those that were written.
        """
        advice = "make one with python -m src.make_masks"
        try:
            # Opened here, as np.load leaves a file that it can't read open.
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
                parts = {name: archive[name] for name in archive.files}
        except FileNotFoundError:
            raise InputError(f"mask bank {path} is not there: {advice}") from None
        except Exception as error:  # what damaged archives raise has no common ancestor
            raise InputError(f"{path} is no mask bank, or is damaged ({error}): {advice}") from error
        if set(parts) != _MEMBERS:
            raise InputError(f"{path} is no mask bank, it holds {sorted(parts)}: {advice}")
        try:
            height, width = (int(side) for side in parts["size"])
            bins = tuple((float(low), float(high)) for low, high in parts["bins"])
            bank = cls(parts["bits"], (height, width), bins, json.loads(str(parts["recipe"])))
        except (ValueError, TypeError) as error:
            raise InputError(f"mask bank {path} is damaged ({error}): {advice}") from error
        if bank.hash != str(parts["hash"]):
            raise InputError(f"mask bank {path} is damaged, its masks do not give its hash {parts['hash']}: {advice}")
        return bank


def height_and_width(key: str, value: Any) -> tuple[int, int]:
    """(H, W) of a config's size: one number of pixels for a square, or [height, width].

    Raises:
        InputError: it is neither; the message names `key`.
    """
    size = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, Sequence) else ()
    if len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise InputError(f"{key} must be a number of pixels or [height, width], got {value}")
    return size


def bins_within(hole_ratio: tuple[float, float]) -> tuple[Bin, ...]:
    """The bins of `src.masks.hole_ratios` that lie wholly inside a range.

    Raises:
        InputError: there is none.
    """
    inside = tuple(bin_ for bin_ in BINS if hole_ratio[0] <= bin_[0] and bin_[1] <= hole_ratio[1])
    if not inside:
        raise InputError(f"no bin of hole ratio lies inside hole_ratio ({hole_ratio[0]:g}, {hole_ratio[1]:g}]: {BINS}")
    return inside


def contact_sheet(bank: MaskBank, columns: int = 10) -> NDArray[np.uint8]:
    """A picture of a bank to look at: a row of masks for each bin, holes white on black, grey lines between.

    Shapes:
        Returns (rows, columns) uint8.
    """
    line_px, grey = 4, 128
    rows = [
        np.hstack(
            [
                np.pad((1 - bank.mask(b, k)) * np.uint8(255), line_px // 2, constant_values=grey)
                for k in range(min(columns, bank.per_bin))
            ]
        )
        for b in range(len(bank.bins))
    ]
    return np.vstack(rows)


def _described(value: Any) -> Any:
    """A generator as JSON can hold it: its class and its fields, and so on inside."""
    if is_dataclass(value):
        named = {field.name: _described(getattr(value, field.name)) for field in fields(value)}
        return {"class": f"{type(value).__module__}.{type(value).__qualname__}", **named}
    if isinstance(value, Mapping):
        return {str(name): _described(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_described(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)
