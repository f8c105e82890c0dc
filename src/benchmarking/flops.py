"""Count floating-point operations of a run, and measure this machine's rate in a large matrix product."""

import functools
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from src.benchmarking.clock import MinDuration, Run, time_interleaved

_MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}


def _attention_on_the_cpu(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    count: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return count


# torch 2.13 counts scaled_dot_product_attention on GPUs only.
_FORMULAS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_on_the_cpu}


def count_flops(run: Run) -> int:
    """Count the operations of convolutions and matrix products; a multiplication and an addition are two.

    Runs without gradients, which would only cost memory. Operations in compiled code are not counted.
    """
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        run()
    return int(counter.get_total_flops())


@functools.cache
def matmul_flops_per_second(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    """Measure the operations per second of a large square matrix product, as a reference for other work.

    The faster of a matrix product and a 1x1 convolution counts: on the CPU they use MKL and oneDNN, and on AMD
    processors oneDNN was twice as fast. On a GPU float32 products use TF32 if convolutions may (torch's default).

    Args:
        threads: present number of CPU threads; part of the cache key.
    """
    side = _MATRIX_SIDE.get(device.type, 2048)
    a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    pixels, filters = a[None, :, None].permute(0, 3, 1, 2), b[..., None, None]
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        seconds = time_interleaved([lambda: a @ b, lambda: F.conv2d(pixels, filters)], device, MinDuration(5, 0.3))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return 2 * side**3 / min(map(min, seconds))  # the minimum, as other work on the machine only adds time
