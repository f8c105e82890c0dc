import pytest
import torch
from torch.testing import assert_close

from src.networks.ops.row_products import row_products


def matrices(dtype, batch=2):
    generator = torch.Generator().manual_seed(0)
    shapes = (batch, 5, 3), (batch, 4, 3)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_products_and_gradients_are_those_of_the_batched_matrix_product(dtype, batch):
    a, b = matrices(dtype, batch)
    products, expected = row_products(a, b), torch.bmm(a, b.transpose(1, 2))
    assert products.dtype == dtype
    assert_close(products, expected)
    slopes = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    for ours, theirs in zip(*(torch.autograd.grad(made, (a, b), slopes) for made in (products, expected)), strict=True):
        assert_close(ours, theirs)


def test_rows_can_have_any_memory_format():
    a, b = (matrix.detach() for matrix in matrices(torch.float32))
    columns = a.transpose(1, 2).contiguous().transpose(1, 2)
    assert not columns.is_contiguous()
    assert_close(row_products(columns[:, ::2], b), row_products(a, b)[:, ::2])
    assert_close(row_products(a, b.transpose(1, 2).contiguous().transpose(1, 2)), row_products(a, b))


def test_compiled_code_uses_the_batched_product():
    a, b = (matrix.detach() for matrix in matrices(torch.float32))
    exported = torch.export.export(Products(), (a, b))
    assert "conv" not in str(exported.graph)
    assert_close(exported.module()(a, b), row_products(a, b))


class Products(torch.nn.Module):
    def forward(self, a, b):
        return row_products(a, b)
