"""Inner products of all rows of one matrix with all rows of another, as attention needs them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from src.networks.ops.tracing import is_tracing


def row_products(a: Tensor, b: Tensor) -> Tensor:
    """Return a b^T for each sample: (B, M, K) and (B, N, K) to (B, M, N).

    In float32 on the CPU this runs as a 1x1 convolution for each sample, which took half the time of a matrix product
    on an AMD processor with AVX-512.
    """
    if is_tracing() or a.device.type != "cpu" or a.dtype != torch.float32:
        return torch.bmm(a, b.transpose(1, 2))
    # The rows of `a` are the pixels of a channels-last image, without a copy, and the rows of `b` its filters.
    products = [
        F.conv2d(one.contiguous()[None, :, None].permute(0, 3, 1, 2), other[..., None, None])
        for one, other in zip(a, b, strict=True)
    ]
    joined = torch.cat(products) if len(products) > 1 else products[0]
    return joined.permute(0, 2, 3, 1).flatten(1, 2)
