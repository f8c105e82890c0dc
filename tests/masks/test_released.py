"""Masks of LaMa, CoModGAN, MAT and PICNet: their stated sizes, numbers and distributions of areas."""

import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest

from src.common.errors import InputError
from src.masks.comodgan import CoModGANMasks
from src.masks.lama import Boxes, LamaMasks, Lines
from src.masks.picnet import PICNetMasks

THICK = LamaMasks(Lines((1, 6), 200, 100), Boxes((1, 3), (30, 150), 10), 0.3 / 1.3)
GENERATORS = {
    "thin": LamaMasks(Lines((4, 51), 40, 10)),
    "thick": THICK,
    "comodgan": CoModGANMasks(),
    "mat_256_small": CoModGANMasks(2, 2, 3),
    "picnet": PICNetMasks(),
}
each = pytest.mark.parametrize("generator", GENERATORS.values(), ids=GENERATORS)


def test_a_range_that_no_mask_has_is_an_error(monkeypatch):
    monkeypatch.setattr("src.masks.rejection.ATTEMPTS", 5)
    with pytest.raises(InputError, match=r"LamaMasks: none of 5 masks of 16x16 px has a hole ratio in \(0, 0.01\]"):
        GENERATORS["thin"]((16, 16), np.random.default_rng(0), (0.0, 0.01))


def ratios(generator, count, size=(256, 256), hole_ratio=(0.0, 1.0)):
    masks = [generator(size, np.random.default_rng(seed), hole_ratio) for seed in range(count)]
    return np.array([(mask == 0).mean() for mask in masks])


@each
@pytest.mark.parametrize(("size", "hole_ratio"), [((256, 256), (0.0, 0.5)), ((192, 256), (0.1, 0.3))])
def test_masks_are_binary_reproducible_and_in_the_range(generator, size, hole_ratio):
    copied = pickle.loads(pickle.dumps(generator))
    for seed in range(3):
        mask = generator(size, np.random.default_rng(seed), hole_ratio)
        assert mask.shape == size
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1}
        assert hole_ratio[0] < (mask == 0).mean() <= hole_ratio[1]
        assert (mask == copied(size, np.random.default_rng(seed), hole_ratio)).all()


def test_range_only_removes_masks_outside_it():
    """One generator's masks up to one half have the same distribution as all its masks that happen to be below it."""
    free = ratios(THICK, 100)
    bounded = ratios(THICK, 60, hole_ratio=(0.0, 0.3))
    below = free[free <= 0.3]
    assert bounded.max() <= 0.3 < free.max()
    assert abs(np.median(bounded) - np.median(below)) < 0.05


def test_a_line_has_the_widths_and_directions_of_the_release():
    one = LamaMasks(Lines((1, 1), 60, 10))
    for seed in range(20):
        hole = 1 - one.draw((400, 400), np.random.default_rng(seed), (0.0, 1.0))
        widest = 2 * cv2.distanceTransform(hole, cv2.DIST_L2, 5).max()
        assert 4 <= widest <= 30  # 5 to 14 px, wider where segments meet
        y, x = np.nonzero(hole)
        assert max(np.ptp(x), np.ptp(y)) <= 5 * 69 + 2 * 14  # at most five segments of 10 to 69 px


def test_crops_of_a_wider_canvas_meet_the_hole():
    """They lose a part of it, so that areas are smaller than on a square canvas."""
    thin = GENERATORS["thin"]
    wide = replace(thin, canvas_aspect=4 / 3)
    assert np.mean(ratios(wide, 60)) < np.mean(ratios(thin, 60)) - 0.02
    single = LamaMasks(Lines((1, 1), 10, 1), canvas_aspect=3.0)
    assert all((single((64, 64), np.random.default_rng(k), (0.0, 1.0)) == 0).any() for k in range(30))


def test_boxes_are_rectangles_inside_the_margin():
    boxes = LamaMasks(Lines((1, 1), 1, 1), Boxes((1, 1), (30, 50), 10), 1.0)
    seen = set()
    for seed in range(60):
        hole = boxes.draw((128, 96), np.random.default_rng(seed), (0.0, 1.0)) == 0
        rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
        assert hole.sum() == len(rows) * len(columns)
        assert 10 <= rows[0] < rows[-1] < 118
        assert 10 <= columns[0] < columns[-1] < 86
        seen |= {len(rows), len(columns)}
    assert min(seen) >= 30
    assert max(seen) <= 50
    assert len(seen) > 15


def test_each_mask_of_lama_has_lines_or_boxes_by_weight():
    rectangular = 0
    for seed in range(150):
        hole = THICK.draw((128, 128), np.random.default_rng(seed), (0.0, 1.0)) == 0
        corners = cv2.filter2D(hole.astype(np.float32), -1, np.array([[1, -1], [-1, 1]], np.float32))
        rectangular += (
            np.count_nonzero(corners) <= 24
        )  # three overlapping boxes have at most 24 corners, lines far more
    assert 0.12 < rectangular / 150 < 0.35


def test_areas_grow_from_mats_small_to_large_to_comodgans_masks():
    """Limits of conf/protocol. CoModGAN's masks cover most of the image: the median is above 0.6."""
    limits = [(2, 2, 3), (4, 2, 8), (10, 5, 20)]
    small, large, comodgan = (np.median(ratios(CoModGANMasks(*limit), 60)) for limit in limits)
    assert 0.1 < small < 0.35 < large < 0.6 < comodgan < 0.9


def test_comodgans_numbers_shrink_with_the_requested_range():
    """Its release multiplies the limits by low + high, at most 1."""
    low, high = ratios(CoModGANMasks(), 40, hole_ratio=(0.0, 0.2)), ratios(CoModGANMasks(), 40, hole_ratio=(0.8, 1.0))
    assert low.max() <= 0.2
    assert high.min() > 0.8
    shapes = CoModGANMasks()
    drawn = [(shapes.draw((128, 128), np.random.default_rng(k), (0.0, 0.2)) == 0).mean() for k in range(40)]
    assert np.median(drawn) < 0.35  # without the factor 0.7


def test_strokes_of_comodgan_favour_no_side():
    frequency = np.mean(
        [1 - CoModGANMasks(1, 1, 9).draw((64, 64), np.random.default_rng(k), (0, 1)) for k in range(150)], 0
    )
    halves = [frequency[:32].mean(), frequency[32:].mean(), frequency[:, :32].mean(), frequency[:, 32:].mean()]
    assert frequency.min() > 0.1
    assert max(halves) - min(halves) < 0.05


@pytest.mark.parametrize(
    ("construct", "message"),
    [
        (lambda: Lines((0, 3), 10, 10), "count must be"),
        (lambda: Lines((1, 3), 0, 10), "max_length_px"),
        (lambda: Boxes((1, 3), (50, 30), 0), "side_px must be"),
        (lambda: Boxes((1, 3), (30, 50), -1), "margin_px"),
        (lambda: LamaMasks(Lines((1, 3), 10, 10), None, 0.5), "exactly without boxes"),
        (lambda: LamaMasks(Lines((1, 3), 10, 10), Boxes((1, 1), (3, 5), 0), 1.5), r"lie in \[0, 1\]"),
        (lambda: LamaMasks(Lines((1, 3), 10, 10), canvas_aspect=0.5), "canvas_aspect"),
        (lambda: CoModGANMasks(0, 1, 1), "at least 1"),
        (lambda: replace(THICK, box_probability=1.0)((32, 32), np.random.default_rng(0), (0, 1)), "too few for rect"),
        (lambda: CoModGANMasks()((3, 8), np.random.default_rng(0), (0.0, 1.0)), "at least 4x4"),
    ],
)
def test_rejects_impossible_parameters(construct, message):
    with pytest.raises(InputError, match=message):
        construct()


def test_picnets_shapes_are_thin_and_its_rectangles_few():
    """Opening by an element wider than the brush removes single lines, discs and arcs, but not rectangles."""
    wide = np.ones((45, 45), np.uint8)
    size = (256, 256)
    for probability, expected in ((0.0, 0), (1.0, 1)):
        generator = PICNetMasks(probability, shapes=(1, 1), rectangles=(1, 1), brush_ratio=(20 / 256, 20 / 256))
        holes = [1 - generator(size, np.random.default_rng(seed), (0.0, 1.0)) for seed in range(20)]
        opened = [bool(cv2.morphologyEx(hole, cv2.MORPH_OPEN, wide).any()) for hole in holes]
        assert any(opened) == expected
    with pytest.raises(InputError, match=r"rectangle_probability must lie in \[0, 1\], got 2"):
        PICNetMasks(2.0)
    with pytest.raises(InputError, match=r"shapes must be two numbers with 1 <= low <= high, got 3, 2"):
        PICNetMasks(shapes=(3, 2))
