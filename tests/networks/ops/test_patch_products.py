"""Sums along diagonals, compared with unfold and fold."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from src.networks.ops.patch_products import (
    count_overlaps,
    diagonal_sum,
    join_blocks,
    paste_blocks,
    patch_products,
    split_blocks,
    squared_norms,
)


def features(height, width, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, channels, height, width, generator=generator, dtype=torch.float64)


def test_diagonal_sum_by_hand():
    x = torch.arange(20.0).view(4, 5)
    assert torch.equal(diagonal_sum(x, 2, (0, 1)), x[:3, :4] + x[1:, 1:])
    assert torch.equal(diagonal_sum(x, 2, (0, 1), step=2), x[:2, :4] + x[2:, 1:])
    assert torch.equal(diagonal_sum(x, 3, (1, 0)), x[:2, :3] + x[1:3, 1:4] + x[2:, 2:])
    assert diagonal_sum(x, 1, (0, 1)) is x


@pytest.mark.parametrize("size", [(6, 9), (3, 3), (4, 3)], ids=str)
def test_products_and_norms_are_those_of_unfolded_patches(size):
    foreground, background = features(5, 7), features(*size, seed=1)
    front, back = (F.unfold(x, 3) for x in (foreground, background))
    products = patch_products(foreground, background)
    assert products.shape == (2, 3, 5, size[0] - 2, size[1] - 2)
    assert_close(products.flatten(3).flatten(1, 2), front.transpose(1, 2) @ back)
    assert_close(squared_norms(background).flatten(1), back.square().sum(1))


@pytest.mark.parametrize(("side", "count"), [(1, 3), (2, 2), (4, 2)])
def test_pasting_is_a_sum_of_folded_patches(side, count):
    margin, patch = (count - 1) * side // 2, count * side
    background = features(3 * side, 5 * side)
    padded = F.pad(background, (margin,) * 4)
    weights = torch.rand(2, 4, 2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pasted = count**2 * paste_blocks(weights, split_blocks(padded, side), count)
    columns = F.unfold(padded, patch, stride=side) @ weights.flatten(3).flatten(1, 2).transpose(1, 2)
    by_fold = F.fold(columns, (4 * side, 2 * side), patch, padding=margin, stride=side)
    assert_close(join_blocks(pasted, side, margin), by_fold)
    ones = F.fold(torch.ones(1, patch**2, 8).double(), (4 * side, 2 * side), patch, padding=margin, stride=side)
    counted = count_overlaps(4, 2, count, torch.device("cpu")).double()[None, :, :, None].expand(1, -1, -1, side**2)
    assert_close(join_blocks(counted, side, margin), ones)


def test_joining_blocks_inverts_splitting():
    image = features(6, 8)
    rows_of_blocks = split_blocks(image, 2).transpose(1, 2).unflatten(1, (3, 4))
    assert torch.equal(join_blocks(rows_of_blocks, 2, 0), image)
    assert torch.equal(join_blocks(rows_of_blocks, 2, 1), image[..., 1:-1, 1:-1])
