import pytest
import torch

from src.common.errors import InputError
from src.losses.inputs import LossInput
from src.networks.interface import InpaintingOutput


def make_loss_input(coarse: torch.Tensor | None) -> LossInput:
    mask = torch.ones(1, 1, 4, 6)
    mask[..., :3] = 0.0
    prediction = torch.full((1, 3, 4, 6), 0.5)
    return LossInput(torch.ones(1, 3, 4, 6), mask, InpaintingOutput(prediction, coarse=coarse))


@pytest.mark.parametrize(
    ("view", "in_hole", "known"),
    [
        ("truth", 1.0, 1.0),
        ("prediction", 0.5, 0.5),
        ("composite", 0.5, 1.0),
        ("coarse", 0.25, 0.25),
        ("coarse_composite", 0.25, 1.0),
    ],
)
def test_views(view, in_hole, known):
    image = make_loss_input(torch.full((1, 3, 4, 6), 0.25).bfloat16()).get_image(view)
    assert image.dtype == torch.float32
    assert (image[..., :3] == in_hole).all()
    assert (image[..., 3:] == known).all()


@pytest.mark.parametrize("view", ["coarse", "coarse_composite"])
def test_rejects_coarse_view_of_single_stage_network(view):
    with pytest.raises(InputError, match=rf"view={view}, but this network has no coarse stage.*=null"):
        make_loss_input(None).get_image(view)


def test_distance_is_computed_once():
    inputs = make_loss_input(None)
    assert inputs.distance is inputs.distance
    assert inputs.distance[0, 0, 0].tolist() == [3, 2, 1, 0, 0, 0]
