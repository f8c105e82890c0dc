"""Poisson blending continues the colours around a hole, and leaves known pixels as they are."""

import torch
from torch import nn

from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.prediction import Inpainter
from src.prediction.blending import BLENDS, blend_poisson


class Darker(InpaintingNetwork):
    """Predicts the truth, with a constant error of the colours."""

    def __init__(self, truth):
        super().__init__()
        self.truth, self.scale = truth, nn.Parameter(torch.ones(1))

    def inpaint(self, image, mask, edges):
        return InpaintingOutput(self.truth - 0.25)


def picture(height=40, width=56):
    rows, columns = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    texture = 0.05 * torch.sin(40 * columns) * torch.cos(30 * rows)
    return (0.4 + 0.3 * torch.stack([rows + 0 * columns, columns + 0 * rows, rows * columns]) + texture)[None]


def test_a_constant_error_of_the_colours_disappears():
    truth, mask = picture().repeat(2, 1, 1, 1), torch.ones(2, 1, 40, 56)
    mask[0, :, 10:25, 12:40] = 0
    mask[1, :, 20:, :20] = 0  # at the border of the image, and two holes
    mask[1, :, 4:9, 40:50] = 0
    results = {
        name: Inpainter("darker", Darker(truth), torch.device("cpu"), blend=blend)(truth, mask)
        for name, blend in BLENDS.items()
    }
    hole = (mask == 0).expand_as(truth)
    errors = {name: float((filled - truth).abs()[hole].mean()) for name, filled in results.items()}
    assert errors["paste"] > 0.24
    assert errors["poisson"] < 0.03
    assert all(torch.equal(filled[~hole], truth[~hole]) for filled in results.values())


def test_nothing_to_blend_with_keeps_the_prediction():
    image, prediction = picture(), picture().flip(3)
    for mask in (torch.zeros(1, 1, 40, 56), torch.ones(1, 1, 40, 56)):
        assert torch.equal(blend_poisson(image, mask, prediction), prediction)
