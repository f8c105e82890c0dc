"""The comparison of several methods as files: a table, paired tests, images side by side, and a page with all of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from src.checkpoints.methods import Method
from src.evaluation.leaderboard import Leaderboard, leaderboard, write_leaderboard
from src.evaluation.methods import ScoredMethods
from src.evaluation.record_files import read_listed
from src.evaluation.results_of_programs import StoredResults
from src.metrics.scores import PSNR, SCORES
from src.networks.interface import InpaintingOutput, composite
from src.rendering.grids import FilledSample, comparison_grid, save_grid
from src.training.trainer import make_trainer

HEADLINE = ("psnr", "ssim", "l1_percent")
"""Scores that a report begins with, of those that every test computes."""


def write_comparison(cfg: DictConfig, scored: ScoredMethods) -> Leaderboard:
    """Compare methods in `output_dir`: what `write_leaderboard` writes, and `images.png` with `pictures` test images.

    Args:
        cfg: the config that the methods were scored with.
    """
    root = Path(cfg.output_dir)
    board = leaderboard(read_listed([str(path) for path in scored.records]))
    grid = comparison_grid(_fill_examples(cfg, scored))
    save_grid(grid, root / "images.png")
    write_leaderboard(board, root, first=headline_scores(board), grids=[grid])
    return board


def headline_scores(board: Leaderboard) -> list[str]:
    """Return the scores that a comparison begins with: `HEADLINE`, and all that are not computed by default."""
    default = {score.name for score in SCORES} - {*HEADLINE}
    return [group.metric.name for group in board.table.groups if group.metric.name not in default]


def _fill_examples(cfg: DictConfig, scored: ScoredMethods) -> list[FilledSample]:
    """Fill a few samples of different images, the later ones with larger holes, with every method."""
    loader = scored.test.loader(make_trainer(cfg.trainer))
    dataset: Any = loader.dataset
    sampler: Any = loader.sampler
    step, count = dataset.samples_per_image * dataset.masks.per_crop, sampler.sample_count
    images = -(-count // step)
    shown = min(cfg.pictures, images)
    variants = [k * (dataset.masks.per_crop - 1) // max(1, shown - 1) for k in range(shown)]
    indices = [min(count - 1, k * images // shown * step + variant) for k, variant in enumerate(variants)]
    samples = [dataset[0, index] for index in indices]
    image, mask = (torch.stack([sample[key] for sample in samples]) for key in ("image", "mask"))
    filled = {method.name: _fill(method, indices, image, mask) for method in scored.methods}
    decibels = {name: PSNR(result, image, mask) for name, result in filled.items()}
    return [
        FilledSample(
            image[i],
            mask[i],
            {name: result[i] for name, result in filled.items()},
            {name: float(values[i]) for name, values in decibels.items()},
        )
        for i in range(len(indices))
    ]


def _fill(method: Method, indices: Sequence[int], image: Tensor, mask: Tensor) -> Tensor:
    if isinstance(method.network, StoredResults):
        return composite(image, mask, InpaintingOutput(method.network.read(indices)))
    network = method.network.eval().cpu()  # the test may have left it on another device
    with torch.inference_mode():
        # One by one, as large images of a batch may not fit into memory.
        parts = [network(one[None], known[None]) for one, known in zip(image, mask, strict=True)]
    return torch.cat([composite(image[i][None], mask[i][None], part) for i, part in enumerate(parts)])
