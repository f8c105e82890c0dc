"""The products of attention: every row of one matrix with every row of another."""

import torch
from torch import Tensor
from torch.nn import functional as F

from src.networks.ops.tracing import is_recorded


def row_products(a: Tensor, b: Tensor) -> Tensor:
    """a b^T of each sample: (B, M, K) and (B, N, K) to (B, M, N).

    In float32 on the CPU as a 1x1 convolution, sample by sample: on an AMD processor with AVX-512 PyTorch's
    convolutions (oneDNN) did 290 to 400 GFLOP/s where its matrix products (MKL) did 160 to 190.
    """
    if is_recorded() or a.device.type != "cpu" or a.dtype != torch.float32:
        return torch.bmm(a, b.transpose(1, 2))
    # rows are the pixels of a picture in channels_last, as they lie in memory, and the other rows are its filters
    products = [
        F.conv2d(one.contiguous()[None, :, None].permute(0, 3, 1, 2), other[..., None, None])
        for one, other in zip(a, b, strict=True)
    ]
    joined = torch.cat(products) if len(products) > 1 else products[0]
    return joined.permute(0, 2, 3, 1).flatten(1, 2)
