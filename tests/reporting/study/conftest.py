"""A small study: three pictures, three methods, of which two are called as lbam/user_study calls them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

METHODS = ("PatchMatch", "lbam", "pconv")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder as `src.user_study pictures=` takes it; every picture is a colour of its own."""
    folder = tmp_path / "pictures"
    for i, of in enumerate(("input", *METHODS)):
        (folder / of).mkdir(parents=True)
        for k in range(3):
            pixels = np.full((12, 16, 3), (60 * i, 100 * k, 30), np.uint8)
            Image.fromarray(pixels).save(folder / of / f"photo_{k}.png")
    return folder
