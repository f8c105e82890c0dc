"""Benchmark mask generators."""

import numpy as np
import torch

from src.benchmarking.clock import MinDuration, Record, summarize, time_interleaved
from src.benchmarking.threads import threads
from src.masks.generators import MaskGenerator


def measure_masks(
    generator: MaskGenerator, hole_ratio: tuple[float, float], side_px: int, count: int, min_duration: MinDuration
) -> Record:
    """Measure masks per second on one thread, with hole ratios from the whole range.

    A run draws `count` masks, as the median time of single masks would not give their rate.
    """
    rng = np.random.default_rng(0)

    def draw() -> None:
        for _ in range(count):
            generator((side_px, side_px), rng, hole_ratio)

    with threads(1):
        (seconds,) = time_interleaved([draw], torch.device("cpu"), min_duration)
    record = summarize(seconds)
    return {**record, "per_second": count / record["median_s"]}
