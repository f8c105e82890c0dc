import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from src.networks.ops.winograd import (
    FILTER_TRANSFORM,
    Tiling,
    apply_transform,
    transform_output,
    transform_output_transposed,
)

SIZES = pytest.mark.parametrize(
    ("height", "width", "dilation"), [(1, 1, 1), (4, 8, 1), (5, 11, 1), (8, 16, 2), (7, 18, 2), (13, 5, 3)]
)


def numbers(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def at_places(tiling: Tiling, x):
    """Arrange x (B, n, h, w) like the outputs, (B, T, 16, n)."""
    return torch.cat([tiling.places(channel) for channel in x.split(1, dim=1)], dim=3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-4)])
@SIZES
def test_outputs_match_the_convolution(height, width, dilation, dtype, tolerance):
    tiling, x, filters = (
        Tiling(height, width, dilation),
        *(numbers(*shape, dtype=dtype) for shape in ((2, 3, height, width), (7, 3, 3, 3))),
    )
    expected = F.conv2d(x, filters, padding=dilation, dilation=dilation)
    products = (
        tiling.features(x) @ apply_transform(FILTER_TRANSFORM, filters.permute(2, 3, 1, 0).flatten(0, 1))[:, None]
    )
    inside = tiling.places(torch.ones_like(x[:, :1]))
    assert inside.sum() == 2 * height * width
    assert_close(transform_output(products) * inside, at_places(tiling, expected), atol=tolerance, rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-4)])
@SIZES
def test_transpose_matches_the_transposed_convolution(height, width, dilation, dtype, tolerance):
    tiling, weights, filters = (
        Tiling(height, width, dilation),
        *(numbers(*shape, dtype=dtype) for shape in ((2, 7, height, width), (7, 3, 3, 3))),
    )
    expected = F.conv_transpose2d(weights, filters, padding=dilation, dilation=dilation)
    spread = transform_output_transposed(at_places(tiling, weights))
    mixed = spread @ apply_transform(FILTER_TRANSFORM, filters.permute(2, 3, 0, 1).flatten(0, 1))[:, None]
    assert_close(tiling.put_back(mixed), expected, atol=tolerance, rtol=0)
