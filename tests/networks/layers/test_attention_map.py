import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from src.networks.layers.attention_map import (
    AsymmetricGaussian,
    BoxMean,
    ClampedAsymmetricGaussian,
    MaskChain,
    NoMaps,
    Reciprocal,
    binary,
    learnable_maps,
    non_negative,
    power_relu,
    released_reverse_gaussian,
    unlearned_maps,
)
from src.networks.layers.partial_conv import PartialConv2d

MASK = torch.cat([torch.zeros(2, 1, 48, 32), torch.ones(2, 1, 48, 32)], dim=-1)  # the left half is a hole


def random_mask(height=48, width=64):
    return (torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(3)) > 0.6).float()


def test_non_negative_filters_map_known_windows_to_all_known():
    torch.manual_seed(0)
    maps = learnable_maps([512], start=partial(non_negative, all_known=2.0))
    m = maps.mask_convs[0](torch.cat([torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)], dim=-1))
    assert (m[..., :3] == 0).all()
    assert (m >= 0).all()
    assert m[..., 1:-1, 5:-1].mean().item() == pytest.approx(2.0, abs=0.05)


# --- g_A, Eq. 9 ---


def g_a(m: float, a: float, mu: float, gamma_l: float, gamma_r: float) -> float:
    if m < mu:
        return a * math.exp(-gamma_l * (m - mu) ** 2)
    return 1 + (a - 1) * math.exp(-gamma_r * (m - mu) ** 2)


def test_initial_gaussian_passes_features():
    """The mask filters start near 0: m is near 0 everywhere, and g_A must not weight all features with 0.02."""
    assert {key: p.item() for key, p in AsymmetricGaussian().named_parameters()} == pytest.approx(
        {"a": 1.1, "mu": 1.0, "gamma_l": 0.5, "gamma_r": 0.5}
    )
    assert AsymmetricGaussian()(torch.zeros(1)).item() == pytest.approx(1.1 * math.exp(-0.5))
    assert AsymmetricGaussian(1.1, 2.0, 1.0, 1.0)(torch.zeros(1)).item() == pytest.approx(1.1 * math.exp(-4), abs=1e-6)


@pytest.mark.parametrize("numbers", [(1.1, 2.0, 1.0, 1.0), (1.3, 0.7, 4.0, 0.5), (0.6, -1.0, 0.3, 2.0)])
def test_gaussian_follows_equation_9(numbers):
    m = torch.linspace(-3, 6, 181)
    expected = torch.tensor([g_a(v, *numbers) for v in m.tolist()])
    assert_close(AsymmetricGaussian(*numbers)(m), expected, atol=1e-5, rtol=0)


OUTSIDE = {  # parameters, and the nearest ones of a in [1.01, 6], mu in [0.1, 3], both gammas in [0.5, 2]
    "low": ((0.2, -1.0, 0.1, 0.0), (1.01, 0.1, 0.5, 0.5)),
    "high": ((7.0, 3.5, 2.5, 9.0), (6.0, 3.0, 2.0, 2.0)),
    "within": ((1.3, 0.7, 0.8, 1.9), (1.3, 0.7, 0.8, 1.9)),
}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("numbers", OUTSIDE.values(), ids=OUTSIDE)
def test_clamped_gaussian_keeps_unclamped_parameters(numbers, training):
    given, nearest = numbers
    m = torch.linspace(-3, 6, 181)
    clamped, plain = ClampedAsymmetricGaussian(*given).train(training), AsymmetricGaussian(*nearest)
    assert torch.equal(clamped(m), plain(m))
    for g in (clamped, plain):  # gradients are equal, too: a parameter out of range still learns
        g(m).square().sum().backward()
    slopes = {key: p.grad for key, p in clamped.named_parameters()}
    assert slopes == {key: p.grad for key, p in plain.named_parameters()}
    assert all(slope != 0 for slope in slopes.values())
    assert [p.item() for p in clamped.parameters()] == pytest.approx(list(given))


def test_clamped_gaussian_starts_as_the_release():
    assert [p.item() for p in ClampedAsymmetricGaussian().parameters()] == pytest.approx([1.1, 2.0, 1.0, 1.0])
    assert [p.item() for p in released_reverse_gaussian().parameters()] == pytest.approx([1.1, 1.0, 0.5, 0.5])


def test_gaussian_meets_at_mu():
    g = AsymmetricGaussian(a=1.3, mu=2.0, gamma_l=4.0, gamma_r=0.5)
    assert_close(g(torch.tensor([1.0, 2 - 1e-4, 2.0, 50.0])), torch.tensor([0.0238, 1.3, 1.3, 1.0]), atol=1e-4, rtol=0)


def test_gaussian_gradients_by_hand():
    g, m = AsymmetricGaussian(1.3, 2.0, 0.8, 0.5), torch.tensor([1.0, 3.0], requires_grad=True)
    g(m).sum().backward()
    below, above = 1.3 * math.exp(-0.8), 0.3 * math.exp(-0.5)  # (m - mu)^2 is 1 on both sides
    assert_close(m.grad, torch.tensor([2 * 0.8 * below, -2 * 0.5 * above]))
    by_hand = {"a": math.exp(-0.8) + math.exp(-0.5), "mu": -m.grad.sum(), "gamma_l": -below, "gamma_r": -above}
    for key, expected in by_hand.items():
        assert_close(g.get_parameter(key).grad, torch.as_tensor(expected))


def test_gaussian_gradients_numerically():
    g = AsymmetricGaussian().double()
    m = torch.tensor([-2.0, 0.0, 1.0, 1.9, 2.1, 3.0, 9.0], dtype=torch.float64, requires_grad=True)
    numbers = tuple(p.detach().clone().requires_grad_() for p in g.parameters())
    keys = [key for key, _ in g.named_parameters()]
    assert gradcheck(
        lambda m, *values: torch.func.functional_call(g, dict(zip(keys, values, strict=True)), m), (m, *numbers)
    )


def test_gaussian_is_finite_at_its_kink_and_far_away():
    g, m = AsymmetricGaussian(), torch.tensor([-1e4, 0.0, 2.0, 1e4], requires_grad=True)
    out = g(m)
    out.sum().backward()
    assert out.isfinite().all()
    assert all(t.grad.isfinite().all() for t in (m, *g.parameters()))


# --- g_M, Eq. 8; f_A, Eq. 4; f_M, Eq. 5 ---


def test_power_relu_follows_equation_8():
    m = torch.tensor([-3.0, -1e-9, 0.0, 1e-3, 0.5, 1.0, 2.0])
    assert_close(power_relu(m), torch.tensor([max(v, 0.0) ** 0.8 for v in m.tolist()]))
    assert_close(power_relu(m, alpha=0.3), torch.tensor([max(v, 0.0) ** 0.3 for v in m.tolist()]))


def test_power_relu_gradient():
    m = torch.tensor([0.1, 0.5, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    assert gradcheck(power_relu, m)
    (slope,) = torch.autograd.grad(power_relu(m).sum(), m)
    assert_close(slope, 0.8 * m.detach() ** -0.2)


def test_power_relu_gradient_is_zero_in_holes():
    m = torch.tensor([-1.0, -0.0, 0.0, 1e-38], requires_grad=True)
    power_relu(m).sum().backward()
    assert m.grad[:3].tolist() == [0, 0, 0]
    assert m.grad.isfinite().all()
    clamped = torch.zeros(1, requires_grad=True)
    clamped.clamp(min=0).pow(0.8).sum().backward()
    assert not clamped.grad.isfinite()  # so power_relu must not clamp


def test_alpha_0_is_not_binary_update():
    m = torch.tensor([-1.0, 0.0, 0.5])
    assert power_relu(m, alpha=0.0).tolist() == [1, 1, 1]  # 0 ** 0
    assert binary(m).tolist() == [0, 0, 1]
    assert power_relu(m, alpha=1e-6).round(decimals=3).tolist() == [0, 0, 1]  # the limit is f_M, the value is not


def test_reciprocal_follows_equation_4_with_finite_gradients():
    m = torch.tensor([-1.0, 0.0, 1 / 16, 0.5, 1.0], requires_grad=True)
    out = Reciprocal()(m)
    out.sum().backward()
    assert out.tolist() == [0, 0, 16, 2, 1]
    assert m.grad.tolist() == [0, 0, -256, -4, -1]


# --- maps of a direction ---

PARTS = {
    "full": learnable_maps,
    "sigmoid": partial(learnable_maps, attend=nn.Sigmoid),
    "lrelu": partial(learnable_maps, attend=partial(nn.LeakyReLU, 0.2)),
    "relu": partial(learnable_maps, attend=nn.ReLU),
    "3x3": partial(learnable_maps, kernel_size=3),
    "unlearned": unlearned_maps,
    "none": NoMaps,
}


@pytest.mark.parametrize("make", PARTS.values(), ids=PARTS)
def test_maps_fit_the_features_of_their_level(make):
    for level, attention in enumerate(make([8, 16, 24])(MASK, None), start=1):
        features = torch.rand(2, 8 * level, 48 >> level, 64 >> level)
        assert (features * attention).shape == features.shape


@pytest.mark.parametrize("make", PARTS.values(), ids=PARTS)
def test_gradients_stay_finite_where_nothing_is_known(make):
    torch.manual_seed(0)
    maps = make([8, 8, 8])
    for values in (MASK, torch.zeros_like(MASK), torch.ones_like(MASK)):
        mask = values.clone().requires_grad_()
        # The factor mask.mean() gives a gradient without maps.
        (sum(m.sum() for m in maps(mask, None)) * mask.mean()).backward()
        assert all(t.grad.isfinite().all() for t in (mask, *maps.parameters()))


def test_hole_value_is_constant_until_window_reaches_known_pixels():
    maps = learnable_maps([8, 8])
    for conv in maps.mask_convs:
        torch.nn.init.uniform_(conv.weight)  # of one sign, so that known values cannot cancel out
    first, second = maps(MASK, None)
    empty = AsymmetricGaussian()(torch.tensor(0.0))
    # Output i depends on inputs 2i - 1 to 2i + 2, and input 32 is the first that is known.
    assert (first[..., :15] == empty).all()
    assert (first[..., 15:] > empty).all()
    assert (second[..., :7] == empty).all()
    assert (second[..., 7:] > empty).all()


@pytest.mark.parametrize("direction_of_change", ["mask_conv", "attend"])
def test_parameters_affect_only_their_level_and_deeper_ones(direction_of_change):
    torch.manual_seed(0)
    maps = learnable_maps([8, 8, 8, 8])
    before = maps(MASK, None)
    with torch.no_grad():
        if direction_of_change == "mask_conv":
            maps.mask_convs[1].weight.mul_(1.5)
        else:
            maps.attend[1].mu.add_(0.3)
    changed = [not torch.equal(b, a) for b, a in zip(before, maps(MASK, None), strict=True)]
    assert changed == ([False, True, True, True] if direction_of_change == "mask_conv" else [False, True, False, False])


def test_mask_pixel_affects_only_windows_that_contain_it():
    torch.manual_seed(0)
    maps, poked = learnable_maps([8, 8]), MASK.clone()
    poked[0, 0, 20, 21] = 1
    for level, (before, after) in enumerate(zip(maps(MASK, None), maps(poked, None), strict=True), start=1):
        assert not (before != after)[1].any()  # the other image of the batch
        rows, columns = (before != after)[0].any(0).nonzero().unbind(1)
        # Output i of a 4/2/1 convolution depends on inputs 2i - 1 to 2i + 2; two of them on 4i - 3 to 4i + 6.
        reach = [i for i in range(32) if (2 * i - 1 <= 20 <= 2 * i + 2 if level == 1 else 4 * i - 3 <= 20 <= 4 * i + 6)]
        assert sorted(set(rows.tolist())) == reach
        reach = [i for i in range(32) if (2 * i - 1 <= 21 <= 2 * i + 2 if level == 1 else 4 * i - 3 <= 21 <= 4 * i + 6)]
        assert sorted(set(columns.tolist())) == reach


# --- the unlearned map, and partial convolution as a special case ---


@pytest.mark.parametrize("size", [4, 3])
def test_unlearned_maps_equal_the_literal_filters(size):
    """Multi-channel convolutions with all filters 1/(16 C), f_A and f_M, which `BoxMean` computes in one channel."""
    channels = [8, 16, 24]
    literal = []
    for i, o in zip((3, *channels[:-1]), channels, strict=True):
        conv = nn.Conv2d(i, o, size, stride=2, padding=1, bias=False)
        nn.init.constant_(conv.weight, 1 / (size**2 * i))
        literal.append(conv)
    literal = MaskChain(literal, [Reciprocal() for _ in channels], binary)
    mask = random_mask()
    for one, c, expected in zip(unlearned_maps(channels, size)(mask, None), channels, literal(mask, None), strict=True):
        assert_close(one.expand(-1, c, -1, -1), expected)


def test_filters_of_1_16_scale_features_by_1_over_channels():
    mask = random_mask().expand(-1, 8, -1, -1)
    literal = nn.functional.conv2d(mask, torch.full((1, 8, 4, 4), 1 / 16), stride=2, padding=1)
    assert_close(Reciprocal()(literal), Reciprocal()(BoxMean()(mask)) / 8)


def test_unlearned_maps_give_partial_convolution():  # Eqs. 1, 2 and 4 by hand
    torch.manual_seed(0)
    conv, mask = nn.Conv2d(1, 1, 4, stride=2, padding=1, bias=False), random_mask()
    x = torch.rand(2, 1, 48, 64) * mask
    (attention,) = unlearned_maps([1])(mask, None)
    patch, seen = (nn.functional.unfold(t, 4, stride=2, padding=1) for t in (x, mask))
    by_hand = (conv.weight.view(1, 16, 1) * patch).sum(1) * 16 / seen.sum(1)
    assert_close((conv(x) * attention).flatten(1), by_hand.nan_to_num(0.0))


def test_partial_conv_is_a_special_case():
    """Sec. 3.1: with k = 1/9 (3x3), f_A and f_M the maps equal two layers of partial convolution without bias."""
    torch.manual_seed(0)
    mask = random_mask()
    mask[0, :, :24, :24] = 0  # remains a hole after two layers
    k = nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False)
    nn.init.constant_(k.weight, 1 / 9)
    x = features = torch.rand(2, 3, 48, 64)
    m = updated = mask
    x = x * mask  # 0 in the hole, as in the network
    for layer in (PartialConv2d(3, 8, 3, stride=2), PartialConv2d(8, 4, 3, stride=2)):
        features, updated = layer([features], [updated])
        convolved = k(m)
        x, m = layer.conv(x) * Reciprocal()(convolved), binary(convolved)
        assert_close(x, features, atol=1e-5, rtol=1e-5)
        assert torch.equal(m, updated)
        assert (m == 0).any()
    with_alpha_0 = power_relu(k(mask), alpha=0.0)
    assert not torch.equal(with_alpha_0, binary(k(mask)))  # 0 ** 0 is 1: alpha = 0 fills every hole at once
    assert (with_alpha_0 == 1).all()
