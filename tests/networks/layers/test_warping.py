"""Warping, and the alternatives to contextual attention."""

import math

import pytest
import torch
from torch.testing import assert_close

from src.networks.layers.warping import (
    AffineFlow,
    ConvFlow,
    Convolution,
    appearance_flow,
    spatial_transformer,
    warp,
)

FACTORIES = {"stn": spatial_transformer, "flow": appearance_flow, "conv": Convolution}


def features(height, width, count=2, channels=8, seed=0):
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(seed))


def slow_bilinear(x, row, column):
    """x (C, h, w) at a position between cells, the border repeated outside: sum of (1 - |dy|) (1 - |dx|) x."""
    row, column = (min(max(p, 0), side - 1) for p, side in ((row, x.shape[1]), (column, x.shape[2])))
    total = torch.zeros(len(x))
    for y in {math.floor(row), math.ceil(row)}:
        for xx in {math.floor(column), math.ceil(column)}:
            total += (1 - abs(row - y)) * (1 - abs(column - xx)) * x[:, y, xx]
    return total


@pytest.mark.parametrize("size", [(6, 9), (4, 5), (1, 3)], ids=str)
def test_warping_matches_bilinear_sampling_by_loops(size):
    background = features(*size)
    flow = 2 * torch.randn(2, 2, 4, 5, generator=torch.Generator().manual_seed(1))
    out = warp(background, flow)
    for sample in range(2):
        for y in range(4):
            for x in range(5):
                dy, dx = flow[sample, :, y, x].tolist()
                assert_close(out[sample, :, y, x], slow_bilinear(background[sample], y + dy, x + dx), atol=1e-5, rtol=0)


def test_flow_of_whole_cells_is_a_shift():
    x = features(6, 9)
    flow = torch.zeros(2, 2, 6, 9)
    flow[:, 0], flow[:, 1] = 1, -2
    assert_close(warp(x, flow)[..., :-1, 2:], x[..., 1:, :-2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("make", [spatial_transformer, appearance_flow], ids=["stn", "flow"])
def test_both_flows_are_the_identity_initially(make):
    x = features(6, 10)
    layer = make(8)
    assert_close(layer(x, x, torch.ones(2, 1, 6, 10)), x, atol=1e-5, rtol=0)
    assert_close(layer.flow(x, x), torch.zeros(2, 2, 6, 10), atol=1e-5, rtol=0)


def test_affine_flow_by_hand():
    """x' = 0.5 x + 0.25, y' = -y, from -1 to 1 over eight columns and four rows."""
    x, flow = features(4, 8), AffineFlow(8)
    with torch.no_grad():
        flow.to_theta.bias.copy_(torch.tensor([0.5, 0, 0.25, 0, -1, 0]))
    dy, dx = flow(x, x)[0]
    rows = torch.tensor([3.0, 2, 1, 0])  # upside down
    columns = torch.tensor([((2 * j + 1) / 8 - 1) * 0.5 + 0.25 for j in range(8)])
    assert_close(dy + torch.arange(4.0)[:, None], rows[:, None].expand(4, 8), atol=1e-5, rtol=0)
    in_cells = ((columns + 1) * 8 - 1) / 2
    assert_close(dx + torch.arange(8.0), in_cells.expand(4, 8), atol=1e-5, rtol=0)
    assert_close(warp(x, flow(x, x) * torch.tensor([1.0, 0]).view(1, 2, 1, 1)), x.flip(2), atol=1e-5, rtol=0)


def test_one_transform_per_sample():
    x, flow = features(6, 10), AffineFlow(8)
    torch.manual_seed(0)
    torch.nn.init.normal_(flow.to_theta.weight, std=0.1)
    offsets = flow(x, x)
    second_differences = offsets.diff(n=2, dim=-1), offsets.diff(n=2, dim=-2)
    for difference in second_differences:
        assert_close(difference, torch.zeros_like(difference), atol=1e-4, rtol=0)
    assert (offsets[0] - offsets[1]).abs().max() > 0.01


def test_affine_flow_uses_background_and_conv_flow_foreground():
    one, other = features(6, 10), features(6, 10, seed=1)
    torch.manual_seed(0)
    affine, conv = AffineFlow(8), ConvFlow(8)
    torch.nn.init.normal_(affine.to_theta.weight, std=0.1)
    torch.nn.init.normal_(conv.offsets.conv.weight, std=0.1)
    assert torch.equal(affine(one, one), affine(other, one))
    assert not torch.equal(affine(one, one), affine(one, other))
    assert torch.equal(conv(one, one), conv(one, other))
    assert not torch.equal(conv(one, one), conv(other, one))


@pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)
def test_sizes_precision_and_gradients(make):
    torch.manual_seed(0)
    layer = make(8)
    for foreground, background in ((features(6, 10), features(5, 7)), (features(1, 1), features(2, 3))):
        known = torch.ones(2, 1, *background.shape[-2:])
        full = layer(foreground, background, known)
        assert full.shape == foreground.shape
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = layer(foreground.bfloat16(), background.bfloat16(), known)
        assert half.dtype == torch.bfloat16
        assert_close(half.float(), full, atol=0.1, rtol=0.05)
    layer(features(6, 10), features(6, 10, seed=1), torch.ones(2, 1, 6, 10)).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
    assert any((p.grad != 0).any() for p in layer.parameters())


@pytest.mark.parametrize(("make", "maps"), [(spatial_transformer, 2), (appearance_flow, 2), (Convolution, None)])
def test_flows_can_be_recorded(make, maps):
    layer, seen = make(8), []
    for name, module in layer.map_layers().items():
        assert name == "flow"
        module.register_forward_hook(lambda module, args, output: seen.append(output))
    layer(features(6, 10), features(6, 10), torch.ones(2, 1, 6, 10))
    assert [tuple(flow.shape) for flow in seen] == ([] if maps is None else [(2, 2, 6, 10)])
