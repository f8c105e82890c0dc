"""Benchmark a network's forward pass: size, work, latency and peak memory."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from src.benchmarking.clock import MinDuration, Record, summarize, time_runs
from src.benchmarking.failures import attempt
from src.benchmarking.memory import PeakMemory
from src.benchmarking.setting import Setting
from src.masks.noise import RandomShapes
from src.networks.interface import InpaintingNetwork


def measure_forward(
    network: InpaintingNetwork,
    side_px: int,
    batch_size: int,
    device: torch.device,
    min_duration: MinDuration,
    setting: Setting,
) -> Record:
    """Measure size, work, latency and peak memory of a network in eval mode, on noise with irregular holes of 30%.

    FLOPs are per image, see `count_flops`; None for methods without any. Peak memory is beyond weights and inputs,
    of a second run, as the first one allocates what all later runs share.
    """
    network = network.eval().to(device)
    parameters: Record = {"parameters": sum(p.numel() for p in network.parameters())}

    def measure() -> Record:
        image, mask = make_inputs(batch_size, side_px, device)
        flops = count_flops(network, image, mask) // batch_size or None
        prepared = setting.prepare(network)

        def run() -> None:
            with setting.autocast(device):
                prepared(image, mask)

        with torch.inference_mode():
            run()
            with PeakMemory(device) as peak:
                run()
            record = summarize(time_runs(run, device, min_duration))
        return record | {"flops": flops, "peak_bytes": peak.bytes, "per_second": batch_size / record["median_s"]}

    return parameters | attempt(measure)


def make_inputs(batch_size: int, side_px: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return fixed noise (B, 3, H, W) in [0, 1], and masks (B, 1, H, W), 1 = known, with irregular holes of 30%."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch_size, 3, side_px, side_px, generator=generator)
    masks = [RandomShapes()((side_px, side_px), np.random.default_rng(k), (0.29, 0.31)) for k in range(batch_size)]
    return image.to(device), torch.from_numpy(np.stack(masks))[:, None].to(device).float()


def count_flops(network: torch.nn.Module, *inputs: Tensor) -> int:
    """Count the operations of convolutions and matrix products; a multiplication and an addition are two.

    Runs without gradients, which would only cost memory. Operations in compiled code are not counted.
    """
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        network(*inputs)
    return int(counter.get_total_flops())


def _attention_on_the_cpu(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    count: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return count


# torch 2.13 counts scaled_dot_product_attention on GPUs only.
_FORMULAS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_on_the_cpu}
