"""Benchmark a network's forward pass: size, work, latency and peak memory."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from src.benchmarking.baselines import Variant
from src.benchmarking.clock import MinDuration, Record, Run
from src.benchmarking.failures import NotMeasuredError, attempt
from src.benchmarking.flops import count_flops, matmul_flops_per_second
from src.benchmarking.measurement import measure_run
from src.benchmarking.setting import DTYPES, Setting
from src.masks.noise import RandomShapes
from src.networks.interface import InpaintingNetwork


def measure_forward(
    network: InpaintingNetwork,
    side_px: int,
    batch_size: int,
    device: torch.device,
    min_duration: MinDuration,
    setting: Setting,
    baseline: Callable[[InpaintingNetwork], Variant] | None = None,
) -> Record:
    """Measure size, work, latency and peak memory of a network in eval mode, on noise with irregular holes of 30%.

    FLOPs are per image, see `count_flops`; None for methods without any. Peak memory is beyond weights and inputs.
    `product_share` is the rate of operations divided by that of a large matrix product in the same precision.
    """
    network = network.eval().to(device)
    parameters: Record = {"parameters": sum(p.numel() for p in network.parameters())}

    def measure() -> Record:
        image, mask = make_inputs(batch_size, side_px, device)
        record: Record = {"flops": count_flops(lambda: network(image, mask)) // batch_size or None}
        theirs = None
        if baseline is not None:
            try:
                other, others_setting = baseline(network)
                theirs = _run(others_setting.prepare(other), others_setting, image, mask)
            except NotMeasuredError as error:
                record["baseline_failure"] = str(error)
        ready = setting.prepare(network)
        with torch.inference_mode():
            record |= measure_run(_run(ready, setting, image, mask), theirs, device, min_duration)
        record["per_second"] = batch_size / record["median_s"]
        if record["flops"]:
            fastest = matmul_flops_per_second(device, DTYPES[setting.precision], torch.get_num_threads())
            record["product_share"] = record["flops"] * record["per_second"] / fastest
        return record

    return parameters | attempt(measure)


def _run(ready: InpaintingNetwork, setting: Setting, image: Tensor, mask: Tensor) -> Run:
    def run() -> None:
        with setting.autocast(image.device):
            ready(image, mask)

    return run


def make_inputs(batch_size: int, side_px: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return fixed noise (B, 3, H, W) in [0, 1], and masks (B, 1, H, W), 1 = known, with irregular holes of 30%."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch_size, 3, side_px, side_px, generator=generator)
    masks = [RandomShapes()((side_px, side_px), np.random.default_rng(k), (0.29, 0.31)) for k in range(batch_size)]
    return image.to(device), torch.from_numpy(np.stack(masks))[:, None].to(device).float()
