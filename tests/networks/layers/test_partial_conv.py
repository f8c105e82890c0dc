import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from src.networks.layers.partial_conv import PartialConv2d, to_full_window, to_mean


def slow(layer: PartialConv2d, features: list[Tensor], masks: list[Tensor], mean: bool) -> tuple[Tensor, Tensor]:
    """Eqs. 1 and 2, window by window, with as many mask channels as feature channels, as the paper writes them.

    `mean`: without sum(1), as the re-implementation computes it.
    """
    if not layer.together and len(features) > 1:
        return slow_apart(layer, features, masks, mean)
    x = torch.cat(features, dim=1)
    m = torch.cat([mask.expand_as(f) for f, mask in zip(features, masks, strict=True)], dim=1)
    k, stride, reach = layer.kernel_size, layer.stride, layer.kernel_size // 2
    weight = layer.conv.weight
    bias = layer.bias.flatten() if isinstance(layer.bias, Tensor) else torch.zeros(len(weight))
    height, width = ((n - 1) // stride + 1 for n in x.shape[-2:])
    out, updated = torch.zeros(len(x), len(weight), height, width), torch.zeros(len(x), 1, height, width)
    for b in range(len(x)):
        for row in range(height):
            for column in range(width):
                total, known = torch.zeros(len(weight)), 0.0
                for i in range(k):
                    for j in range(k):
                        r, c = row * stride + i - reach, column * stride + j - reach
                        if 0 <= r < x.shape[-2] and 0 <= c < x.shape[-1]:
                            total += weight[:, :, i, j] @ (x[b, :, r, c] * m[b, :, r, c])
                            known += m[b, :, r, c].sum().item()
                if known > 0:
                    whole = 1 if mean else x.shape[1] * k * k
                    out[b, :, row, column] = total * whole / known + bias
                    updated[b, 0, row, column] = 1
    return out, updated


def slow_apart(layer: PartialConv2d, features: list[Tensor], masks: list[Tensor], mean: bool) -> tuple[Tensor, Tensor]:
    """Return the sum of one layer for each input, each with its own filters, and the bias once."""
    out, updated, first = torch.zeros(()), torch.zeros(()), 0
    for f, mask in zip(features, masks, strict=True):
        alone = PartialConv2d(f.shape[1], layer.conv.out_channels, layer.kernel_size, stride=layer.conv.stride[0])
        alone.conv.weight = torch.nn.Parameter(layer.conv.weight[:, first : first + f.shape[1]])
        x, known = slow(alone, [f], [mask], mean)
        out, updated, first = out + x, torch.maximum(updated, known), first + f.shape[1]
    return out + (0 if layer.bias is None else layer.bias * updated), updated


@pytest.mark.parametrize("together", [False, True], ids=["apart", "together"])
@pytest.mark.parametrize("rescale", [to_full_window, to_mean])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("channels", [[3], [4, 3]], ids=["one part", "two parts"])
@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (5, 2)])
def test_matches_equations_pixel_by_pixel(kernel_size, stride, channels, bias, rescale, together):
    torch.manual_seed(0)
    layer = PartialConv2d(sum(channels), 5, kernel_size, stride=stride, bias=bias, rescale=rescale, together=together)
    if bias:
        torch.nn.init.normal_(layer.bias)
    features = [torch.randn(2, c, 10, 14) for c in channels]
    masks = [(torch.rand(2, 1, 10, 14) > 0.7).float() for _ in channels]  # different for each input
    for mask in masks:
        mask[0, :, :, :9] = 0  # wide enough for windows without a known pixel, and at the border
    with torch.no_grad():
        out, updated = layer(features, masks)
        expected, expected_mask = slow(layer, features, masks, mean=rescale is to_mean)
    assert_close(out, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(updated, expected_mask)
    assert 0 < updated.mean() < 1


def test_each_input_counts_once_per_channel():
    """By hand: 1x1, four channels known, one unknown: the sum over the four times 5/4."""
    layer = PartialConv2d(5, 1, 1, together=True)
    torch.nn.init.ones_(layer.conv.weight)
    parts = [torch.ones(1, 4, 1, 1), torch.full((1, 1, 1, 1), 7.0)]
    out, updated = layer(parts, [torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)])
    assert out.item() == pytest.approx(4 * 5 / 4)
    assert updated.item() == 1


def test_full_masks_give_a_plain_convolution_inside_and_rescale_at_the_border():
    torch.manual_seed(0)
    layer, x = PartialConv2d(3, 4, 3), torch.rand(1, 3, 8, 8)
    out, updated = layer([x], [torch.ones(1, 1, 8, 8)])
    plain = layer.conv(x)
    assert_close(out[..., 1:-1, 1:-1], plain[..., 1:-1, 1:-1])
    assert_close(out[..., 0, 0], plain[..., 0, 0] * 9 / 4)  # 4 of 9 window pixels lie in the image
    assert (updated == 1).all()


def test_hole_values_have_no_effect_and_no_gradient():
    torch.manual_seed(0)
    layer, x = PartialConv2d(3, 4, 3, bias=True), torch.rand(1, 3, 8, 8, requires_grad=True)
    mask = (torch.rand(1, 1, 8, 8) > 0.5).float()
    out, _ = layer([x], [mask])
    other, _ = layer([torch.where(mask > 0, x, 100.0)], [mask])
    assert torch.equal(out, other)
    out.sum().backward()
    assert (x.grad.masked_select(mask == 0) == 0).all()


def test_nothing_known_gives_zero_without_bias_and_finite_gradients():
    layer, x = PartialConv2d(3, 4, 3, bias=True), torch.rand(1, 3, 8, 8, requires_grad=True)
    torch.nn.init.ones_(layer.bias)
    out, updated = layer([x], [torch.zeros(1, 1, 8, 8)])
    out.sum().backward()
    assert (out == 0).all()
    assert (updated == 0).all()
    assert all(t.grad.isfinite().all() for t in (x, *layer.parameters()))


def test_counts_stay_exact_under_autocast():
    """2,047 channels x 9 are beyond bfloat16's and float16's integers; a wrong count shows in the scale."""
    layer, x = PartialConv2d(2047, 1, 3), torch.ones(1, 2047, 4, 4)
    torch.nn.init.constant_(layer.conv.weight, 2.0**-10)
    counted: list[Tensor] = []
    layer.update.register_forward_hook(lambda module, args, output: counted.append(args[0]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer([x], [torch.ones(1, 1, 4, 4)])
    assert counted[0].max().item() == 2047 * 9


@pytest.mark.parametrize(
    ("features", "masks"),
    [([(1, 3, 8, 8)], [(1, 3, 8, 8)]), ([(1, 3, 8, 8)], [(1, 1, 4, 4)]), ([(1, 2, 8, 8)], [(1, 1, 8, 8)]),
     ([(1, 3, 8, 8)], [(1, 1, 8, 8), (1, 1, 8, 8)])],
)  # fmt: skip
def test_rejects_mismatched_features_and_masks(features, masks):
    layer = PartialConv2d(3, 4, 3)
    with pytest.raises(ValueError, match=r"each feature tensor needs|channels of the features must sum to"):
        layer([torch.rand(s) for s in features], [torch.ones(s) for s in masks])
