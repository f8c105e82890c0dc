"""The released contextual attention, compared with loops over patches and with the paper's layer."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from src.networks.layers.coarse_to_fine import zero_pad
from src.networks.layers.contextual_attention import ContextualAttention
from src.networks.layers.released_contextual_attention import (
    ALIGNED_CELLS,
    ReleasedContextualAttention,
    ReleasedScores,
    fuse,
)
from src.networks.reference.contextual_attention import LiteralReleasedContextualAttention


def features(height, width, count=2, channels=3, seed=0):
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(seed))


def two_masks(height, width):
    """Return masks with different holes, one of a single cell."""
    known = torch.ones(2, 1, height, width)
    known[0, :, : height // 3, : width // 2] = 0
    known[1, :, height // 2 :, -3:] = 0
    known[1, :, 0, 0] = 0
    return known


def cells(height, width):
    return list(itertools.product(range(height), range(width)))


def patch(x, row, column, side, margin):
    """Return the cells (C, side, side) from (row - margin, column - margin) on, zeros outside."""
    padded = zero_pad(x[None], side)[0]
    top, left = row - margin + side, column - margin + side
    return padded[:, top : top + side, left : left + side]


def summed_along(scores, ordered_back, ordered_front):
    """Add to each score those of the previous and next cells, in both orders."""
    return {
        (b, f): sum(
            scores[ordered_back[p + i], ordered_front[q + i]]
            for i in (-1, 0, 1)
            if 0 <= p + i < len(ordered_back) and 0 <= q + i < len(ordered_front)
        )
        for p, b in enumerate(ordered_back)
        for q, f in enumerate(ordered_front)
    }


def slow_attention(foreground, background, known, scale=10.0, downscale=2):
    """Compute the layer for one sample by loops."""
    small_f, small_b, small_known = (x[:, ::downscale, ::downscale] for x in (foreground, background, known))
    front, back = cells(*small_f.shape[1:]), cells(*small_b.shape[1:])
    scores = {}
    for b, f in itertools.product(back, front):
        filters = patch(small_b, *b, 3, 1)
        norm = math.sqrt(sum(float(w) ** 2 + 1e-4 for w in filters.flatten()))
        scores[b, f] = float((patch(small_f, *f, 3, 1) * filters).sum()) / norm
    scores = summed_along(scores, back, front)
    scores = summed_along(scores, sorted(back, key=lambda c: c[::-1]), sorted(front, key=lambda c: c[::-1]))
    whole = {b: float((patch(1 - small_known, *b, 3, 1) == 0).all()) for b in back}
    side = 3 if downscale == 1 else 2 * downscale
    margin = (side - downscale) // 2
    out = zero_pad(torch.zeros_like(foreground)[None], side)[0]
    for f in front:
        exponentials = {b: math.exp(scale * whole[b] * scores[b, f]) for b in back}
        total = sum(exponentials.values())
        top, left = (side + downscale * place - margin for place in f)
        for b in back:
            pasted = patch(background, downscale * b[0], downscale * b[1], side, margin)
            out[:, top : top + side, left : left + side] += whole[b] * exponentials[b] / total * pasted
    return out[:, side:-side, side:-side] / {1: 9, 2: 4, 4: 4}[downscale]


@pytest.mark.parametrize("downscale", [1, 2, 4])
@pytest.mark.parametrize("sizes", [((4, 6), (4, 6)), ((6, 4), (4, 8))], ids=str)
def test_matches_release_by_loops(sizes, downscale):
    sizes = [[min(downscale, 2) * side for side in size] for size in sizes]  # loops over pixels are slow
    foreground, background = 0.3 * features(*sizes[0]), 0.3 * features(*sizes[1], seed=1)
    known = two_masks(*sizes[1])
    out = ReleasedContextualAttention(3, downscale=downscale)(foreground, background, known)
    for sample in zip(out, foreground, background, known, strict=True):
        assert_close(sample[0], slow_attention(*sample[1:], downscale=downscale), atol=1e-5, rtol=1e-4)


def test_rows_continue_at_next_row():
    """By row, then by column, for a background and a foreground of different, non-square sizes."""
    scores = torch.zeros(1, 4, 2, 2, 3)
    scores[0, 1, 1, 0, 2] = 1.0
    expected = torch.zeros_like(scores)
    # (0, 2) is followed by (1, 0), and (1, 1) by (2, 0); then each is joined by those above and below itself
    for background, foreground in (((0, 2), (1, 1)), ((1, 0), (2, 0)), ((0, 1), (1, 0))):
        b, f = (c * rows + r for (r, c), rows in ((background, 2), (foreground, 4)))
        for i in (-1, 0, 1):
            if 0 <= b + i < 6 and 0 <= f + i < 8:
                expected[0, (f + i) % 4, (f + i) // 4, (b + i) % 2, (b + i) // 2] += 1
    assert torch.equal(fuse(scores), expected)


def test_matches_paper_layer_without_differences():
    """With a sharp softmax, each hole patch becomes its known copy, away from borders."""
    x = features(8, 8, count=1, channels=8)
    x, known = torch.cat([x, x], -1), torch.ones(1, 1, 8, 16)
    known[..., 3:5, 3:5] = 0
    given = torch.where(known > 0, x, 100.0)  # values in the background's hole have no effect
    released = ReleasedContextualAttention(8, scale=1e3, downscale=1)(x, given, known)[..., 2:-2, 2:6]
    paper = ContextualAttention(8, scale=1e4, downscale=1)(x, given, known)[..., 2:-2, 2:6]
    assert_close(released, paper)
    assert_close(released, x[..., 2:-2, 2:6])


def test_mask_is_reduced_by_nearest_neighbours():
    mask = torch.ones(1, 1, 8, 12)
    mask[..., 1, 3] = 0  # between the sampled pixels
    mask[..., 4, 8] = 0
    assert torch.equal(ReleasedContextualAttention(3).known_cells(mask, 4), torch.tensor([[[[1.0, 1, 1], [1, 1, 0]]]]))


def test_weights_of_patches_with_a_hole_are_dropped():
    x, known = features(6, 8), two_masks(6, 8)
    weights = ReleasedScores(10.0)(1e-4 * x, x, known)
    assert weights.shape == (2, 48, 6, 8)
    usable = torch.nn.functional.max_pool2d(1 - known, 3, 1, 1).flatten(1) == 0
    for sample, whole in zip(weights, usable, strict=True):
        assert 0 < whole.sum() < 48
        assert (sample[~whole] == 0).all()
        assert (sample[whole] > 0).all()
        # with a tiny foreground all 48 scores are near 0, and the unusable patches get their weight
        assert_close(sample.sum(0), (whole.sum() / 48).expand(6, 8), atol=0.01, rtol=0)
    assert_close(ReleasedScores(10.0)(x, x, torch.ones_like(known)).sum(1), torch.ones(2, 6, 8))


def test_scores_are_the_map_and_half_precision_leaves_them_in_float32():
    x, known = features(8, 12, channels=16), two_masks(8, 12)
    layer = ReleasedContextualAttention(16, scale=1.0)
    assert list(layer.map_layers()) == ["attention"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = layer(x.bfloat16(), x.bfloat16(), known)
        scores = layer.scores(x.bfloat16(), x.bfloat16(), known)
    assert half.dtype == torch.bfloat16
    assert scores.dtype == torch.float32


def test_batch_equals_its_samples():
    x, known, layer = features(8, 12), two_masks(8, 12), ReleasedContextualAttention(3)
    singles = [layer(x[i : i + 1], x[i : i + 1], known[i : i + 1]) for i in range(2)]
    assert_close(layer(x, x, known), torch.cat(singles))
    assert not torch.allclose(layer(x, x, known)[1:], layer(x[1:], x[1:], known[:1]))  # the mask of another sample


@pytest.mark.parametrize("downscale", [1, 2, 4])
@pytest.mark.parametrize("sizes", [((8, 12), (12, 8)), ((4, 16), (8, 4))], ids=str)  # down to single lines of cells
def test_output_and_gradients_match_the_literal_form_without_extracting_patches(sizes, downscale):
    layer = ReleasedContextualAttention(5, downscale=downscale)
    foreground, background = features(*sizes[0], channels=5), features(*sizes[1], channels=5, seed=1)
    known, made = two_masks(*sizes[1]), []
    for form in (layer, LiteralReleasedContextualAttention(layer)):
        inputs = (0.3 * foreground).requires_grad_(), (0.3 * background).requires_grad_()
        out = form(*inputs, known)
        slopes = torch.randn(out.shape, generator=torch.Generator().manual_seed(5))
        made.append((out, *torch.autograd.grad((out * slopes).sum(), inputs)))
    for ours, theirs in zip(*made, strict=True):
        assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("known", [0.0, 1.0], ids=["all hole", "all known"])
@pytest.mark.parametrize("value", [0.0, 1.0, 1e4])
def test_output_and_gradients_are_finite(known, value):
    x = (value * features(8, 12)).requires_grad_()
    out = ReleasedContextualAttention(3)(x, x, torch.full((2, 1, 8, 12), known))
    assert out.isfinite().all()
    if not known:
        assert (out == 0).all()
    out.sum().backward()
    assert x.grad.isfinite().all()


def test_rejects_wrong_arguments():
    with pytest.raises(ValueError, match=r"^downscale must be 1 or even, got 3"):
        ReleasedContextualAttention(3, downscale=3)
    with pytest.raises(ValueError, match=r"^sizes must be multiples of 2"):
        ReleasedContextualAttention(3)(features(4, 6), features(4, 5), torch.ones(2, 1, 4, 5))


def test_aligned_cells_keep_the_corners_and_round_half_up():
    x = torch.arange(8.0)[None, None, None].expand(1, 1, 4, 8)
    assert ALIGNED_CELLS(x, 2)[0, 0, 0].tolist() == [0, 2, 5, 7]  # 0, 7/3, 14/3, 7
    assert ALIGNED_CELLS(x, 4)[0, 0].tolist() == [[0, 7]]
    odd = torch.arange(12.0)[None, None, None].expand(1, 1, 12, 12)
    assert ALIGNED_CELLS(odd, 4)[0, 0, 0].tolist() == [0, 6, 11]  # 5.5 is rounded up
    mask = (torch.rand(1, 1, 32, 64) > 0.5).float()
    assert torch.equal(ALIGNED_CELLS(ALIGNED_CELLS.known_cells(mask, 4, 2), 2), ALIGNED_CELLS(mask, 8))
