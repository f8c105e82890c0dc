import math

import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch.testing import assert_close

from src.losses.distance import distance_to_known


def test_by_hand():
    mask = torch.zeros(1, 1, 3, 5)
    mask[..., 0, 0] = mask[..., 2, 4] = 1.0
    r2, r5 = math.sqrt(2), math.sqrt(5)
    assert_close(distance_to_known(mask)[0, 0], torch.tensor([[0, 1, 2, r5, 2], [1, r2, r5, r2, 1], [2, r5, 2, 1, 0]]))


@pytest.mark.parametrize("extent", [(48, 64), (64, 31), (1, 40), (40, 1)])
@pytest.mark.parametrize("known_share", [0.002, 0.02, 0.5])
def test_matches_scipy_for_each_mask(extent, known_share):
    torch.manual_seed(0)
    mask = (torch.rand(4, 1, *extent) < known_share).float()
    mask[0] = 1.0
    mask[0, 0, extent[0] // 4 :, extent[1] // 4 :] = 0.0  # a rectangle that reaches two borders
    mask[:, 0, 0, 0] = 1.0  # scipy has no answer without a known pixel
    expected = [torch.from_numpy(distance_transform_edt(1 - m[0].numpy())).float() for m in mask]
    assert_close(distance_to_known(mask)[:, 0], torch.stack(expected))


def test_distance_is_infinite_without_known_pixels_and_zero_without_hole():
    mask = torch.stack([torch.zeros(1, 6, 8), torch.ones(1, 6, 8), torch.eye(6, 8)[None]])
    distance = distance_to_known(mask)
    assert (distance[0] == torch.inf).all()
    assert (distance[1] == 0).all()
    assert_close(distance[2:], distance_to_known(mask[2:]))
    assert distance[2].isfinite().all()
