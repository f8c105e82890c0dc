import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from src.networks.layers.coarse_to_fine import ConvBlock, zero_pad
from src.networks.layers.global_attention import (
    ConvolutionInstead,
    GlobalAttention,
    GlobalScores,
    MaskedAttention,
    multiply_hole_keys,
    released_global_attention,
    resize_mask,
)
from src.networks.reference.mpga_gla import FORMS
from tests.allocation import Largest

printed_global_attention = partial(GlobalAttention, prune=multiply_hole_keys)
CHANNELS, HEIGHT, WIDTH = 3, 4, 5


def make_inputs(scale=2.0, count=2):
    """Return features and a mask of four times the size, different for each sample."""
    generator = torch.Generator().manual_seed(1)
    features = scale * torch.randn(count, CHANNELS, HEIGHT, WIDTH, generator=generator)
    return features, (torch.rand(count, 1, 4 * HEIGHT, 4 * WIDTH, generator=generator) > 0.4).float()


def build(make=GlobalAttention, channels=CHANNELS) -> MaskedAttention:
    torch.manual_seed(0)
    return make(channels)


def conv_1x1(conv: nn.Conv2d, pixel: list[float]) -> list[float]:
    weight, bias = conv.weight[:, :, 0, 0].tolist(), conv.bias.tolist()
    return [
        b + sum(w * p for w, p in zip(row, pixel, strict=True)) for row, b in zip(weight, bias, strict=True)
    ]  # fmt: skip


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    total = sum(math.exp(v - top) for v in values)
    return [math.exp(v - top) / total for v in values]


RHO_M = {  # of the correlation of a query and a key, and of whether each of the two is known
    "excluded": lambda rho, query, key: rho if key else -math.inf,  # what Eq. 2 is for
    "printed": lambda rho, query, key: rho * key,  # Eq. 2
    "released": lambda rho, query, key: rho * (1 - query),
}
MADE = {"excluded": GlobalAttention, "printed": printed_global_attention, "released": released_global_attention}


def equations_1_to_5(layer, features, mask, reading: str):
    """Compute the paper's or the release's formulas by loops; features (B, C, h, w), mask (B, 1, 4 h, 4 w)."""
    released = reading == "released"
    out, all_scores = features.clone(), []
    places = [(y, x) for y in range(features.shape[2]) for x in range(features.shape[3])]
    for b in range(len(features)):
        pixels = [features[b, :, y, x].tolist() for y, x in places]
        known = [mask[b, 0, 4 * y, 4 * x].item() for y, x in places]  # nearest
        query, key, value = ([conv_1x1(c, p) for p in pixels] for c in (layer.query, layer.key, layer.value))
        for i, (y, x) in enumerate(places):
            rho = [sum(q * k for q, k in zip(query[i], key[j], strict=True)) for j in range(len(places))]  # Eq. 1
            pruned = [RHO_M[reading](r, known[i], known[j]) for j, r in enumerate(rho)]  # Eq. 2
            kappa = softmax(pruned)  # Eq. 3
            all_scores.append(kappa)
            for c in range(features.shape[1]):
                psi_p = sum(kappa[j] * value[j][c] for j in range(len(places)))  # Eq. 4
                psi = pixels[i][c]
                m = 1 - known[i] if released else known[i]
                out[b, c, y, x] = m * psi + (1 - m) * psi_p  # Eq. 5
    return out, torch.tensor(all_scores).reshape(len(features), len(places), *features.shape[2:])


@pytest.mark.parametrize("reading", MADE)
def test_matches_equations_by_loops(reading):
    layer, (features, mask) = build(MADE[reading]), make_inputs()
    scores = []
    layer.score_layers()["global"].register_forward_hook(lambda module, args, output: scores.append(output))
    with torch.no_grad():
        out = layer(features, mask)
        by_hand, scores_by_hand = equations_1_to_5(layer, features, mask, reading)
    assert_close(out, by_hand, atol=1e-4, rtol=1e-4)
    assert_close(scores[0], scores_by_hand, atol=1e-5, rtol=1e-4)
    assert (out - features).abs().max() > 0.1


ALL = pytest.mark.parametrize("make", MADE.values(), ids=MADE)


def masks(known):
    """Return masks as in `make_inputs`, constant masks, or one of each kind."""
    _, mask = make_inputs(count=4)
    if known == "each":
        mask[0], mask[1], mask[2, :, :13] = 0, 1, 0
    return mask if known in ("some", "each") else torch.full_like(mask, known)


def with_gradients(layer, features, mask):
    features = features.clone().requires_grad_()
    out = layer(features, mask)
    weighted = (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum()  # all weights differ
    return out, *torch.autograd.grad(weighted, [features, *layer.parameters()])


@pytest.mark.parametrize("known", ["some", "each", 0.0, 1.0])
@pytest.mark.parametrize("compiling", [False, True])
@ALL
def test_output_and_gradients_match_the_literal_form(make, known, compiling, monkeypatch):
    layer, (features, _) = build(make), make_inputs(count=4)
    mask, literal = masks(known), FORMS[GlobalAttention](layer)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    for ours, theirs in zip(
        with_gradients(layer, features, mask), with_gradients(literal, features, mask), strict=True
    ):
        assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@ALL
def test_no_tensor_grows_with_the_square_of_the_features(make):
    layer, features = build(make), torch.randn(2, CHANNELS, 24, 32).requires_grad_()
    mask = torch.ones(2, 1, 24, 32)
    mask[..., 4:20, 4:26] = 0
    pairs = 2 * (24 * 32) ** 2
    with Largest() as largest:
        layer(features, mask).sum().backward()
    assert largest.numel < pairs / 20
    with Largest() as largest:
        FORMS[GlobalAttention](layer)(features, mask)
    assert largest.numel == pairs


def test_only_hole_queries_and_known_keys_are_multiplied(monkeypatch):
    layer, (features, _), mask = build(), make_inputs(count=2), torch.ones(2, 1, HEIGHT, WIDTH)
    mask[0, ..., :2], mask[1, ..., :3] = 0, 0  # 8 and 12 of 20
    shapes, attend = [], nn.functional.scaled_dot_product_attention

    def record(query, key, *args, **kwargs):
        shapes.append((query.shape, key.shape))
        return attend(query, key, *args, **kwargs)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", record)
    layer(features, mask)
    assert shapes == [((2, 1, 12, CHANNELS), (2, 1, 12, CHANNELS))]


def test_scores_are_computed_only_when_recorded(monkeypatch):
    layer, (features, mask), calls = build(), make_inputs(), []
    monkeypatch.setattr(layer.scores, "forward", lambda *args: calls.append(args))
    layer(features, mask)
    assert not calls
    layer.scores.register_forward_hook(lambda *args: None)
    layer(features, mask)
    assert len(calls) == 1


def test_querys_scores_sum_to_one():
    scores = GlobalScores()(torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5), torch.ones(2, 1, 4, 5))
    assert scores.shape == (2, 20, 4, 5)
    assert_close(scores.sum((2, 3)), torch.ones(2, 20))


@pytest.mark.parametrize(
    ("prune", "known"), [({}, 1.0), ({"prune": multiply_hole_keys}, math.exp(3) / (math.exp(3) + 1))]
)
def test_hole_key_has_no_weight_except_as_printed(prune, known):
    """Two keys, correlations 3 and 5, the second in the hole: 1 and 0; as printed e^3 / (e^3 + 1)."""
    query, key = torch.tensor([1.0, 1.0]).view(1, 1, 1, 2), torch.tensor([3.0, 5.0]).view(1, 1, 1, 2)
    scores = GlobalScores(**prune)(query, key, torch.tensor([1.0, 0.0]).view(1, 1, 1, 2))
    assert_close(scores, torch.tensor([known, 1 - known]).expand(1, 2, 2).view(1, 2, 1, 2))


def test_hole_features_do_not_depend_on_hole_keys_and_values():
    """Only the query of a hole feature counts; as printed, the other hole keys count, too."""
    layer, (features, _), mask = build(), make_inputs(), torch.ones(2, 1, HEIGHT, WIDTH)
    mask[..., 2:] = 0
    other = features.clone()
    other[..., 3:] *= -2  # not the column of the query
    with torch.no_grad():
        assert_close(layer(features, mask)[..., 2], layer(other, mask)[..., 2])
        printed = build(printed_global_attention)
        assert not torch.allclose(printed(features, mask)[..., 2], printed(other, mask)[..., 2], atol=1e-2)


@pytest.mark.parametrize("make", [GlobalAttention, printed_global_attention])
def test_all_known_changes_nothing_and_all_hole_takes_the_mean(make):
    layer, (features, _) = build(make), make_inputs()
    with torch.no_grad():
        assert torch.equal(layer(features, torch.ones(2, 1, 16, 20)), features)
        mean = layer.value(features).mean((2, 3), keepdim=True).expand_as(features)
        assert_close(layer(features, torch.zeros(2, 1, 16, 20)), mean)


def test_release_replaces_known_features_by_the_mean():
    layer, (features, mask) = build(released_global_attention), make_inputs()
    with torch.no_grad():
        mean = layer.value(features).mean((2, 3), keepdim=True)
        expected = torch.where(resize_mask(mask, features) > 0, mean, features)
        assert_close(layer(features, mask), expected)


def test_mask_is_resized_to_the_nearest_pixel():
    mask = torch.zeros(1, 1, 8, 12)
    mask[..., 4, 8] = 1
    mask[..., 1:4, 1:4] = 1  # most of the first cell, but not its first pixel
    expected = torch.zeros(1, 1, 2, 3)
    expected[..., 1, 2] = 1
    assert torch.equal(resize_mask(mask, torch.zeros(1, 7, 2, 3)), expected)


@ALL
def test_batch_equals_its_samples_one_by_one(make):
    layer, (features, mask) = build(make), make_inputs(count=3)
    with torch.no_grad():
        singles = [layer(features[i : i + 1], mask[i : i + 1]) for i in range(3)]
        assert_close(layer(features, mask), torch.cat(singles), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@ALL
def test_scores_are_computed_in_float32_under_autocast(make, dtype):
    layer, (features, mask) = build(make), make_inputs(scale=8.0)
    features = features.to(dtype)
    with torch.no_grad():
        expected = layer(features.float(), mask)
        with torch.autocast("cpu", dtype):
            out = layer(features, mask.to(dtype))
    assert out.dtype == dtype
    assert_close(out, expected.to(dtype), atol=0, rtol=0)


@pytest.mark.parametrize("known", [0.0, 1.0, None], ids=["all hole", "all known", "some known"])
@ALL
def test_gradients_are_finite_even_of_strong_features(make, known):
    layer, (features, mask) = build(make), make_inputs(scale=100.0)
    mask = mask if known is None else torch.full_like(mask, known)
    features.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(features, mask)
    out.square().mean().backward()
    assert out.isfinite().all()
    assert all(t.grad.isfinite().all() for t in (features, *layer.parameters()))


def test_every_filter_has_gradient():
    layer, (features, mask) = build(), make_inputs(scale=0.5)
    layer(features, mask).square().sum().backward()
    assert all((p.grad != 0).any() for p in layer.parameters())


def test_ablation_is_a_convolution_that_ignores_the_mask():
    layer, (features, mask) = (
        build(partial(ConvolutionInstead, block=partial(ConvBlock, pad=zero_pad, activation=nn.ReLU))),
        make_inputs(),
    )
    with torch.no_grad():
        convolved = nn.functional.conv2d(features, layer.convolve.conv.weight, layer.convolve.conv.bias, padding=1)
        assert_close(layer(features, mask), convolved.relu())
        assert torch.equal(layer(features, mask), layer(features, 1 - mask))
    assert sum(p.numel() for p in layer.parameters()) == 9 * CHANNELS**2 + CHANNELS
    assert layer.score_layers() == {}
