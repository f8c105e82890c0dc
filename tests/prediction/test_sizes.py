"""Size strategies: holes are filled without seams and never read, known pixels stay unchanged."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from src.common.errors import InputError
from src.networks.classical import MeanColour, NavierStokes, Telea
from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.layers.canny import DEFAULT_CANNY
from src.prediction.inpainter import Inpainter, fill
from src.prediction.sizes import Reduced, Whole
from src.prediction.tiles import Tiled

SIZES = {"whole": Whole(), "tiled": Tiled(64, 16), "one_tile": Tiled(200, 16), "reduced": Reduced(64)}


class Blur(InpaintingNetwork):
    """The mean of the known pixels within 4 pixels, or grey; it depends on nothing further away, as at tile borders."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def inpaint(self, image, mask, edges):
        self.seen.append((tuple(image.shape[-2:]), mask.mean().item()))
        known, ones = mask.expand_as(image), torch.ones(3, 1, 9, 9)
        total, count = (F.conv2d(t, ones, padding=4, groups=3) for t in (image * known, known))
        return InpaintingOutput(torch.where(count > 0, total / count.clamp_min(1), 0.5))


class EdgesAsImage(InpaintingNetwork):
    takes_edges = True

    def inpaint(self, image, mask, edges):
        return InpaintingOutput(edges.expand_as(image))


def scribbled(height=150, width=190, seed=0, count=12, largest=40):
    rng, mask = np.random.default_rng(seed), torch.ones(1, 1, height, width)
    for _ in range(count):
        y, x = rng.integers(0, height), rng.integers(0, width)
        mask[..., y : y + rng.integers(1, largest), x : x + rng.integers(1, largest)] = 0
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)), mask


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_known_pixels_stay_unchanged_and_the_hole_is_not_read(size):
    image, mask = scribbled()
    filled = fill(Blur(), image, mask, size=size)
    known = mask.expand_as(image) > 0
    assert torch.equal(filled[known], image[known])
    assert ((filled >= 0) & (filled <= 1)).all()
    for poison in (float("nan"), float("inf"), -1e30):
        assert torch.equal(fill(Blur(), torch.where(mask > 0, image, poison), mask, size=size), filled)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("known", [0.0, 1.0])
def test_all_known_and_all_hole(size, known):
    image, mask = scribbled()
    filled = fill(MeanColour(), image, torch.full_like(mask, known), size=size)
    assert torch.allclose(filled, image if known else torch.full_like(image, 0.5), atol=1e-6)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_each_image_of_a_batch_is_filled_as_if_alone(size):
    pairs = [scribbled(seed=seed) for seed in range(2)]
    together = fill(Blur(), *(torch.cat(t) for t in zip(*pairs, strict=True)), size=size)
    alone = torch.cat([fill(Blur(), *pair, size=size) for pair in pairs])
    assert torch.allclose(together, alone, atol=1e-6)


# Tiles


@pytest.mark.parametrize("tiled", [Tiled(64, 16), Tiled(64, 0), Tiled(64, 32), Tiled(50, 13)], ids=str)
def test_weights_sum_to_one_in_the_hole_and_to_zero_elsewhere(tiled):
    rng = np.random.default_rng(0)
    for seed in range(25):
        height, width = rng.integers(20, 300, 2)
        known = scribbled(height, width, seed, count=rng.integers(1, 12), largest=rng.choice([8, 150]))[1][0, 0].numpy()
        total = np.zeros((height, width))
        for tile in tiled.tile_holes(known > 0):
            assert tile.weights.min() >= 0
            part = total[slice(*tile.rows), slice(*tile.columns)]
            part += tile.weights  # fails if the tile exceeds the image
        assert abs(total - (1 - known)).max() < 1e-6


def test_tiles_do_not_change_a_method_that_sees_no_further_than_a_quarter_of_the_overlap():
    image, mask = scribbled(300, 400, count=30)
    mask[..., 100:104, :] = 0  # larger than a tile
    mask[..., 20:280, 50:53] = 0
    network = Blur()
    in_tiles = fill(network, image, mask, size=Tiled(64, 16))
    assert {size for size, _ in network.seen} == {(64, 64)}
    assert torch.allclose(in_tiles, fill(Blur(), image, mask), atol=1e-6)


def test_one_tile_for_the_whole_image_equals_whole():
    image, mask = scribbled()
    assert torch.equal(fill(Telea(), image, mask, size=Tiled(190, 16)), fill(Telea(), image, mask))


def test_only_holes_are_tiled():
    image, mask = torch.rand(1, 3, 256, 256), torch.ones(1, 1, 256, 256)
    network = Blur()
    assert torch.equal(fill(network, image, mask, size=Tiled(64, 16)), image)
    assert network.seen == []
    mask[..., 250:, 3:9] = 0
    fill(network, image, mask, size=Tiled(64, 16))
    assert [size for size, _ in network.seen] == [(64, 64)]


def test_a_hole_that_fits_into_a_tile_is_filled_in_one_tile_with_a_margin():
    known = np.ones((256, 256), bool)
    known[50:80, 50:82] = False  # across the borders of a regular grid
    known[200:210, 240:256] = False
    tiles = list(Tiled(64, 16).tile_holes(known))
    assert [set(np.unique(tile.weights)) for tile in tiles] == [{0, 1}, {0, 1}]
    (top, bottom), (left, right) = tiles[0].rows, tiles[0].columns
    assert (bottom - top, right - left) == (64, 64)
    assert min(50 - top, bottom - 80, 50 - left, right - 82) >= 16
    assert (tiles[1].rows[1] <= 256, tiles[1].columns) == (True, (192, 256))


def test_tiles_of_a_large_hole_are_enlarged_and_downscaled():
    image, mask = torch.rand(1, 3, 400, 400), torch.ones(1, 1, 400, 400)
    mask[..., 100:300, 100:300] = 0
    mask[..., 10:20, 10:20] = 0
    network = Blur()
    fill(network, image, mask, size=Tiled(64, 16))
    assert {size for size, _ in network.seen} == {(64, 64)}  # memory is still that of one tile
    assert min(known for _, known in network.seen) >= 0.25
    scales = {tile.weights.shape for tile in Tiled(64, 16).tile_holes(mask[0, 0].numpy() > 0)}
    assert (64, 64) in scales  # of the small hole
    assert len(scales) == 2  # one scale per hole


# Reduced images


def test_a_downscaled_pixel_is_the_mean_of_known_pixels_and_known_if_half_of_them_are():
    image, mask = torch.zeros(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    image[..., :32, :] = 1
    mask[:, :, :8, ::2] = 0  # half of each
    mask[:, :, 32:48] = 0
    image = torch.where(mask > 0, image, torch.nan)
    seen, known, drawn = Reduced(16).make_overview(image, mask, None)
    assert drawn is None
    assert seen.shape == (1, 3, 16, 16)
    assert (known[0, 0, 9:11] == 0).all()
    assert (known[0, 0, :7, 1:] == 1).all()
    assert (known[0, 0, 13:] == 1).all()
    assert torch.allclose(seen[..., :7, 1:], torch.ones(()))  # white, although half is hole
    assert (seen[..., 9:, :] == 0).all()


def test_small_images_are_not_resized():
    image, mask = scribbled(60, 64)
    assert torch.equal(fill(Blur(), image, mask, size=Reduced(64)), fill(Blur(), image, mask))
    _, known, _ = Reduced(32).make_overview(image, mask, None)
    assert known.shape[-2:] == (30, 32)
    thin = torch.rand(1, 3, 2, 500)
    assert fill(Blur(), thin, torch.zeros(1, 1, 2, 500), size=Reduced(64)).shape == thin.shape


def test_the_upscaled_hole_blends_into_known_pixels():
    ramp = torch.linspace(0, 1, 256).expand(1, 3, 256, 256).clone()
    mask = torch.ones(1, 1, 256, 256)
    mask[..., 64:192, 120:136] = 0
    filled = fill(Telea(), ramp, mask, size=Reduced(64))
    assert (filled - ramp).abs().max() < 0.06  # the ramp rises by 1/16 across the hole


# Drawn edges


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_edges_reach_the_network_at_every_size_and_known_pixels_keep_their_own(size):
    image, mask = torch.zeros(1, 3, 150, 190), torch.ones(1, 1, 150, 190)
    image[..., 95:] = 1
    mask[..., 40:80, 20:60] = 0
    drawn = torch.zeros_like(mask)
    drawn[..., 60, :] = 1  # one pixel high
    network, seen = EdgesAsImage(), []
    network.register_forward_hook(lambda _, args, output: seen.append(args))
    filled = fill(network, image, mask, drawn, size)
    assert filled[0, 0, 60, 25:55].min() > 0.4
    assert filled[0, 0, 45:55, 25:55].max() < 0.1
    for image_seen, known, edges in seen:
        assert torch.equal(torch.where(known > 0, edges, 0), DEFAULT_CANNY.known_edges(image_seen, known))


@pytest.mark.parametrize(
    ("make", "arguments"), [(Tiled, (64, 33)), (Tiled, (64, -1)), (Tiled, (0, 0)), (Reduced, (0,))]
)
def test_invalid_sides_and_overlaps_are_errors(make, arguments):
    with pytest.raises(InputError, match="side_px"):
        make(*arguments)


def test_only_the_surroundings_of_holes_are_passed_to_tiles():
    known = torch.ones(1, 1, 400, 600)
    known[..., 201:240, 301:390] = 0
    known[..., 250:255, 200:210] = 0
    image = torch.rand(1, 3, 400, 600, generator=torch.Generator().manual_seed(0))
    size, network = Tiled(32, 8), Telea()
    region = (..., *size.select_region(known, None))
    assert image[region].shape == (1, 3, 311, 446)
    whole = fill(network, image, known, size=size)
    assert torch.equal(fill(network, image[region], known[region], size=size), whole[region])
    assert size.select_region(torch.ones(1, 1, 4, 6), None) == (slice(0, 1), slice(0, 1))


@pytest.mark.parametrize("method", [Telea, NavierStokes])
def test_methods_that_read_pixels_near_the_holes_only_get_no_others(method):
    torch.manual_seed(0)
    image, known = torch.rand(1, 3, 70, 90), torch.ones(1, 1, 70, 90)
    known[..., 30:41, 50:58], known[..., 36, 40:60] = 0, 0
    network = method()
    assert Whole().select_region(known, network.reach_px) == (slice(22, 49), slice(32, 68))
    inpainter = Inpainter("local", network, torch.device("cpu"))
    whole = fill(network, image, known)
    assert torch.equal(inpainter(image, known), whole)
    assert Whole().select_region(known, None) == (slice(None), slice(None))
