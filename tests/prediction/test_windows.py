"""Windows around holes: at the size of the training, at full resolution for small holes, downscaled for large ones."""

import time

import numpy as np
import pytest
import torch

from src.checkpoints.reading import TrainedOn
from src.common.errors import InputError
from src.networks.classical import MeanColour
from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.prediction import AroundHoles, Inpainter, Whole
from src.prediction.inpainter import fill
from src.prediction.windows import CONTEXT, MIN_KNOWN_RATIO

SIDE = 32
SIZE = AroundHoles(SIDE)


class Seen(InpaintingNetwork):
    """The mean colour; records sizes and known ratios of its inputs, and has edges everywhere in the hole."""

    takes_edges = True

    def __init__(self):
        super().__init__()
        self.inputs = []

    def inpaint(self, image, mask, edges):
        self.inputs.append((tuple(image.shape[-2:]), mask.mean().item()))
        mean = (image * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True).clamp_min(1)
        return InpaintingOutput(mean.expand_as(image), edges=1 - mask)


def with_holes(*boxes, size=(200, 240)):
    """A smooth image and its mask; boxes are (top, left, bottom, right)."""
    y, x = (t / max(size) for t in torch.meshgrid(*map(torch.arange, size), indexing="ij"))
    mask = torch.ones(1, 1, *size)
    for top, left, bottom, right in boxes:
        mask[..., top:bottom, left:right] = 0
    return torch.stack([x, y, (x + y) / 2])[None], mask


def windows(mask, size=SIZE):
    return size.find_windows(mask[0, 0].numpy() > 0)


def sides(tile):
    return tile.rows[1] - tile.rows[0], tile.columns[1] - tile.columns[0]


def test_small_holes_are_filled_at_full_resolution_in_the_middle_of_a_window():
    image, mask = with_holes((100, 50, 110, 62), (0, 230, 6, 240))
    network = Seen()
    filled = fill(network, image, mask, size=SIZE)
    assert [size for size, _ in network.inputs] == [(SIDE, SIDE)] * 2
    assert torch.equal(filled[mask.expand_as(image) > 0], image[mask.expand_as(image) > 0])
    middle, corner = sorted(windows(mask), key=lambda tile: -tile.rows[0])
    assert (middle.rows, middle.columns) == ((89, 121), (40, 72))
    assert (corner.rows, corner.columns) == ((0, SIDE), (240 - SIDE, 240))  # shifted into the image


def test_a_large_hole_is_downscaled_to_the_size_of_the_training_with_its_surroundings():
    image, mask = with_holes((60, 60, 120, 130))
    network = Seen()
    filled = fill(network, image, mask, size=SIZE)
    ((size, known),) = network.inputs
    assert size == (SIDE, SIDE)
    assert known == pytest.approx(1 - 60 / 140 * 70 / 140, abs=0.03)
    (window,) = windows(mask)
    assert sides(window) == (CONTEXT * 70,) * 2
    assert torch.equal(filled[mask.expand_as(image) > 0], image[mask.expand_as(image) > 0])
    assert torch.equal(filled, fill(Seen(), torch.where(mask > 0, image, torch.nan), mask, size=SIZE))


def test_holes_that_fit_into_one_window_are_filled_in_one_and_others_stay_holes():
    _, mask = with_holes((50, 50, 54, 54), (58, 58, 64, 64), (40, 80, 90, 130))
    large, small = windows(mask)
    assert sides(small) == (SIDE, SIDE)
    assert small.weights.sum() == 4 * 4 + 6 * 6
    assert large.weights.sum() == 50 * 50


def test_a_long_thin_hole_is_filled_at_full_resolution_in_several_windows():
    _, mask = with_holes((100, 0, 104, 240))
    tiles = windows(mask)
    assert len(tiles) > 5
    assert {sides(tile) for tile in tiles} == {(SIDE, SIDE)}


def test_windows_grow_until_enough_is_known_and_end_at_the_image():
    crowded = [(top, left, top + 9, left + 9) for top in range(60, 140, 10) for left in range(60, 140, 10)]
    _, mask = with_holes(*crowded)
    known = mask[0, 0].numpy()
    for tile in windows(mask):
        ratio = known[slice(*tile.rows), slice(*tile.columns)].mean()
        assert ratio >= MIN_KNOWN_RATIO or sides(tile) == known.shape
    (window,) = windows(torch.zeros_like(mask))
    assert sides(window) == known.shape
    assert windows(torch.ones_like(mask)) == []


def test_weights_sum_to_one_in_holes_and_the_region_gives_equal_results():
    rng = np.random.default_rng(0)
    for _ in range(8):
        tops, lefts = rng.integers(0, 180, 6), rng.integers(0, 220, 6)
        ends = rng.integers(1, 90, (2, 6))
        image, mask = with_holes(*zip(tops, lefts, tops + ends[0], lefts + ends[1], strict=True))
        total = np.zeros(mask.shape[-2:])
        for tile in windows(mask):
            part = total[slice(*tile.rows), slice(*tile.columns)]
            part += tile.weights
        assert abs(total - (1 - mask[0, 0].numpy())).max() < 1e-6
        region, whole = (..., *SIZE.select_region(mask, None)), fill(Seen(), image, mask, size=SIZE)
        assert torch.equal(fill(Seen(), image[region], mask[region], size=SIZE), whole[region])
    assert SIZE.select_region(torch.ones(1, 1, 4, 6), None) == (slice(0, 1), slice(0, 1))


def test_images_within_the_size_of_the_training_and_classical_methods_see_the_whole_image():
    image, mask = with_holes((3, 4, 9, 20), size=(24, 30))
    network = Seen()
    fill(network, image, mask, size=SIZE)
    assert [size for size, _ in network.inputs] == [(24, 30)]
    cpu = torch.device("cpu")
    assert isinstance(Inpainter("mean_colour", MeanColour(), cpu, AroundHoles()).size, Whole)
    assert Inpainter("seen", Seen(), cpu, AroundHoles(), trained_on=TrainedOn(48)).size == AroundHoles(48)
    assert Inpainter("seen", Seen(), cpu, AroundHoles(16), trained_on=TrainedOn(48)).size == AroundHoles(16)


def test_edges_of_every_hole_are_predicted_in_its_own_window():
    image, mask = with_holes((20, 20, 26, 26), (150, 150, 190, 190))
    inpaint = Inpainter("seen", Seen(), torch.device("cpu"), SIZE, trained_on=TrainedOn(SIDE))
    edges = np.asarray(inpaint.predict_edges(image[0], mask[0, 0]))
    assert (edges[20:26, 20:26] == 255).all()
    assert (edges[155:185, 155:185] == 255).all()  # downscaled, so its border is not exact


@pytest.mark.parametrize(
    ("boxes", "size", "expected"),
    [
        ([(3, 3, 9, 9)], (24, 30), "seen was trained on 32x32 px, but the image has only 30x24 px"),
        ([(0, 0, 200, 200)], (200, 240), "seen was trained on holes of up to 60% of an image, but sees a hole of 84%"),
        ([(50, 50, 90, 90)], (200, 240), None),
        ([], (24, 30), None),
    ],
)
def test_images_unlike_those_of_the_training_are_explained(boxes, size, expected):
    image, mask = with_holes(*boxes, size=size)
    for method, told in (("seen", expected), ("classical", None)):
        trained_on = TrainedOn(SIDE, 0.6) if method == "seen" else None
        warned = []
        Inpainter(method, Seen(), torch.device("cpu"), SIZE if trained_on else Whole(), trained_on=trained_on)(
            image[0], mask[0, 0], warn=warned.append
        )
        assert warned == ([] if told is None else [told])


def test_a_few_holes_in_a_large_image_cost_little():
    known = np.ones((1500, 2000), bool)
    for top, left in ((50, 50), (700, 1000), (1250, 1700)):
        known[top : top + 100, left : left + 150] = False
    started = time.process_time()
    assert len(AroundHoles(128).find_windows(known)) == 3
    assert time.process_time() - started < 1


def test_what_a_network_was_trained_on_is_read_from_its_config():
    config = {"scale": {"image_size": 128}, "mask": {"hole_ratio": [0.0, 0.5]}}
    assert TrainedOn.of_config(config) == TrainedOn(128, 0.5)
    assert TrainedOn.of_config({"scale": {"image_size": [96, 128]}}).side_px == 128
    for odd in ({}, {"scale": None, "mask": "x"}, {"mask": {"hole_ratio": ["a"]}}, {"mask": {"hole_ratio": [0, 7.0]}}):
        assert TrainedOn.of_config(odd) == TrainedOn(None, None)
    with pytest.raises(InputError, match="side_px must be at least 1, or null"):
        AroundHoles(0)
