import numpy as np
import pytest
import torch
from PIL import Image

from src.reporting.pictures import (
    READABLE_SIDE_PX,
    Sample,
    comparison_grid,
    enlarge,
    hatch_hole,
    picture_grid,
    save_grid,
    to_rgb,
)


def sample(hole_columns: int, methods: tuple[str, ...] = ("lbam", "telea")) -> Sample:
    image, mask = torch.rand(3, 48, 64), torch.ones(1, 48, 64)
    mask[..., :hole_columns] = 0
    return Sample(image, mask, {m: torch.rand(3, 48, 64) for m in methods}, dict.fromkeys(methods, 20.0))


def test_a_row_a_sample_by_growing_hole_and_a_column_a_method():
    samples = [sample(32), sample(8)]
    grid = comparison_grid(samples)
    assert grid.columns == ("input", "lbam", "telea", "truth")
    assert [row[0].caption for row in grid.rows] == ["hole 12%", "hole 50%"]
    assert [picture.caption for picture in grid.rows[0][1:]] == ["20.00 dB", "20.00 dB", ""]
    assert {picture.pixels.shape for row in grid.rows for picture in row} == {(144, 192, 3)}  # 3 x 48, 3 x 64
    np.testing.assert_array_equal(grid.rows[0][-1].pixels[::3, ::3], to_rgb(samples[1].image))
    np.testing.assert_array_equal(grid.rows[1][2].pixels[1::3, 2::3], to_rgb(samples[0].composites["telea"]))


@pytest.mark.parametrize("methods", [(), ("a",), tuple("abcdefgh")])
def test_any_number_of_methods_can_be_saved(tmp_path, methods):
    path = tmp_path / "new" / "grid.png"
    save_grid(comparison_grid([sample(8, methods), sample(16, methods)], "two"), path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width > 192 * (2 + len(methods))
        assert picture.height > 2 * 144


def test_samples_of_different_methods_make_no_grid():
    with pytest.raises(ValueError, match="the same methods"):
        comparison_grid([sample(8, ("a",)), sample(8, ("b",))])
    with pytest.raises(ValueError, match="needs samples"):
        comparison_grid([])


def test_picture_grid_of_a_batch():
    batch = torch.rand(2, 3, 48, 64)
    grid = picture_grid({"input": batch, "a name wider than its pictures are": batch, "truth": batch})
    assert grid.dtype == np.uint8
    assert grid.ndim == 3
    assert grid.shape[2] == 3
    assert grid.shape[0] > 2 * 144
    assert grid.shape[1] > 3 * 192
    # The first picture stands whole somewhere in the grid.
    first = to_rgb(enlarge(batch[0]))
    corners = np.argwhere((grid[:-143, :-191] == first[0, 0]).all(-1))
    assert any((grid[y : y + 144, x : x + 192] == first).all() for y, x in corners)


def test_columns_of_different_lengths_make_no_grid():
    with pytest.raises(ValueError, match="shorter"):
        picture_grid({"a": torch.rand(2, 3, 8, 8), "b": torch.rand(1, 3, 8, 8)})


def test_hatching_does_not_read_the_hole_and_keeps_the_rest():
    image, mask = torch.rand(3, 48, 64), (torch.rand(1, 48, 64) > 0.5).float()
    hatched = hatch_hole(image.masked_fill(mask == 0, torch.nan), mask)
    torch.testing.assert_close(hatched, hatch_hole(image, mask))
    torch.testing.assert_close(hatched * mask, image * mask)
    inside = hatched[:, mask[0] == 0]
    assert len(inside.unique()) == 2  # two greys
    assert (inside == inside[:1]).all()


@pytest.mark.parametrize(("size", "times"), [((64, 64), 3), ((48, 64), 3), ((160, 20), 1), ((512, 300), 1)])
def test_small_pictures_are_enlarged_by_whole_numbers(size, times):
    image = torch.rand(3, *size)
    large = enlarge(image)
    assert large.shape == (3, size[0] * times, size[1] * times)
    assert max(large.shape) >= READABLE_SIDE_PX
    assert torch.equal(large[:, ::times, ::times], image)


def test_rgb_rounds_and_clips():
    levels = torch.tensor([-1.0, 0.0, 0.499 / 255, 0.501 / 255, 1.0, 7.0, torch.nan])
    assert to_rgb(levels.expand(3, 1, 7))[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255, 0]
