"""Position of the centred hole for even and odd sizes, and the ranges it fits."""

import numpy as np
import pytest

from src.common.errors import InputError
from src.masks.bank import MaskBank
from src.masks.rectangles import CentredRectangle

BIN = (0.2, 0.3)


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [
        ((256, 256), (64, 192), (64, 192)),
        ((64, 48), (16, 48), (12, 36)),
        ((65, 67), (16, 48), (17, 50)),  # hole of 32x33: 16 known rows above, 17 below
        ((66, 64), (16, 49), (16, 48)),
    ],
)
def test_hole_is_half_of_each_side_in_the_middle(size, rows, columns):
    mask = CentredRectangle()(size, np.random.default_rng(0), BIN)
    expected = np.ones(size, np.uint8)
    expected[slice(*rows), slice(*columns)] = 0
    assert mask.dtype == np.uint8
    assert (mask == expected).all()


@pytest.mark.parametrize("size", [(height, width) for height in range(10, 22) for width in (16, 37)])
def test_margins_differ_by_at_most_a_pixel(size):
    mask = CentredRectangle()(size, np.random.default_rng(0), BIN)
    for axis, side in enumerate(size):
        hole = np.flatnonzero((mask == 0).any(axis=1 - axis))
        before, after = hole[0], side - 1 - hole[-1]
        assert after - before in (0, 1)
        assert len(hole) == side // 2
    assert abs((mask == 0).mean() - 0.25) <= 0.25 * (1 / size[0] + 1 / size[1])


def test_all_masks_of_a_bank_are_identical():
    bank = MaskBank.draw(CentredRectangle(), (32, 48), 3, seed=7, bins=(BIN,))
    assert len({bank.mask(0, k).tobytes() for k in range(3)}) == 1
    assert bank.hash == MaskBank.draw(CentredRectangle(), (32, 48), 3, seed=8, bins=(BIN,)).hash


def test_rejects_ranges_and_sides_that_do_not_fit():
    with pytest.raises(InputError, match=r"hole of 16x24 in 32x48 has a hole ratio of 0\.25, outside \(0\.3, 0\.4\]"):
        CentredRectangle()((32, 48), np.random.default_rng(0), (0.3, 0.4))
    for ratio in (0.0, 1.0):
        with pytest.raises(InputError, match=r"side_ratio must lie in \(0, 1\)"):
            CentredRectangle(ratio)
