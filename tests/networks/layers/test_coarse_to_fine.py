"""The shared parts of the two-stage networks."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from src.networks.layers.coarse_to_fine import (
    ConvBlock,
    UpsampleConvBlock,
    decoder,
    dilated_body,
    mirror_pad,
    to_signed,
    to_unit,
    zero_pad,
)
from src.networks.reference.coarse_to_fine import LiteralUpsampleConvBlock

block = partial(ConvBlock, pad=mirror_pad, activation=nn.ELU)


@pytest.mark.parametrize("padding", [1, 3, 4, 16])
@pytest.mark.parametrize("size", [(4, 7), (1, 5), (2, 1), (16, 16)], ids=str)
def test_mirror_padding_matches_numpy_for_any_size(size, padding):
    x = torch.rand(2, 3, *size)
    by_numpy = np.pad(x.numpy(), ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2), mode="reflect")
    assert_close(mirror_pad(x, padding), torch.from_numpy(by_numpy), atol=0, rtol=0)


@pytest.mark.parametrize(("kernel_size", "stride", "dilation"), [(5, 1, 1), (3, 2, 1), (3, 1, 16)])
def test_block_keeps_or_halves_the_size(kernel_size, stride, dilation):
    layer = ConvBlock(3, 6, kernel_size, stride, dilation, pad=zero_pad, activation=nn.Identity)
    x = torch.rand(2, 3, 12, 20)
    assert layer(x).shape == (2, 6, 12 // stride, 20 // stride)
    plain = nn.functional.conv2d(
        x, layer.conv.weight, layer.conv.bias, stride, padding=dilation * (kernel_size // 2), dilation=dilation
    )
    assert_close(layer(x), plain)


def test_body_and_the_decoder_have_the_papers_layers():
    convs = [m for m in dilated_body(8, block).modules() if isinstance(m, nn.Conv2d)]
    assert [conv.dilation for conv in convs] == [(2, 2), (4, 4), (8, 8), (16, 16)]
    convs = [m for m in dilated_body(8, block, (1, 3)).modules() if isinstance(m, nn.Conv2d)]
    assert [conv.dilation for conv in convs] == [(1, 1), (3, 3)]
    full = decoder(256, 1.0, block)
    assert [m.out_channels for m in full.modules() if isinstance(m, nn.Conv2d)] == [128, 128, 64, 64, 32, 16, 3]
    small = decoder(8, 1 / 8, block)
    out = small(1e5 * torch.randn(2, 8, 3, 5))
    assert out.shape == (2, 3, 12, 20)
    assert out.min() == -1
    assert out.max() == 1


@pytest.mark.parametrize("pad", [mirror_pad, zero_pad])
@pytest.mark.parametrize("size", [(5, 6), (1, 3)], ids=str)
def test_upsampling_block_matches_interpolation_and_convolution(pad, size):
    layer = UpsampleConvBlock(ConvBlock(3, 4, pad=pad, activation=nn.ELU)).double()
    literal, made = LiteralUpsampleConvBlock(layer), []
    for form in (layer, literal):
        x = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        out = form(x)
        slopes = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        gradients = torch.autograd.grad((out * slopes).sum(), (x, layer.conv.weight, layer.conv.bias))
        made.append((out, *gradients))
    assert made[0][0].shape == (2, 4, 2 * size[0], 2 * size[1])
    for ours, theirs in zip(*made, strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize(
    "block",
    [
        ConvBlock(3, 4, pad=partial(mirror_pad), activation=nn.ELU),
        ConvBlock(3, 4, 5, pad=zero_pad, activation=nn.ELU),
        ConvBlock(3, 4, dilation=2, pad=zero_pad, activation=nn.ELU),
    ],
    ids=["pad", "kernel", "dilation"],
)
def test_rejects_unsupported_convolutions(block):
    with pytest.raises(ValueError, match=r"^UpsampleConvBlock needs"):
        UpsampleConvBlock(block)


def test_ranges():
    x = torch.rand(5)
    assert_close(to_unit(to_signed(x)), x)
    assert_close(to_signed(torch.tensor([0.0, 1.0])), torch.tensor([-1.0, 1.0]))
