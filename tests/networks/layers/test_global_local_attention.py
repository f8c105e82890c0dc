import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from src.networks.layers.coarse_to_fine import zero_pad
from src.networks.layers.global_attention import MaskedAttention, multiply_hole_keys, resize_mask
from src.networks.layers.global_local_attention import (
    CosineScores,
    GlobalLocalAttention,
    PatchAttention,
    ReleasedGlobalLocalAttention,
)
from src.networks.layers.patch_rebuilding import count_overlaps, extract_patches
from src.networks.reference.mpga_gla import FORMS
from tests.allocation import Largest

CHANNELS, HEIGHT, WIDTH = 3, 4, 5
TAPS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
PLACES = [(y, x) for y in range(HEIGHT) for x in range(WIDTH)]
Printed = partial(GlobalLocalAttention, scale=1.0, prune=multiply_hole_keys)
MADE = {
    "default": GlobalLocalAttention,
    "printed": Printed,
    "release": ReleasedGlobalLocalAttention,
}
ALL = pytest.mark.parametrize("make", MADE.values(), ids=MADE)


def make_inputs(scale=1.0, count=2):
    """Return features and a mask of four times the size, with different holes."""
    features = scale * torch.randn(count, CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(count, 1, 4 * HEIGHT, 4 * WIDTH)
    mask[0, :, :4, :6] = 0
    mask[1:, :, 8:, 12:] = 0
    return features, mask


def build(make=GlobalLocalAttention) -> MaskedAttention:
    torch.manual_seed(0)
    return make(CHANNELS)


def scores_of(layer: MaskedAttention, features: Tensor, mask: Tensor, name: str = "local") -> Tensor:
    recorded = []
    handle = layer.score_layers()[name].register_forward_hook(lambda module, args, output: recorded.append(output))
    layer(features, mask)
    handle.remove()
    return recorded[0]


def linear(conv, columns: Tensor) -> Tensor:
    """Apply a 1x1 convolution to columns (C, n)."""
    return conv.weight[:, :, 0, 0] @ columns + conv.bias[:, None]


def patch(x: Tensor, y0: int, x0: int, dilation: int) -> Tensor:
    """Return the patch of x (C, h, w) around a position, (C, 9); 0 outside."""
    columns = []
    for dy, dx in TAPS:
        row, column = y0 + dilation * dy, x0 + dilation * dx
        inside = 0 <= row < x.shape[1] and 0 <= column < x.shape[2]
        columns.append(x[:, row, column] if inside else torch.zeros(len(x)))
    return torch.stack(columns, dim=1)


def pruned_correlations(rho: Tensor, known: Tensor, *, printed: bool) -> Tensor:
    """Prune as printed in Eqs. 2 and 7, or exclude hole keys; rho (..., keys), known (keys)."""
    if printed or not known.any():
        return rho * known
    return rho.masked_fill(known == 0, -math.inf)


def equations_5_to_12(
    layer: GlobalLocalAttention, features: Tensor, known: Tensor, dilation: int, *, printed: bool, scale: float
) -> Tensor:
    """Compute the paper's formulas for one sample, position by position; features (C, h, w), known (1, h, w)."""
    w1, w2, w3 = layer.whole.query, layer.whole.key, layer.whole.value
    background = known * features
    # Eq. 5
    psi, m = features.flatten(1), known.flatten(1)
    completed = features.clone()
    for i, (y, x) in enumerate(PLACES):
        rho = torch.stack([linear(w1, psi)[:, i] @ linear(w2, psi)[:, j] for j in range(len(PLACES))])
        psi_p = linear(w3, psi) @ pruned_correlations(rho, m[0], printed=printed).softmax(0)
        completed[:, y, x] = m[0, i] * psi[:, i] + (1 - m[0, i]) * psi_p
    pruned = []
    for y, x in PLACES:
        p_f, p_b, p_m = (patch(t, y, x, dilation) for t in (features, background, known))
        rho = linear(w1, p_f).T @ linear(w2, p_b)  # Eq. 6: 9 x 9
        kappa = pruned_correlations(rho, p_m[0], printed=printed).softmax(dim=1)  # Eqs. 7, 8: column j is key j
        p_psi = linear(w3, p_f) @ kappa.T  # Eq. 9
        pruned.append(p_m * p_f + (1 - p_m) * p_psi)  # Eq. 10
    out, count = torch.zeros_like(features), torch.zeros(1, HEIGHT, WIDTH)
    for y, x in PLACES:
        p_out = patch(completed, y, x, dilation)
        s = torch.stack([(p * p_out).sum() / (p.norm() * p_out.norm()) for p in pruned])  # Eq. 11
        kappa_s = (scale * s).softmax(0)  # Eq. 12
        mixed = sum(k * p for k, p in zip(kappa_s, pruned, strict=True))
        for tap, (dy, dx) in enumerate(TAPS):
            row, column = y + dilation * dy, x + dilation * dx
            if 0 <= row < HEIGHT and 0 <= column < WIDTH:
                out[:, row, column] += mixed[:, tap]
                count[:, row, column] += 1
    return out / count


def released(layer: ReleasedGlobalLocalAttention, features: Tensor, known: Tensor) -> Tensor:
    """Compute the release for one sample, patch by patch; features (C, h, w), known (1, h, w)."""
    background, n = known * features, len(PLACES)
    psi, psi_b, hole = features.flatten(1), background.flatten(1), 1 - known.flatten(1)
    rho = linear(layer.whole.query, psi).T @ linear(layer.whole.key, psi_b) * hole.T
    attended = linear(layer.whole.value, psi) @ rho.softmax(1).T
    completed = (psi * hole + attended * (1 - hole)).view_as(features)
    filters, valid = [], []
    for y, x in PLACES:
        p, p_hole = patch(background, y, x, 1) + 1e-7, patch(1 - known, y, x, 1)
        correlation = linear(layer.query, p) @ linear(layer.key, p).T  # C x C
        kappa = (correlation @ p_hole.expand(CHANNELS, 9)).softmax(1)
        p = p * p_hole + kappa * linear(layer.value, p) * (1 - p_hole)
        filters.append(p / p.norm())
        valid.append(float(p_hole.sum() == 0))
    similarity = torch.stack([(f * patch(completed, y, x, 1)).sum() for f in filters for y, x in PLACES])
    similarity = similarity.view(n, HEIGHT, WIDTH)
    out = torch.zeros_like(features)
    for y, x in PLACES:
        summed = torch.stack([patch(similarity[j : j + 1], y, x, 1).sum() * valid[j] for j in range(n)])
        kappa = summed.softmax(0) * torch.tensor(valid)
        mixed = sum(k * f for k, f in zip(kappa, filters, strict=True))
        for tap, (dy, dx) in enumerate(TAPS):
            if 0 <= y + dy < HEIGHT and 0 <= x + dx < WIDTH:
                out[:, y + dy, x + dx] += mixed[:, tap]
    return out


def gradients(layer: MaskedAttention, out: Tensor) -> list[Tensor]:
    weighted = out * torch.linspace(-1, 1, out.numel()).view_as(out)  # all weights differ
    return list(torch.autograd.grad(weighted.sum(), list(layer.parameters())))


@pytest.mark.parametrize("printed", [False, True])
@pytest.mark.parametrize("dilation", [1, 2])
def test_matches_equations_5_to_12_position_by_position(dilation, printed):
    torch.manual_seed(0)
    make, scale = (Printed, 1) if printed else (partial(GlobalLocalAttention, scale=7.0), 7)
    layer, (features, mask) = make(CHANNELS, dilation), make_inputs()
    known, out = resize_mask(mask, features), layer(features, mask)
    by_hand = torch.stack(
        [equations_5_to_12(layer, f, m, dilation, printed=printed, scale=scale)
         for f, m in zip(features, known, strict=True)]
    )  # fmt: skip
    assert_close(out, by_hand, atol=1e-5, rtol=1e-4)
    assert_close(gradients(layer, out), gradients(layer, by_hand), atol=1e-4, rtol=1e-3)


def with_gradients(layer: MaskedAttention, features: Tensor, mask: Tensor) -> list[Tensor]:
    features = features.clone().requires_grad_()
    out = layer(features, mask)
    weighted = (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum()
    return [out, *torch.autograd.grad(weighted, [features, *layer.parameters()])]


def make_large_inputs(count=4, height=11, width=14):
    """Return features and a mask of their size, with another kind of hole in each sample."""
    generator = torch.Generator().manual_seed(1)
    features, mask = (
        torch.randn(count, CHANNELS, height, width, generator=generator),
        torch.ones(count, 1, height, width),
    )
    mask[0], mask[2:, :, 3:7, 5:] = 0, 0
    mask[3:] *= torch.rand(count - 3, 1, height, width, generator=generator) > 0.3
    return features, mask


@pytest.mark.parametrize("compiling", [False, True])
@ALL
def test_output_and_gradients_match_the_literal_form(make, compiling, monkeypatch):
    layer, (features, mask) = build(make), make_large_inputs()
    literal = FORMS[type(layer)](layer)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    for ours, theirs in zip(
        with_gradients(layer, features, mask), with_gradients(literal, features, mask), strict=True
    ):
        assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("weak", "tolerance"), [(1.0, 1e-4), (1e-2, 5e-3)])
def test_small_features_next_to_large_ones_stay_accurate(weak, tolerance):
    """Winograd's products round with the strongest feature of a tile; the literal form rounds with each."""
    features = torch.randn(1, CHANNELS, 24, 24, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(1, 1, 96, 96)
    features[..., :12] *= weak
    features[..., 12:] *= 100
    mask[..., 40:56, 40:56] = 0
    layer = build()
    with torch.no_grad():
        fast, literal = layer(features, mask), FORMS[GlobalLocalAttention](layer)(features, mask)
    assert_close(fast, literal, atol=tolerance * literal.abs().max().item(), rtol=0)


@pytest.mark.parametrize("tiles", [1, 3, 7, 16, 33, 50])  # the last three: one sample, two, and three and one
def test_chunks_match_the_whole(tiles):
    """16 tiles of 4 x 4 positions in each of 4 samples; a tile has 36 * 154 values."""
    whole, (features, mask) = build(), make_large_inputs()
    chunked = build()
    chunked.chunk_mib = tiles * 36 * 154 * 4 / 2**20
    for ours, theirs in zip(
        with_gradients(chunked, features, mask), with_gradients(whole, features, mask), strict=True
    ):
        assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        assert_close(chunked(features, mask), whole(features, mask), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_chunk_bounds_memory(training):
    layer, (features, mask) = build(), make_large_inputs(4, 40, 48)
    layer.chunk_mib, pairs = 3, 4 * (40 * 48) ** 2
    with Largest() as largest, torch.set_grad_enabled(training):
        out = layer(features.requires_grad_(), mask)
        if training:
            out.sum().backward()
    assert largest.numel <= max(layer.chunk_mib * 2**20 / 4, 4 * 40 * 48 * 36 * CHANNELS) < pairs / 10


def test_chunk_scores_are_not_saved_for_backward():
    layer, (features, mask), kept = build(), make_large_inputs(3, 40, 48), {}
    layer.chunk_mib = 3
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.setdefault(t.data_ptr(), t), lambda t: t):
        layer(features.requires_grad_(), mask)
    assert sum(t.numel() for t in kept.values()) < 3 * (40 * 48) ** 2 / 2


def test_released_layer_has_linear_memory():
    layer, (features, mask) = build(ReleasedGlobalLocalAttention), make_large_inputs(4, 40, 48)
    with Largest() as largest:
        layer(features.requires_grad_(), mask).sum().backward()
    assert largest.numel < 4 * (40 * 48) ** 2 / 10


@ALL
def test_scores_are_computed_only_when_recorded_and_change_nothing(make, monkeypatch):
    layer, (features, mask) = build(make), make_large_inputs()
    expected = with_gradients(layer, features, mask)
    with monkeypatch.context() as patch:
        for scores in layer.score_layers().values():
            patch.setattr(scores, "forward", None)
        layer(features, mask)
    for scores in layer.score_layers().values():
        scores.register_forward_hook(lambda module, args, output: None)
    for ours, theirs in zip(with_gradients(layer, features, mask), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_patches_are_dilated_by_two():  # Table A2
    layer, (features, mask) = build(), make_inputs()
    with torch.no_grad():
        known, scale = resize_mask(mask, features)[0], layer.scores.scale
        by_hand = equations_5_to_12(layer, features[0], known, 2, printed=False, scale=scale)
        assert_close(layer(features, mask)[0], by_hand, atol=1e-5, rtol=1e-4)


def test_matches_release_patch_by_patch():
    layer, (features, mask) = build(ReleasedGlobalLocalAttention), make_inputs()
    with torch.no_grad():
        known = resize_mask(mask, features)
        by_hand = [released(layer, f, m) for f, m in zip(features, known, strict=True)]
        assert_close(layer(features, mask), torch.stack(by_hand), atol=1e-5, rtol=1e-4)


def test_releases_global_scores_have_the_background_as_keys():
    """Weights differ only in the hole, where they are unused, so they are tested here, not in the output."""
    layer, (features, mask) = build(ReleasedGlobalLocalAttention), make_inputs()
    with torch.no_grad():
        scores, known = scores_of(layer, features, mask, "global"), resize_mask(mask, features)
        query, key = layer.whole.query(features).flatten(2), layer.whole.key(known * features).flatten(2)
        by_hand = (query.transpose(1, 2) @ key * (1 - known.flatten(1))[:, :, None]).softmax(2)
    assert_close(scores.flatten(2), by_hand)
    assert scores.flatten(2).std(2).max() > 0.01


def test_releases_pruned_patches_have_channel_correlations():
    """Patches that touch the hole are unused, so they are tested here, not in the output; C x C products."""
    layer, (features, mask) = build(ReleasedGlobalLocalAttention), make_inputs()
    with torch.no_grad():
        known = resize_mask(mask, features)
        background, hole = zero_pad(known * features, 1), extract_patches(zero_pad(1 - known, 1), 1)
        p, q, k, v = (
            extract_patches(x, 1) for x in (background, *(f(background) for f in (layer.query, layer.key, layer.value)))
        )
        kappa = (q @ k.transpose(2, 3) @ hole.expand_as(q)).softmax(-1)
        assert_close(layer._pruned_patches(background, hole), hole * p + (1 - hole) * kappa * v)


def test_extracting_and_folding_patches_restores_the_map():
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    for dilation in (1, 2):
        patches = extract_patches(zero_pad(x, dilation), dilation).flatten(2)
        summed = F.fold(patches.transpose(1, 2), (4, 5), 3, dilation, padding=dilation)
        assert_close(summed / count_overlaps(x, dilation), x)


def test_overlaps_by_hand():
    x = torch.zeros(1, 2, 3, 4)
    assert count_overlaps(x, 1).tolist() == [[[[4, 6, 6, 4], [6, 9, 9, 6], [4, 6, 6, 4]]]]
    # Dilation 2: in a row of 3 positions, the outer two see each other, the middle one only itself.
    assert count_overlaps(x, 2).tolist() == [[[[4, 4, 4, 4], [2, 2, 2, 2], [4, 4, 4, 4]]]]


@pytest.mark.parametrize("prune", [{}, {"prune": multiply_hole_keys}])
def test_patch_in_hole_gets_mean_of_values(prune):
    q, k, v = torch.randn(3, 2, 6, 3, 9, generator=torch.Generator().manual_seed(1))
    attended = PatchAttention(**prune)(q, k, v, torch.zeros(2, 6, 1, 9))
    assert_close(attended, v.mean(3, keepdim=True).expand_as(v))


def test_patch_uses_only_known_features():
    q, k, v = torch.randn(3, 2, 6, 3, 9, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(2, 6, 1, 9)
    mask[..., 4] = 1
    assert_close(PatchAttention()(q, k, v, mask), v[..., 4:5].expand_as(v))
    assert not torch.allclose(PatchAttention(multiply_hole_keys)(q, k, v, mask), v[..., 4:5].expand_as(v), atol=0.1)


def test_cosines_by_hand():
    """At the first position one patch is parallel and one opposite, at the second both are perpendicular."""
    pruned, completed = torch.zeros(1, 2, 9), torch.zeros(1, 2, 9)
    pruned[0, :, 0] = torch.tensor([2.0, -5.0])
    completed[0, 0, 0], completed[0, 1, 3] = 3.0, 7.0
    for scale in (1.0, 3.0):
        scores = CosineScores(scale)(pruned, completed, (1, 2))
        assert_close(scores[0, :, 0, 0], torch.tensor([scale, -scale]).softmax(0))
        assert_close(scores[0, :, 0, 1], torch.tensor([0.5, 0.5]))


def test_scale_sharpens_the_printed_softmax():
    """1 / sum of squared weights is the effective number of patches of a position."""
    features, mask = (x[2:] for x in make_large_inputs())  # without the samples that are all hole or all known
    used = {}
    for name in ("default", "printed"):
        with torch.no_grad():
            scores = scores_of(build(MADE[name]), features, mask)
        used[name] = (1 / scores.square().sum(1)).mean().item()
    assert used["printed"] > 0.8 * 11 * 14
    assert used["default"] < 0.1 * 11 * 14


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_fast_path_is_exact_at_any_scale(scale):
    torch.manual_seed(0)
    layer, (features, mask) = GlobalLocalAttention(CHANNELS, scale=scale), make_large_inputs()
    literal = FORMS[GlobalLocalAttention](layer)
    for ours, theirs in zip(
        with_gradients(layer, features, mask), with_gradients(literal, features, mask), strict=True
    ):
        assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


@ALL
def test_scores_at_a_place_sum_to_one_over_the_patches_in_use(make):
    layer, (features, mask) = build(make), make_inputs()
    with torch.no_grad():
        scores = scores_of(layer, features, mask)
    hole = 1 - resize_mask(mask, features)
    touched = F.max_pool2d(hole, 3, 1, 1).flatten(1)
    assert scores.shape == (2, 20, 4, 5)
    if make is not ReleasedGlobalLocalAttention:
        assert_close(scores.sum(1), torch.ones(2, 4, 5))
    else:  # invalid patches take part in the softmax with 0 and are then dropped
        assert (scores[touched > 0] == 0).all()
        assert (scores[touched == 0] > 0).all()
        assert (scores.sum(1) < 1).all()


def test_released_patch_queries_and_keys_have_no_effect():
    layer, (features, mask) = build(ReleasedGlobalLocalAttention), make_inputs()
    layer(features, mask).square().sum().backward()
    silent = {name for name, p in layer.named_parameters() if not (p.grad != 0).any()}
    convs = ("query", "key", "whole.query", "whole.key")
    assert silent == {f"{conv}.{leaf}" for conv in convs for leaf in ("weight", "bias")}


def test_every_filter_has_gradient():
    layer, (features, mask) = build(), make_inputs()
    layer(features, mask).square().sum().backward()
    assert all((p.grad != 0).any() for p in layer.parameters())


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


@pytest.mark.parametrize("scale", [0.0, 100.0])
@pytest.mark.parametrize("known", [0.0, 1.0, None], ids=["all hole", "all known", "some known"])
@ALL
def test_output_and_gradients_are_finite(make, known, scale):
    layer, (features, mask) = build(make), make_inputs(scale=scale)
    mask = mask if known is None else torch.full_like(mask, known)
    features.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(features, mask)
    out.square().mean().backward()
    assert out.isfinite().all()
    assert all(t.grad.isfinite().all() for t in (features, *layer.parameters()))


@ALL
def test_single_position_is_supported(make):
    out = build(make)(torch.ones(1, CHANNELS, 1, 1), torch.ones(1, 1, 4, 4))
    assert out.shape == (1, CHANNELS, 1, 1)
    assert out.isfinite().all()
