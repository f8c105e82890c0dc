import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from src.networks.ops import small_maps
from src.networks.ops.small_maps import SmallMapConv2d, SmallMapConvTranspose2d

SIZES = [(1, 2, 2), (1, 4, 6), (2, 2, 4), (1, 3, 5), (2, 16, 12)]  # B, H, W; the last is beyond the limits


def slopes(layer, x, out):
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return torch.autograd.grad((out * weight).sum(), (x, layer.weight))


@pytest.mark.parametrize(("kernel_size", "stride", "padding"), [(4, 2, 1), (3, 2, 1), (3, 1, 1), (5, 2, 2)])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_convolution_matches_pytorch(size, kernel_size, stride, padding):
    torch.manual_seed(0)
    layer = SmallMapConv2d(3, 5, kernel_size, stride=stride, padding=padding).double()
    x = torch.randn(size[0], 3, *size[1:], dtype=torch.float64, requires_grad=True)
    out, expected = layer(x), F.conv2d(x, layer.weight, None, stride, padding)
    assert_close(out, expected)
    assert_close(slopes(layer, x, out), slopes(layer, x, expected))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_transposed_convolution_matches_pytorch(size):
    torch.manual_seed(0)
    layer = SmallMapConvTranspose2d(3, 5).double()
    x = torch.randn(size[0], 3, *size[1:], dtype=torch.float64, requires_grad=True)
    out, expected = layer(x), F.conv_transpose2d(x, layer.weight, None, 2, 1)
    assert_close(out, expected)
    assert_close(slopes(layer, x, out), slopes(layer, x, expected))


def test_only_small_maps_with_contiguous_filters_are_unfolded(monkeypatch):
    unfolded = []

    def recording(function):
        return lambda x, *args, **kwargs: unfolded.append(tuple(x.shape)) or function(x, *args, **kwargs)

    for name in ("unfold", "fold"):
        monkeypatch.setattr(small_maps.F, name, recording(getattr(F, name)))
    conv, deconv = SmallMapConv2d(3, 5, 4, stride=2, padding=1), SmallMapConvTranspose2d(3, 5)
    for size in ((1, 8, 8), (2, 4, 8), (1, 8, 10), (2, 8, 8)):  # 16, 16, 20 and 32 values after the convolution
        conv(torch.rand(size[0], 3, *size[1:]))
    assert unfolded == [(1, 3, 8, 8), (2, 3, 4, 8)]
    unfolded.clear()
    for size in ((1, 8, 8), (4, 4, 4), (5, 4, 4)):  # 64, 64 and 80 before the transposed one
        deconv(torch.rand(size[0], 3, *size[1:]))
    assert unfolded == [(1, 80, 64), (4, 80, 16)]
    unfolded.clear()
    for layer in (conv, deconv):
        layer.to(memory_format=torch.channels_last)(torch.rand(1, 3, 4, 4))
    assert unfolded == []
