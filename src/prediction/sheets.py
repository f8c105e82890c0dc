"""What several methods make of pictures, on one sheet: a row a picture, a column a method."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from src.common.errors import InputError
from src.image_files.reading import IMAGE_SUFFIXES, UInt8Array, to_rgb_array
from src.prediction.sizes import Reduced
from src.rendering.grids import Grid, Picture, enlarge, hatch_hole, save_grid, to_rgb

MAX_ROWS = 100
"""On one sheet; more are no longer looked at side by side, and take gigabytes."""


def sheet_row(
    label: str, image: Image.Image, known: UInt8Array, filled: Mapping[str, Image.Image], side_px: int
) -> tuple[Picture, ...]:
    """The picture with its hole hatched, then what was filled in by each method; made smaller to `side_px`.

    Args:
        image, filled: as `read_stored` has them; shown upright.
    Shapes:
        known (H, W), 1 = known, 0 = hole.
    """
    mask = torch.from_numpy(known)[None, None].float()

    def shown(picture: Image.Image, mask: Tensor) -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(to_rgb_array(picture)).permute(2, 0, 1)[None].float() / 255
        small, known, _ = Reduced(side_px).overview(pixels, mask, None)
        return enlarge(small[0]), enlarge(known[0])

    caption = f"{label}, hole {1 - mask.mean().item():.0%}"
    return (
        Picture(to_rgb(hatch_hole(*shown(image, mask))), caption),
        *(Picture(to_rgb(shown(one, torch.ones_like(mask))[0])) for one in filled.values()),
    )


@dataclass
class Sheets:
    """Where rows go: all onto one sheet, a PNG file, or each onto its own, in a folder.

    Args:
        place: the file or the folder.
        methods: heads of the columns behind that of the input.
        pictures: how many there will be.
    Raises:
        InputError: the file is to be of another format, or is to hold too many.
    """

    place: Path
    methods: tuple[str, ...]
    pictures: int
    rows: list[tuple[Picture, ...]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        is_file = self.place.suffix.lower() in IMAGE_SUFFIXES and not self.place.is_dir()
        if is_file and self.place.suffix.lower() != ".png":
            raise InputError(f"sheet={self.place}: a sheet is a PNG file, or a folder of them")
        if is_file and self.pictures > MAX_ROWS:
            raise InputError(
                f"sheet={self.place} would hold {self.pictures} rows, and may hold {MAX_ROWS}: name a folder, in which "
                "every picture gets its own"
            )
        self.together = is_file

    def path(self, label: str) -> Path:
        """The file that holds a picture's row."""
        return self.place if self.together else self.place / f"{label}.png"

    def add(self, label: str, row: tuple[Picture, ...]) -> None:
        """Take a row; a sheet of its own is written at once, the common one with the last."""
        self.rows.append(row)
        if not self.together or len(self.rows) == self.pictures:
            save_grid(Grid(("input", *self.methods), tuple(self.rows)), self.path(label))
            self.rows.clear()
