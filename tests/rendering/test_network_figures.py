"""Figures of a network's internals, drawn from known maps."""

import numpy as np
import pytest
import torch
from torch import nn

from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.layers.canny import DEFAULT_CANNY
from src.networks.pconv import PConv
from src.rendering.grids import READABLE_SIDE_PX
from src.rendering.network_figures import DIMMED, draw_internals


class FixedMaps(InpaintingNetwork):
    """A network that predicts 0.5 and returns fixed maps."""

    def __init__(self, stride=1, coarse=None, edges=None, **maps):
        super().__init__()
        self.stride, self.maps, self.coarse, self.edges = stride, maps, coarse, edges
        self.layers = nn.ModuleDict({name: nn.Identity() for name in maps})

    def map_layers(self):
        return dict(self.layers)

    def inpaint(self, image, mask, edges):
        for name, layer in self.layers.items():
            layer(self.maps[name])
        return InpaintingOutput(torch.full_like(image, 0.5), self.coarse, self.edges)


def example(height=16, width=16):
    image = torch.linspace(0.2, 1, width).expand(1, 3, height, width).clone()
    mask = torch.ones(1, 1, height, width)
    mask[..., :4, 12:] = 0  # the top right
    return image, mask


def pixels(grid, column, shrink_to=(16, 16)):
    """Return an image of the first row without repeated pixels, in [0, 1]."""
    drawn = grid.rows[0][grid.columns.index(column)].pixels / 255
    times = drawn.shape[0] // shrink_to[0]
    return drawn[::times, ::times]


def test_masks_show_the_normalised_maximum_over_channels():
    maps = torch.zeros(1, 2, 8, 8)
    maps[0, 0, 0, 0], maps[0, 1, 7, 7], maps[0, 1, 0, 7] = 2.0, 4.0, 1.0
    grids = draw_internals(FixedMaps(forward_1=maps, forward_mask_1=1 - maps), *example())
    assert set(grids) == {"attention_maps", "updated_masks"}
    drawn = pixels(grids["attention_maps"], "forward 1")[..., 0]
    by_hand = np.zeros((16, 16))
    by_hand[:2, :2], by_hand[14:, 14:], by_hand[:2, 14:] = 0.5, 1.0, 0.25
    assert drawn == pytest.approx(by_hand, abs=1 / 255)
    assert pixels(grids["updated_masks"], "forward 1")[0, 0, 0] == 1.0


def test_shows_three_levels_of_each_direction_in_the_papers_order():
    maps = {f"{way}_{level}": torch.rand(1, 4, 8, 8) for way in ("forward", "reverse") for level in range(1, 6)}
    grid = draw_internals(FixedMaps(**maps), *example())["attention_maps"]
    levels = ["forward 1", "forward 2", "forward 3", "reverse 3", "reverse 2", "reverse 1"]
    assert list(grid.columns) == ["input", *levels]


def test_shows_masks_of_partial_convolutions():
    network, (image, mask) = PConv(width=1 / 8, levels=4).eval(), example(32, 48)
    grid = draw_internals(network, image, mask)["updated_masks"]
    assert "encoder 1" in grid.columns
    assert "decoder 1" in grid.columns


def test_attention_to_the_bottom_left_is_pink_and_attended_patches_are_bright():
    attention = torch.zeros(1, 16, 4, 4)  # patches of a 4x4 grid for 4x4 cells
    attention[0, 0] = 1.0  # all cells attend to the top left patch
    attention[0, :, 0, 3] = 0.0
    attention[0, 12, 0, 3] = 1.0  # except the hole's cell, to the bottom left one
    image, mask = example()
    grid = draw_internals(FixedMaps(attention=attention), image, mask)["attention"]
    colours = pixels(grid, "attention direction")
    red, green, blue = colours[1, 14]
    assert green < min(red, blue) - 0.5  # pink
    assert (colours[6:, :] == 1).all()
    shown = pixels(grid, "attended patches")
    assert shown[14, 1] == pytest.approx(image[0, :, 14, 1].numpy(), abs=1 / 255)
    assert shown[1, 1] == pytest.approx(DIMMED * image[0, :, 1, 1].numpy(), abs=1 / 255)  # from known cells only
    assert (shown[:4, 12:] == 0).all()
    assert pixels(grid, "result")[1, 14] == pytest.approx(0.5, abs=1 / 255)


def test_flow_has_the_same_colours_as_attention():
    flow = torch.zeros(1, 2, 4, 4)
    flow[0, :, 0, 3] = torch.tensor([3.0, -3.0])  # down and to the left
    flow[0, :, 3, 0] = torch.tensor([-3.0, 3.0])
    grid = draw_internals(FixedMaps(flow=flow), *example())["attention"]
    assert list(grid.columns) == ["input", "attention direction", "result"]
    red, green, blue = pixels(grid, "attention direction")[1, 14]
    assert green < min(red, blue) - 0.5  # pink


def test_attention_to_patches_with_stride_two():
    attention = torch.zeros(1, 4, 4, 4)
    attention[0, 2] = 1.0  # the bottom left one of 2x2 patches, two cells apart
    shown = pixels(draw_internals(FixedMaps(attention=attention), *example())["attention"], "attended patches")
    assert shown[9, 1].mean() > 2 * shown[9, 9].mean() * DIMMED
    assert shown[14, 1].mean() > shown[1, 1].mean()


def test_predicted_edges_are_red_in_the_hole_and_canny_black_outside():
    image, mask = example(48, 48)
    image[..., 24:] = 0.0
    predicted = torch.ones(1, 1, 48, 48)
    grid = draw_internals(FixedMaps(edges=predicted), image, mask)["edges"]
    drawn = pixels(grid, "known edges and edges in the hole", (48, 48))
    red, green, blue = drawn[1, 14]
    assert red > 0.8 > 0.2 > max(green, blue)
    black = DEFAULT_CANNY.known_edges(image, mask)[0, 0].bool().numpy()
    assert black.any()
    assert (drawn[black] == 0).all()
    assert (drawn[~black & (mask[0, 0].numpy() > 0)] == 1).all()


def test_input_edges_replace_predicted_ones():
    image, mask = example(48, 48)
    network = FixedMaps(edges=torch.zeros(1, 1, 48, 48))
    network.takes_edges = True
    drawn = draw_internals(network, image, mask, torch.ones(1, 1, 48, 48))["edges"]
    assert pixels(drawn, "known edges and edges in the hole", (48, 48))[1, 14, 0] > 0.8
    assert pixels(drawn, "known edges and edges in the hole", (48, 48))[1, 14, 1] < 0.2


def test_maps_are_normalised_before_the_maximum_over_channels():
    maps = torch.zeros(1, 2, 8, 8)
    maps[0, 1, :, :4], maps[0, 1, :, 4:] = 1.0, 3.0
    drawn = pixels(draw_internals(FixedMaps(forward_1=maps), *example())["attention_maps"], "forward 1")
    assert drawn[:, :8] == pytest.approx(1 / 3, abs=1 / 255)
    assert (drawn[:, 8:] == 1).all()


def test_constant_masks_are_white_if_known_and_black_if_hole():
    ones, zeros = torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    drawn = draw_internals(FixedMaps(encoder_1=ones, encoder_2=zeros), *example())["updated_masks"]
    assert (pixels(drawn, "encoder 1") == 1).all()
    assert (pixels(drawn, "encoder 2") == 0).all()


def test_stages_are_composites():
    image, mask = example()
    grid = draw_internals(FixedMaps(coarse=torch.zeros_like(image)), image, mask)["stages"]
    assert list(grid.columns) == ["input", "coarse", "refined", "image"]
    assert pixels(grid, "coarse")[1, 14] == pytest.approx(0.0)
    assert pixels(grid, "refined")[1, 14] == pytest.approx(0.5, abs=1 / 255)
    assert pixels(grid, "coarse")[8, 8] == pytest.approx(image[0, :, 8, 8].numpy(), abs=1 / 255)


def test_maps_are_aligned_with_images_of_any_size():
    maps = torch.zeros(1, 1, 4, 4)  # of 16x16 pixels: 13x11 padded to a multiple of 8
    maps[..., 3, :] = 1.0
    image, mask = example(13, 11)
    drawn = draw_internals(FixedMaps(stride=8, forward_1=maps), image, mask)["attention_maps"]
    shown = pixels(drawn, "forward 1", (13, 11))[..., 0]
    assert shown.shape == (13, 11)
    assert (shown[12] == 1).all()
    assert (shown[:12] == 0).all()


def test_network_without_maps_has_no_figures():
    assert draw_internals(FixedMaps(), *example()) == {}


def test_small_figures_are_enlarged():
    grid = draw_internals(FixedMaps(forward_1=torch.rand(1, 1, 8, 8)), *example())["attention_maps"]
    assert all(cell.pixels.shape[0] >= READABLE_SIDE_PX for cell in grid.rows[0])
