import math
import pickle
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
import yaml
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from src.common.errors import InputError
from src.masks.generators import Mixture, hole_pixels
from src.masks.noise import NoiseGrid, RandomShapes
from src.masks.rectangles import Rectangles, RectanglesBySides
from src.masks.strokes import BrushStrokes
from tests.conftest import CONF

SHAPES, STROKES, RECTANGLES = RandomShapes(), BrushStrokes(), Rectangles(max_side_ratio=1.0)
GENERATORS = {
    "random_shapes": SHAPES,
    "ragged_shapes": RandomShapes(cell_ratio=(0.02, 0.02), roughness=1.0, refinement=1),
    "noise_grid": NoiseGrid(),
    "strokes": STROKES,
    "rectangles": RECTANGLES,
    "mixture": Mixture({"a": SHAPES, "b": STROKES, "c": RECTANGLES}, {"a": 1, "b": 2, "c": 0.5}),
}
SIZES = [(64, 64), (48, 64), (64, 48), (9, 130), (33, 7)]
RANGES = [(0.0, 0.6), (0.0, 0.1), (0.1, 0.2), (0.5, 0.6), (0.25, 0.3), (0.0, 1.0), (0.0, 0.01), (0.9, 1.0)]
every_generator = pytest.mark.parametrize("generator", GENERATORS.values(), ids=GENERATORS)


def hole_ratio_of(mask):
    return (mask == 0).sum() / mask.size


@every_generator
@settings(max_examples=60, deadline=None)
@given(size=st.sampled_from(SIZES), hole_ratio=st.sampled_from(RANGES), seed=st.integers(0, 2**32))
def test_hole_ratio_is_within_the_range(generator, size, hole_ratio, seed):
    mask = generator(size, np.random.default_rng(seed), hole_ratio)
    assert mask.shape == size
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    assert hole_ratio[0] < hole_ratio_of(mask) <= hole_ratio[1]


@every_generator
@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    edges=st.tuples(st.integers(0, 100), st.integers(0, 100)).filter(lambda e: e[0] < e[1]),
)
def test_tiny_masks_are_within_the_range_or_an_error(generator, size, edges):
    low, high = edges[0] / 100, edges[1] / 100
    try:
        mask = generator(size, np.random.default_rng(0), (low, high))
    except InputError:
        counts = [n for n in range(1, size[0] * size[1]) if low < n / (size[0] * size[1]) <= high]
        areas = {h * w for h in range(1, size[0] + 1) for w in range(1, size[1] + 1)}
        has_rectangles = generator in (RECTANGLES, GENERATORS["mixture"])
        assert not counts or (has_rectangles and not areas.intersection(counts))
    else:
        assert low < hole_ratio_of(mask) <= high


@every_generator
def test_mask_is_a_function_of_the_random_state(generator):
    copied = pickle.loads(pickle.dumps(generator))
    draws = [g((48, 64), np.random.default_rng(s), (0.1, 0.4)) for g in (generator, copied) for s in range(10)]
    assert all((draws[i] == draws[10 + i]).all() for i in range(10))
    assert len({mask.tobytes() for mask in draws}) == 10
    rng = np.random.default_rng(0)
    assert (generator((48, 64), rng, (0.1, 0.4)) != generator((48, 64), rng, (0.1, 0.4))).any()


@every_generator
def test_masks_own_their_memory(generator):
    mask = generator((48, 64), np.random.default_rng(0), (0.1, 0.4))
    assert mask.flags.writeable
    assert mask.flags.c_contiguous


@pytest.mark.parametrize(
    "generator", [SHAPES, NoiseGrid(), STROKES, RECTANGLES], ids=["shapes", "grid", "strokes", "rectangles"]
)
def test_hole_ratios_are_uniformly_distributed(generator):
    rng = np.random.default_rng(0)
    ratios = np.sort([hole_ratio_of(generator((64, 64), rng, (0.1, 0.5))) for _ in range(400)])
    distance = np.abs((ratios - 0.1) / 0.4 - (np.arange(400) + 0.5) / 400).max()
    assert distance < 1.95 / math.sqrt(400)  # Kolmogorov-Smirnov, 0.1%


@every_generator
def test_holes_reach_every_pixel_and_favour_no_side(generator):
    rng = np.random.default_rng(0)
    frequency = np.mean([generator((48, 48), rng, (0.2, 0.4)) == 0 for _ in range(500)], axis=0)
    assert frequency.min() > 0  # rectangles seldom reach into a corner
    halves = [frequency[:24].mean(), frequency[24:].mean(), frequency[:, :24].mean(), frequency[:, 24:].mean()]
    assert max(halves) - min(halves) < 0.05


@pytest.mark.parametrize(
    ("size", "hole_ratio", "expected"),
    [
        ((1, 10), (0.0, 0.1), (1, 1)),  # exactly on the upper edge, which is included
        ((1, 10), (0.1, 0.2), (2, 2)),  # exactly on the lower edge, which is excluded
        ((10, 10), (0.28, 0.29), (29, 29)),  # 0.28 * 100 > 28 and 0.29 * 100 < 29 in floating point
        ((10, 10), (0.0, 1.0), (1, 99)),
        ((256, 256), (0.5, 0.6), (32769, 39321)),
    ],
)
def test_hole_pixels_by_hand(size, hole_ratio, expected):
    assert hole_pixels(size, hole_ratio) == expected


@pytest.mark.parametrize(
    ("size", "hole_ratio", "message"),
    [
        ((2, 2), (0.0, 0.1), r"no mask of 2x2 pixels has a hole ratio in \(0, 0.1\]"),
        ((1, 1), (0.0, 1.0), "no mask of 1x1"),
        ((8, 8), (0.3, 0.3), "0 <= low < high <= 1"),
        ((8, 8), (0.3, 0.2), "0 <= low < high <= 1"),
        ((8, 8), (-0.1, 0.2), "0 <= low < high <= 1"),
        ((8, 8), (0.1, 1.2), "0 <= low < high <= 1"),
        ((8, 8), (float("nan"), 0.2), "0 <= low < high <= 1"),
        ((0, 8), (0.1, 0.2), "at least 1"),
    ],
)
def test_rejects_impossible_ranges(size, hole_ratio, message):
    for generator in GENERATORS.values():
        with pytest.raises(InputError, match=message):
            generator(size, np.random.default_rng(0), hole_ratio)


@pytest.mark.parametrize(
    "construct",
    [
        lambda: RandomShapes(cell_ratio=(0.0, 0.2)),
        lambda: RandomShapes(cell_ratio=(0.3, 0.2)),
        lambda: RandomShapes(roughness=-0.1),
        lambda: RandomShapes(refinement=0),
        lambda: NoiseGrid(cells=1),
        lambda: NoiseGrid(enlarged_ratio=0.9),
        lambda: NoiseGrid(enlarged_ratio=math.inf),
        lambda: BrushStrokes(segments=(0, 4)),
        lambda: BrushStrokes(segments=(5, 4)),
        lambda: BrushStrokes(lean_rad=(1.0, 0.5)),
        lambda: BrushStrokes(length_ratio=0.0),
        lambda: BrushStrokes(brush_width_ratio=(0.0, 0.1)),
        lambda: BrushStrokes(brush_width_ratio=(0.2, 0.1)),
        lambda: Rectangles(max_side_ratio=0.0),
        lambda: Rectangles(max_side_ratio=1.1),
        lambda: RectanglesBySides(side_ratio=(0.0, 0.5)),
        lambda: RectanglesBySides(side_ratio=(0.5, 0.4)),
        lambda: RectanglesBySides(side_ratio=(0.5, 1.1)),
        lambda: Mixture({"a": SHAPES}, {}),
        lambda: Mixture({"a": SHAPES}, {"b": 1}),
        lambda: Mixture({"a": SHAPES}, {"a": 0}),
        lambda: Mixture({"a": SHAPES, "b": STROKES}, {"a": 2, "b": -1}),
        lambda: Mixture({"a": SHAPES}, {"a": float("nan")}),
        lambda: Mixture({}, {}),
    ],
)
def test_rejects_invalid_parameters(construct):
    with pytest.raises(InputError):
        construct()


def test_random_shapes_are_several_connected_blobs():
    rng = np.random.default_rng(0)
    big_blobs, roughness = [], []
    for _ in range(40):
        hole = 1 - SHAPES((128, 128), rng, (0.2, 0.3))
        _, _, stats, _ = cv2.connectedComponentsWithStats(hole)
        big_blobs.append((stats[1:, cv2.CC_STAT_AREA] > 32).sum())
        roughness.append((np.diff(hole.astype(int)) != 0).sum() / hole.sum())
    assert 2 < np.mean(big_blobs) < 20
    assert np.max(roughness) < 0.3  # white noise has 1.5 edges for each of these hole pixels


def test_ties_are_broken_to_the_exact_hole_size():
    flat = RandomShapes(cell_ratio=(1e4, 1e4), roughness=0.0)  # the image covers a tiny part of a cell of noise
    for seed in range(20):
        mask = flat((40, 40), np.random.default_rng(seed), (0.3, 0.301))
        assert (mask == 0).sum() == 481


def test_random_shape_is_the_same_on_every_machine():
    mask = SHAPES((8, 12), np.random.default_rng(1), (0.3, 0.5))
    assert np.packbits(mask).tobytes().hex() == "f9ef9effe9de8389307d0fe0"


def test_noise_grid_equals_the_release_at_its_size():
    """Compare with an 8x8 grid that PyTorch enlarges to 350 px, cropped to 256 px and thresholded."""
    for seed in range(3):
        mask = NoiseGrid()((256, 256), np.random.default_rng(seed), (0.2, 0.3))
        rng = np.random.default_rng(seed)
        count = int(rng.integers(13108, 19661))
        grid = torch.from_numpy(rng.integers(-2048, 2048, (8, 8), dtype=np.int32)).double()
        left, top = (int(rng.integers(95)) for _ in range(2))
        enlarged = torch.nn.functional.interpolate(grid[None, None], size=(350, 350), mode="bilinear")[0, 0]
        crop = enlarged[top : top + 256, left : left + 256].numpy()
        by_hand = crop >= np.sort(crop.ravel())[-count]
        assert (mask == 0).sum() == count
        assert (by_hand != (mask == 0)).mean() < 0.003  # its weights have 8 bits


def test_noise_grid_has_equal_cells_in_any_shape():
    """Longer sides have more cells, not longer ones: changes per pixel are equal along both axes."""
    rng = np.random.default_rng(0)
    along = np.zeros(2)
    for _ in range(40):
        hole = (NoiseGrid()((64, 192), rng, (0.2, 0.3)) == 0).astype(int)
        along += [(np.diff(hole, axis=axis) != 0).mean() for axis in (0, 1)]
    assert 0.7 < along[0] / along[1] < 1.4


class OneStroke(BrushStrokes):
    """One stroke with sharp turns, in which a join that is not round leaves a gap."""

    width_px, path = 14, [(20, 30), (70, 30), (25, 44), (30, 100), (90, 40)]

    def _stroke(self, size, rng):
        return [*pairwise(self.path)], self.width_px


@pytest.mark.parametrize("count", [140, 300, 700, 1500, 2500])
def test_stroke_is_a_round_brush_that_stops_at_the_wanted_pixel(count):
    """Discs painted up to some point of the path give the same hole, up to one pixel at its edge."""
    size, by_a_pixel = (128, 112), np.ones((3, 3), np.uint8)
    mask = OneStroke()(size, np.random.default_rng(0), ((count - 0.5) / (128 * 112), (count + 0.5) / (128 * 112)))
    hole = 1 - mask
    assert hole.sum() == count
    y, x = np.indices(size)
    by_hand, same = np.zeros(size, np.uint8), []
    for start, end in pairwise(np.array(OneStroke.path)):
        for t in np.arange(0, 1, 0.25 / math.dist(start, end)):
            centre = start + t * (end - start)
            by_hand |= (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= (OneStroke.width_px / 2) ** 2
            too_much, too_little = hole > cv2.dilate(by_hand, by_a_pixel), hole < cv2.erode(by_hand, by_a_pixel)
            same.append(not too_much.any() and not too_little.any())
    assert any(same)


def test_strokes_stay_inside_and_scale_with_the_image():
    strokes = BrushStrokes(length_ratio=2.0)  # every stroke would leave the image
    for size in ((48, 64), (192, 256), (1, 40)):
        height, width = size
        for seed in range(20):
            segments, width_px = strokes._stroke(size, np.random.default_rng(seed))
            assert 4 <= len(segments) <= 11
            assert all(0 <= x < width and 0 <= y < height for segment in segments for x, y in segment)
            assert 12 / 256 - 0.1 <= width_px / math.sqrt(height * width) <= 40 / 256 + 0.1
    small, large = (strokes._stroke(size, np.random.default_rng(0)) for size in ((48, 64), (480, 640)))
    assert abs(large[1] - 10 * small[1]) <= 5


def test_rectangle_respects_its_longest_side():
    rng = np.random.default_rng(0)
    for _ in range(200):
        hole = Rectangles(max_side_ratio=0.5)((48, 64), rng, (0.0, 0.6)) == 0
        rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
        assert hole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert len(rows) * len(columns) == hole.sum()
        assert len(rows) <= 24
        assert len(columns) <= 32


def test_rejects_areas_that_no_rectangle_has():
    with pytest.raises(InputError, match="raise max_side_ratio"):
        Rectangles(max_side_ratio=0.5)((64, 64), np.random.default_rng(0), (0.3, 0.4))


def test_rectangles_by_sides_have_all_sides_and_positions():
    rng, seen = np.random.default_rng(0), {"height": set(), "width": set(), "top": set(), "left": set()}
    for _ in range(1500):
        hole = RectanglesBySides()((32, 64), rng, (0.0, 0.6)) == 0
        rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
        assert hole.sum() == len(rows) * len(columns)
        for key, value in zip(seen, (len(rows), len(columns), rows[0], columns[0]), strict=True):
            seen[key].add(int(value))
    assert seen["height"] == set(range(12, 17))  # 96 to 128 px of 256
    assert seen["width"] == set(range(24, 33))
    assert seen["top"] == set(range(32 - 12 + 1))
    assert seen["left"] == set(range(64 - 24 + 1))


def test_rectangles_by_sides_respect_the_hole_ratio():
    rng = np.random.default_rng(0)
    for _ in range(200):
        assert 0.1 < hole_ratio_of(RectanglesBySides()((64, 64), rng, (0.1, 0.2))) <= 0.2
    with pytest.raises(InputError, match=r"change mask\.generator\.side_ratio or mask\.hole_ratio"):
        RectanglesBySides()((64, 64), rng, (0.0, 0.1))


def test_mixture_draws_by_weight():
    class Always:
        def __init__(self, value):
            self.value = value

        def __call__(self, size, rng, hole_ratio):
            return self.value

    mixture = Mixture({"a": Always(0), "never": Always(1), "b": Always(2)}, {"b": 3, "a": 1, "never": 0})
    rng = np.random.default_rng(0)
    drawn = np.bincount([mixture((8, 8), rng, (0, 1)) for _ in range(2000)], minlength=3)
    assert drawn[1] == 0
    assert abs(drawn[0] / 2000 - 0.25) < 0.04


@pytest.mark.parametrize("name", ["random_shapes", "strokes"])
def test_configured_generators_hold_plain_lists(name):  # reading OmegaConf's lists takes longer than drawing a mask
    config = yaml.safe_load((CONF / "mask" / f"{name}.yaml").read_text())
    generator = instantiate(OmegaConf.create(config).generator)
    lists = {key for key, value in config["generator"].items() if isinstance(value, list)}
    assert lists
    assert all(type(getattr(generator, key)) is list for key in lists)
