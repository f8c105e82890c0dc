"""Mask generators: masks a second."""

import numpy as np
import torch

from src.benchmarking.clock import Pace, Record, timing
from src.benchmarking.threads import threads
from src.masks.generators import MaskGenerator


def measure_masks(
    generator: MaskGenerator, hole_ratio: tuple[float, float], side_px: int, count: int, pace: Pace
) -> Record:
    """Masks a second, on one thread, hole ratios anywhere in the range.

    A run draws `count`: single ones differ too much for their median to tell how many come in a second.
    """
    rng = np.random.default_rng(0)

    def draw() -> None:
        for _ in range(count):
            generator((side_px, side_px), rng, hole_ratio)

    with threads(1):
        timed = timing(draw, torch.device("cpu"), pace)
    return {**timed, "per_second": count / timed["median_s"]}
