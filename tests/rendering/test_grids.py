from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.rendering.grids import (
    READABLE_SIDE_PX,
    CaptionedImage,
    FilledSample,
    Grid,
    batch_grid,
    comparison_grid,
    draw_grid,
    enlarge,
    fill_samples,
    hatch_hole,
    save_grid,
    save_sheet,
    to_rgb,
)


def sample(hole_columns: int, methods: tuple[str, ...] = ("lbam", "telea")) -> FilledSample:
    image, mask = torch.rand(3, 48, 64), torch.ones(1, 48, 64)
    mask[..., :hole_columns] = 0
    return FilledSample(image, mask, {m: torch.rand(3, 48, 64) for m in methods}, dict.fromkeys(methods, 20.0))


def test_grid_has_one_row_per_sample_by_hole_ratio_and_one_column_per_method():
    samples = [sample(32), sample(8)]
    grid = comparison_grid(samples)
    assert grid.columns == ("input", "lbam", "telea", "truth")
    assert [row[0].caption for row in grid.rows] == ["hole 12%", "hole 50%"]
    assert [cell.caption for cell in grid.rows[0][1:]] == ["20.00 dB", "20.00 dB", ""]
    assert {cell.pixels.shape for row in grid.rows for cell in row} == {(144, 192, 3)}  # 3 x 48, 3 x 64
    np.testing.assert_array_equal(grid.rows[0][-1].pixels[::3, ::3], to_rgb(samples[1].image))
    np.testing.assert_array_equal(grid.rows[1][2].pixels[1::3, 2::3], to_rgb(samples[0].composites["telea"]))


@pytest.mark.parametrize("methods", [(), ("a",), tuple("abcdefgh")])
def test_saves_grids_of_any_number_of_methods(tmp_path, methods):
    path = tmp_path / "new" / "grid.png"
    save_grid(comparison_grid([sample(8, methods), sample(16, methods)], "two"), path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 192 * (2 + len(methods))
        assert image.height > 2 * 144


def test_caption_is_above_the_grid_and_every_image_has_an_outline():
    white = CaptionedImage(np.full((10, 20, 3), 255, np.uint8))
    plain, captioned = (np.asarray(draw_grid(Grid(("a",), ((white,),), caption))) for caption in ("", "W" * 40))
    assert captioned.shape[0] > plain.shape[0] + 14
    assert captioned.shape[1] > 300
    assert (captioned[:20] < 100).any()
    assert (plain[:4] == 255).all()
    np.testing.assert_array_equal(captioned[-plain.shape[0] + 24 :, : plain.shape[1]], plain[24:])
    grey = np.argwhere((plain == (205, 205, 205)).all(-1))
    assert (np.ptp(grey, axis=0) == (11, 21)).all()
    assert len(grey) == 2 * 12 + 2 * 20


class Constant(InpaintingNetwork):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def inpaint(self, image, mask, edges):
        assert edges is None
        return InpaintingOutput(torch.full_like(image, self.value))


def test_fills_a_batch_with_every_method_and_measures_psnr_against_the_truth():
    image, mask = torch.zeros(2, 3, 8, 8), torch.ones(2, 1, 8, 8)
    mask[1, :, :4] = 0
    networks = {"a": Constant(0.1), "b": Constant(1.0)}
    first, second = fill_samples(networks, image, mask)
    assert list(second.composites) == ["a", "b"]
    assert (second.composites["b"][:, :4] == 1).all()
    assert (second.composites["b"][:, 4:] == 0).all()
    assert second.psnr_db == pytest.approx({"a": 10 * np.log10(2 / 0.01), "b": 10 * np.log10(2)}, abs=1e-3)
    assert (first.composites["a"] == 0).all()
    assert [sample.psnr_db for sample in fill_samples(networks, image, mask, is_truth=False)] == [None, None]


def test_without_truth_the_grid_has_no_psnr_and_the_last_column_is_the_image():
    grid = comparison_grid([replace(sample(8), psnr_db=None)])
    assert grid.columns == ("input", "lbam", "telea", "image")
    assert [cell.caption for cell in grid.rows[0]] == ["hole 12%", "", "", ""]
    with pytest.raises(ValueError, match="all with a truth or none"):
        comparison_grid([sample(8), replace(sample(8), psnr_db=None)])


def test_rejects_samples_of_different_methods():
    with pytest.raises(ValueError, match="the same methods"):
        comparison_grid([sample(8, ("a",)), sample(8, ("b",))])
    with pytest.raises(ValueError, match="needs samples"):
        comparison_grid([])


def test_batch_grid_contains_the_images():
    batch = torch.rand(2, 3, 48, 64)
    grid = batch_grid({"input": batch, "a name that is wider than its images": batch, "truth": batch})
    assert grid.dtype == np.uint8
    assert grid.ndim == 3
    assert grid.shape[2] == 3
    assert grid.shape[0] > 2 * 144
    assert grid.shape[1] > 3 * 192
    # The first image is somewhere in the grid.
    first = to_rgb(enlarge(batch[0]))
    corners = np.argwhere((grid[:-143, :-191] == first[0, 0]).all(-1))
    assert any((grid[y : y + 144, x : x + 192] == first).all() for y, x in corners)


def test_rejects_columns_of_different_lengths():
    with pytest.raises(ValueError, match="shorter"):
        batch_grid({"a": torch.rand(2, 3, 8, 8), "b": torch.rand(1, 3, 8, 8)})


def test_hatching_does_not_read_the_hole_and_keeps_known_pixels():
    image, mask = torch.rand(3, 48, 64), (torch.rand(1, 48, 64) > 0.5).float()
    hatched = hatch_hole(image.masked_fill(mask == 0, torch.nan), mask)
    torch.testing.assert_close(hatched, hatch_hole(image, mask))
    torch.testing.assert_close(hatched * mask, image * mask)
    inside = hatched[:, mask[0] == 0]
    assert len(inside.unique()) == 2  # two greys
    assert (inside == inside[:1]).all()


@pytest.mark.parametrize(("size", "times"), [((64, 64), 3), ((48, 64), 3), ((160, 20), 1), ((512, 300), 1)])
def test_small_images_are_enlarged_by_integers(size, times):
    image = torch.rand(3, *size)
    large = enlarge(image)
    assert large.shape == (3, size[0] * times, size[1] * times)
    assert max(large.shape) >= READABLE_SIDE_PX
    assert torch.equal(large[:, ::times, ::times], image)


def test_rgb_rounds_and_clips():
    levels = torch.tensor([-1.0, 0.0, 0.499 / 255, 0.501 / 255, 1.0, 7.0, torch.nan])
    assert to_rgb(levels.expand(3, 1, 7))[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255, 0]


def test_a_sheet_of_many_methods_has_several_lines_per_image(tmp_path):
    """14 columns are drawn as two lines of seven, in the order of the columns."""
    levels = [17 * i for i in range(14)]
    row = tuple(CaptionedImage(np.full((20, 30, 3), level, np.uint8)) for level in levels)
    sizes = {}
    for count in (7, 14):
        save_sheet(Grid(tuple("abcdefghijklmn"[:count]), (row[:count], row[:count])), tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as drawn:
            sizes[count], pixels = drawn.size, np.asarray(drawn)
    assert sizes[14][0] == sizes[7][0]
    assert 2 < sizes[14][1] / sizes[7][1] < 3  # headings above each line
    centres = pixels[pixels.shape[0] // 8 + 10, :, 0]
    assert [level for level in levels if level in centres] == levels[:7]
