"""Contextual attention, compared with loops that follow Sec. 4.1 of the paper."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from src.networks.layers.attention_scores import AttentionScores, attention_offsets, known_patches, propagate
from src.networks.layers.coarse_to_fine import mirror_pad, zero_pad
from src.networks.layers.contextual_attention import ContextualAttention, known_cells
from src.networks.layers.released_contextual_attention import ReleasedContextualAttention
from src.networks.reference.contextual_attention import LiteralContextualAttention

AROUND = (-1, 0, 1)


def features(height, width, count=2, channels=3, seed=0):
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(seed))


def two_masks(height, width):
    """Return masks with different holes."""
    known = torch.ones(2, 1, height, width)
    known[0, :, :2, : width // 2] = 0
    known[1, :, height // 2 :, -3:] = 0
    return known


def cell(x, row, column):
    """Return x (C, h, w) at a position, mirrored outside."""
    row, column = (
        i if 0 <= i < side else -i if i < 0 else 2 * (side - 1) - i
        for i, side in ((row, x.shape[-2]), (column, x.shape[-1]))
    )
    return x[:, row, column]


def cells(height, width, stride=1):
    return list(itertools.product(range(0, height, stride), range(0, width, stride)))


def slow_scores(foreground, background, known, scale, reach, stride):
    """Return s* and the renormalised s_hat of one sample as dictionaries, ((y', x'), (y, x)) -> weight."""

    def patch(x, center):
        return torch.cat([cell(x, center[0] + i, center[1] + j) for i in AROUND for j in AROUND])

    def is_known(center):
        return all(
            known[0, center[0] + i, center[1] + j] == 1
            for i in AROUND
            for j in AROUND
            if 0 <= center[0] + i < known.shape[1] and 0 <= center[1] + j < known.shape[2]
        )

    front, back = cells(*foreground.shape[1:]), cells(*background.shape[1:], stride)
    borrowable = [b for b in back if is_known(b)]
    softmaxed, attention = {}, {}
    for f in front:
        exponentials = {}
        for b in borrowable:
            one, other = patch(foreground, f), patch(background, b)
            exponentials[b] = math.exp(scale * float(one @ other / (one.norm() * other.norm())))
        for b in back:
            softmaxed[b, f] = exponentials.get(b, 0.0) / (sum(exponentials.values()) or 1.0)
    spread = softmaxed
    for axis in (1, 0):  # left-right, then top-down
        before, spread = spread, {}
        for b, f in softmaxed:
            spread[b, f] = 0.0
            for i in range(-reach, reach + 1):
                moved = [list(b), list(f)]
                moved[0][axis] += stride * i
                moved[1][axis] += stride * i
                spread[b, f] += before.get((tuple(moved[0]), tuple(moved[1])), 0.0)
    for f in front:
        total = sum(spread[b, f] for b in borrowable)
        for b in back:
            attention[b, f] = spread[b, f] / total if b in borrowable else 0.0
    return softmaxed, attention


def slow_attention(foreground, background, known, scale=50.0, reach=1, downscale=1, stride=1):
    """Compute the layer for one sample whose sizes are multiples of `downscale`."""
    small = [x[:, ::downscale, ::downscale] for x in (foreground, background)]
    cell_is_known = torch.stack([
        torch.stack([
            known[0, i * downscale : (i + 1) * downscale, j * downscale : (j + 1) * downscale].min()
            for j in range(small[1].shape[2])
        ])
        for i in range(small[1].shape[1])
    ])[None]  # fmt: skip
    _, attention = slow_scores(*small, cell_is_known, scale, reach, stride)
    # a pasted patch covers its cell and one more on each side, or half a cell if cells are several pixels wide
    margin = 1 if downscale == 1 else downscale // 2
    pasted, count = torch.zeros_like(foreground), torch.zeros(foreground.shape[1:])
    for f in cells(*small[0].shape[1:]):
        for i, j in itertools.product(range(-margin, downscale + margin), repeat=2):
            y, x = f[0] * downscale + i, f[1] * downscale + j
            if not (0 <= y < foreground.shape[1] and 0 <= x < foreground.shape[2]):
                continue
            count[y, x] += 1
            for b in cells(*small[1].shape[1:], stride):
                value = cell(background, b[0] * downscale + i, b[1] * downscale + j)
                pasted[:, y, x] += attention[b, f] * value
    return pasted / count


def as_tensor(weights, foreground, background, stride):
    front, back = cells(*foreground.shape[1:]), cells(*background.shape[1:], stride)
    return torch.tensor([[weights[b, f] for f in front] for b in back]).unflatten(1, foreground.shape[1:])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("reach", [0, 1, 2])
@pytest.mark.parametrize("sizes", [((4, 6), (4, 6)), ((3, 5), (6, 4))], ids=str)
def test_scores_match_paper_by_loops(sizes, reach, stride):
    foreground, background = features(*sizes[0]), features(*sizes[1], seed=1)
    known = two_masks(*sizes[1])
    attention = AttentionScores(10.0, reach, stride, mirror_pad)(foreground, background, known)
    for sample in zip(attention, foreground, background, known, strict=True):
        _, expected = slow_scores(*sample[1:], 10.0, reach, stride)
        assert_close(sample[0], as_tensor(expected, *sample[1:3], stride), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("downscale", "stride"), [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1)])
def test_layer_matches_paper_by_loops(downscale, stride):
    cell = min(downscale, 2)  # loops over pixels are slow
    foreground, background = features(4 * cell, 6 * cell), features(6 * cell, 4 * cell, seed=1)
    known = two_masks(6 * cell, 4 * cell)
    layer = ContextualAttention(3, downscale=downscale, background_stride=stride)
    out = layer(foreground, background, known)
    for sample in zip(out, foreground, background, known, strict=True):
        assert_close(sample[0], slow_attention(*sample[1:], downscale=downscale, stride=stride), atol=1e-5, rtol=1e-5)


def test_scores_of_patches_by_hand():
    """Features are constant, so every patch, mirrored ones too, is nine times the same vector."""
    along = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, 3, 4)
    across = torch.tensor([4.0, -3.0]).view(1, 2, 1, 1).expand(1, 2, 3, 4)
    known = torch.ones(1, 1, 3, 8)
    background = torch.cat([7 * along, across], -1)
    attention = AttentionScores(2.0, 0, 1, mirror_pad)(along, background, known).view(3, 8, 3, 4)
    parallel, orthogonal = attention[:, :3], attention[:, 5:]  # away from the seam, where patches are mixed
    assert_close(parallel / orthogonal, torch.full_like(parallel, math.exp(2.0)), atol=1e-4, rtol=1e-4)


def widened(weights, rows):
    """Pad weights (B, h, w, rows', columns') with rows of zeros above and below, as `propagate` requires."""
    zeros = weights.new_zeros(len(weights), rows, *weights.shape[2:])
    return torch.cat([zeros, weights, zeros], 1)


def test_propagation_is_diagonal_sum_with_zeros_outside():
    weights = torch.zeros(1, 2, 3, 2, 3)
    weights[0, 1, 0, 0, 2] = 1.0  # foreground (1, 0), background (0, 2): the row ends there, so the sum ends, too
    assert torch.equal(propagate(widened(weights, 1), 1), weights)
    weights = torch.zeros(1, 4, 4, 4, 4)
    weights[0, 2, 1, 1, 1] = 1.0
    propagated = propagate(widened(weights, 1), 1)
    for i, j in itertools.product(AROUND, repeat=2):
        assert propagated[0, 2 + i, 1 + j, 1 + i, 1 + j] == 1
    assert propagated.sum() == 9
    assert propagate(weights, 0).equal(weights)


def test_propagation_of_constant_weights_counts_neighbours():
    counts = propagate(widened(torch.ones(1, 3, 4, 3, 4), 1), 1)
    assert counts[0, 1, 2, 1, 1] == 9  # both away from every border
    assert counts[0, 1, 1, 0, 1] == 6  # the background row above does not exist
    assert counts[0, 0, 0, 0, 0] == 4
    assert counts[0, 2, 3, 0, 0] == 1  # one has no neighbours above and left, the other none below and right


@pytest.mark.parametrize(("stride", "downscale"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_weights_sum_to_one_and_are_zero_for_holes(stride, downscale):
    layer, x, known = ContextualAttention(3, downscale=downscale, background_stride=stride), features(12, 16), None
    known = torch.ones(2, 1, 12, 16)
    known[0, :, :5, :7] = 0
    known[1, :, 6, 9] = 0
    seen = []
    layer.scores.register_forward_hook(lambda module, args, output: seen.append(output))
    layer(x, x, known)
    (attention,) = seen
    valid = known_patches(known_cells(known, downscale), stride).flatten(1)
    assert attention.shape == (2, valid.shape[1], 12 // downscale, 16 // downscale)
    assert attention.min() >= 0
    assert_close(attention.sum(1), torch.ones(2, 12 // downscale, 16 // downscale))
    assert 0 < valid.sum() < valid.numel()
    for weights, usable in zip(attention, valid, strict=True):
        assert (weights[~usable] == 0).all()
        assert (weights[usable].amax((1, 2)) > 0).all()


def test_softmax_before_propagation_gives_holes_no_weight():
    """Without propagation the weights are the softmax itself, by hand for two valid patches."""
    x = features(3, 8, count=1)
    known = torch.ones(1, 1, 3, 8)
    known[..., 2:6] = 0  # only columns 0 and 7 have fully known patches
    attention = AttentionScores(10.0, 0, 1, mirror_pad)(x, x, known).unflatten(1, (3, 8))
    unit = torch.nn.functional.normalize(torch.nn.functional.unfold(mirror_pad(x, 1), 3), dim=1).unflatten(2, (3, 8))
    columns = 10 * torch.einsum("bnij,bnkl->bijkl", unit[..., [0, 7]], unit)
    by_hand = columns.exp() / columns.exp().sum((1, 2), keepdim=True)
    assert_close(attention[:, :, [0, 7]], by_hand)
    assert (attention[:, :, 1:7] == 0).all()


def test_cell_is_known_if_all_its_pixels_are():
    mask = torch.ones(1, 1, 4, 6)
    mask[..., 1, 3] = 0  # nearest neighbours would use (0, 2) and miss it
    assert torch.equal(known_cells(mask, 2), torch.tensor([[[[1.0, 0, 1], [1, 1, 1]]]]))


def test_patch_is_known_if_all_its_cells_are_and_padding_is_known():
    known = torch.ones(1, 1, 4, 6)
    known[..., 1, 4] = 0
    expected = torch.tensor([[1, 1, 1, 0, 0, 0]] * 3 + [[1] * 6]).bool()
    assert torch.equal(known_patches(known, 1)[0, 0], expected)
    assert torch.equal(known_patches(known, 2)[0, 0], expected[::2, ::2])


def test_pastes_unchanged_patch():
    """A sharp softmax and a foreground equal to the background: every known feature is copied from its position."""
    x = features(8, 12)
    for downscale in (1, 2):
        layer = ContextualAttention(3, scale=1e4, reach=0, downscale=downscale)
        assert_close(layer(x, x, torch.ones(2, 1, 8, 12)), x, atol=1e-5, rtol=0)


def test_finds_shifted_image():
    background = features(8, 16)
    foreground = background[..., 2:6, 4:12]
    layer = ContextualAttention(3, scale=1e4, reach=0, downscale=1)
    out = layer(foreground, background, torch.ones(2, 1, 8, 16))
    assert_close(out[..., 2:-2, 2:-2], foreground[..., 2:-2, 2:-2], atol=1e-5, rtol=0)
    attention = layer.scores(foreground, background, torch.ones(2, 1, 8, 16))
    offsets = attention_offsets(attention, (8, 16))
    assert offsets.shape == (2, 2, 4, 8)
    assert (offsets[:, 0, 1:-1, 1:-1] == 2).all()
    assert (offsets[:, 1, 1:-1, 1:-1] == 4).all()


def test_offsets_by_hand():
    attention = torch.zeros(1, 6, 2, 2)  # a background of 2 x 3
    attention[0, 5, 0, 1] = 1.0  # (0, 1) copies (1, 2)
    attention[0, 0, 1, 1] = 0.6  # (1, 1) mostly copies (0, 0)
    attention[0, 4, 1, 1] = 0.4
    expected = torch.tensor([[[[0.0, 1.0], [0.0, -1.0]], [[0.0, 1.0], [0.0, -1.0]]]])
    assert torch.equal(attention_offsets(attention, (2, 3)), expected)
    strided = attention_offsets(attention, (2, 3), background_stride=2)
    assert strided[0, :, 0, 1].tolist() == [2.0, 3.0]
    with pytest.raises(ValueError, match="background_size"):
        attention_offsets(attention, (2, 2))


def test_outputs_are_within_range_of_known_features():
    x, known = features(10, 14), two_masks(10, 14)
    x = x.abs() + 5  # zeros from outside would lower values below 5
    out = ContextualAttention(3)(x, x, known)
    assert out.min() > 5
    assert ContextualAttention(3, pad=zero_pad)(x, x, known).min() < 5  # zero padding does


@pytest.mark.parametrize("downscale", [1, 2])
def test_hole_features_of_the_background_are_not_used(downscale):
    background, known = features(12, 16), torch.ones(2, 1, 12, 16)
    known[0, :, 5:9, 3:8] = 0
    known[1, :, :3, 12:] = 0
    layer, foreground = ContextualAttention(3, downscale=downscale), features(8, 8, seed=2)
    other = torch.where(known > 0, background, 100.0)
    assert_close(layer(foreground, other, known), layer(foreground, background, known))


@pytest.mark.parametrize("size", [(7, 9), (5, 1), (1, 1), (2, 3)], ids=str)
@pytest.mark.parametrize(("downscale", "stride"), [(1, 1), (2, 1), (2, 2), (4, 3)])
def test_any_size(size, downscale, stride):
    layer = ContextualAttention(3, downscale=downscale, background_stride=stride)
    x, background = features(*size), features(11, 6, seed=1)
    assert layer(x, background, torch.ones(2, 1, 11, 6)).shape == x.shape
    out = layer(background, x, torch.ones(2, 1, *size))
    assert out.shape == background.shape
    assert out.isfinite().all()


@pytest.mark.parametrize("known", [0.0, 1.0], ids=["all hole", "all known"])
@pytest.mark.parametrize("value", ["random", "zero"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_known_and_all_hole_are_finite(known, value, dtype):
    x = features(8, 12) * (value == "random")
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = ContextualAttention(3)(x, x, torch.full((2, 1, 8, 12), known))
    assert out.isfinite().all()
    if not known:
        assert (out == 0).all()
    out.float().square().sum().backward()
    assert x.grad.isfinite().all()


def test_gradients_are_those_of_finite_differences():
    foreground, background = features(4, 4, channels=2).double(), features(4, 6, channels=2, seed=1).double()
    known = two_masks(4, 6).double()
    layer = ContextualAttention(2, scale=3.0)
    inputs = foreground.requires_grad_(), background.requires_grad_()
    # scores are always float32, so the step is long
    torch.autograd.gradcheck(lambda f, b: layer(f, b, known), inputs, eps=1e-2, atol=1e-2)


@pytest.mark.parametrize("downscale", [1, 2])
def test_batch_equals_its_samples(downscale):
    x, known = features(8, 12), two_masks(8, 12)
    layer = ContextualAttention(3, downscale=downscale)
    singles = [layer(x[i : i + 1], x[i : i + 1], known[i : i + 1]) for i in range(2)]
    assert_close(layer(x, x, known), torch.cat(singles))
    assert not torch.allclose(layer(x, x, known)[1:], layer(x[1:], x[1:], known[:1]))  # the mask of another sample


VARIANTS = {
    "paper": {},
    "no downscaling": {"downscale": 1},
    "fewer background patches": {"background_stride": 2},
    "far propagation": {"downscale": 4, "reach": 2},
    "no propagation, zeros": {"reach": 0, "pad": zero_pad},
    "all rarities": {"downscale": 1, "background_stride": 3, "reach": 2},
}


def output_and_gradients(layer, foreground, background, known):
    inputs = foreground.clone().requires_grad_(), background.clone().requires_grad_()
    out = layer(*inputs, known)
    slopes = torch.randn(out.shape, generator=torch.Generator().manual_seed(5))
    return out.detach(), *torch.autograd.grad((out * slopes).sum(), inputs)


@pytest.mark.parametrize("arguments", VARIANTS.values(), ids=VARIANTS)
def test_output_and_gradients_match_the_literal_form_without_extracting_patches(arguments):
    layer = ContextualAttention(5, **arguments)
    inputs = features(13, 10, channels=5), features(9, 14, channels=5, seed=1), two_masks(9, 14)
    fast, literal = (output_and_gradients(each, *inputs) for each in (layer, LiteralContextualAttention(layer)))
    for ours, theirs in zip(fast, literal, strict=True):
        assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert all(gradient.abs().max() > 1e-3 for gradient in fast[1:])


@pytest.mark.parametrize("arguments", VARIANTS.values(), ids=VARIANTS)
def test_tiles_of_any_size_match_the_whole(arguments):
    inputs = features(13, 10, count=3), features(9, 14, count=3, seed=1), two_masks(9, 14)[[0, 1, 0]]
    whole = output_and_gradients(ContextualAttention(3, scores_mib=1e3, **arguments), *inputs)
    row_mib = 4 * 10 * 9 * 14 / 2**20  # of a sample at downscale 1
    for scores_mib in (1e-6, 3 * row_mib, 14 * row_mib):
        tiled = output_and_gradients(ContextualAttention(3, scores_mib=scores_mib, **arguments), *inputs)
        for ours, theirs in zip(tiled, whole, strict=True):
            assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


@pytest.mark.parametrize("training", [False, True])
def test_scores_mib_limits_memory(training):
    x, known = features(32, 40, count=2), torch.ones(2, 1, 32, 40)
    cells, row = 16 * 20, 20 * 17 * 21  # of half the size; scores and pasted weights of a row
    sizes = {}
    for scores_mib in (1e3, 4 * 4 * row / 2**20):
        layer = ContextualAttention(3, scores_mib=scores_mib)
        with LargestTensor() as largest, torch.set_grad_enabled(training):
            out = layer(x.requires_grad_(training), x, known)
            if training:
                out.sum().backward()
        sizes[scores_mib] = largest.numel
    whole, tiled = sizes.values()
    assert whole > 2 * cells**2
    # 4 rows, with what propagation and matching add above and below, and the background's border
    assert tiled <= 8 * 22 * 18 * 22


def test_map_is_computed_only_when_recorded(monkeypatch):
    layer, x, known = ContextualAttention(3, scores_mib=1e-6), features(8, 12), two_masks(8, 12)
    expected = layer(x, x, known)
    calls = []
    handle = layer.scores.register_forward_hook(lambda module, args, output: calls.append(output))
    assert torch.equal(layer(x, x, known), expected)
    handle.remove()
    monkeypatch.setattr(AttentionScores, "forward", lambda *args: pytest.fail("computed without a hook"))
    layer(x, x, known)
    assert [tuple(made.shape) for made in calls] == [(2, 24, 4, 6)]


@pytest.mark.parametrize("layer", [ContextualAttention, ReleasedContextualAttention])
def test_large_features_do_not_overflow_float16_where_patches_overlap(layer):
    features = torch.full((1, 2, 8, 8), 6e4, dtype=torch.float16)
    out = layer(2, downscale=1)(features, features, torch.ones(1, 1, 8, 8))
    assert out[..., 1:-1, 1:-1].isfinite().all()
    assert_close(out[..., 2:-2, 2:-2].float(), torch.full((1, 2, 4, 4), 6e4), rtol=0.02, atol=0)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_changes_little_and_scores_stay_in_float32(half):
    x, known, layer = features(8, 12, channels=16), two_masks(8, 12), ContextualAttention(16)
    full = layer(x, x, known)
    with torch.autocast("cpu", dtype=half):
        half_out = layer(x.to(half), x.to(half), known)
        scores = layer.scores(1e4 * x.to(half), x.to(half), known)  # squares of these overflow float16
        scaled = layer.scores(x.to(half), x.to(half), known)
    assert half_out.dtype == half
    assert_close(half_out.float(), full, atol=0.05, rtol=0.02)
    assert scores.dtype == torch.float32
    assert_close(scores, scaled, atol=1e-3 if half == torch.float16 else 0.02, rtol=0)


def test_rejects_wrong_arguments():
    with pytest.raises(ValueError, match=r"^downscale must be 1 or even, got 3"):
        ContextualAttention(3, downscale=3)
    with pytest.raises(ValueError, match=r"^background_stride must"):
        ContextualAttention(3, background_stride=0)
    with pytest.raises(ValueError, match=r"^reach must"):
        ContextualAttention(3, reach=-1)
    with pytest.raises(ValueError, match=r"^scores_mib must"):
        ContextualAttention(3, scores_mib=0)
    layer, x = ContextualAttention(3), features(4, 4)
    with pytest.raises(ValueError, match=r"^known must"):
        layer(x, x, torch.ones(2, 1, 4, 6))
    with pytest.raises(ValueError, match=r"^foreground and background must"):
        layer(x[:1], x, torch.ones(2, 1, 4, 4))
