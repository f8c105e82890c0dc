"""The demo: train the suite's models on built-in images, compare them on one mask bank, and write a report."""

import time
from dataclasses import replace
from pathlib import Path

import torch
from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from torch import Tensor

from src.checkpoints.reading import load_checkpoint
from src.common.options import check_options
from src.common.schemas import DemoOptions
from src.evaluation.formats import text_table
from src.evaluation.records import read_records
from src.evaluation.report import write_report
from src.evaluation.scoring import evaluate, scores_table
from src.masks.bank import MaskBank, bins_within
from src.networks.interface import InpaintingNetwork
from src.rendering.curves import read_metrics
from src.rendering.grids import Grid, comparison_grid, fill_samples
from src.rendering.network_figures import draw_internals
from src.training.run import train

REPORTED_SCORES = ("psnr", "ssim", "l1_percent", "l1_hole_percent", "tv_percent")
"""Scores in the report's table; the records contain all scores."""


def run_demo(cfg: DictConfig) -> Path:
    """Train, evaluate and write a report as conf/demo.yaml composes; return the report's path."""
    check_options(cfg, DemoOptions)
    started, root, console = time.monotonic(), Path(cfg.output_dir), Console()
    shared = [f"{key}={cfg.demo[key]}" for key in ("scale", "data", "mask", "workers")]
    shared.append(f"seed={cfg.seed}")
    bank_path = root / "bank.npz"
    composed = compose("evaluate", [*shared, f"bank={bank_path}", f"output_dir={root}"])
    size, hole_ratio = (composed.scale.image_size,) * 2, tuple(composed.mask.hole_ratio)
    masks = instantiate(composed.mask.generator)
    MaskBank.draw(masks, size, cfg.demo.bank_masks_per_bin, cfg.seed, bins_within(hole_ratio)).save(bank_path)

    steps = {model: round(count * cfg.demo.longer) for model, count in cfg.demo.steps.items()}
    records, networks, runs = [], {}, {}

    def score(directory: str, *overrides: str) -> None:
        console.print(f"[bold]scoring[/bold] {directory}")
        common = [*shared, "lpips=false", f"bank={bank_path}"]
        records.append(evaluate(compose("evaluate", [*common, *overrides, f"output_dir={root / directory}"])))

    for model, count in steps.items():
        score(f"{model}_untrained", f"model={model}")
        console.print(f"[bold]training[/bold] {model}: {count} generator steps")
        output = root / model
        train(compose("train", [*shared, f"model={model}", f"scale.max_steps={count}", f"output_dir={output}"]))
        checkpoint = output / "checkpoints" / "last.ckpt"  # not best.ckpt, which validation selects
        score(model, f"ckpt={checkpoint}")
        networks[model], runs[model] = load_checkpoint(checkpoint).network, read_metrics(output / "csv" / "metrics.csv")
    for method in cfg.demo.methods:
        score(method, f"model={method}")
        networks[method] = instantiate(compose("evaluate", [f"model={method}"]).model.network)

    scored = [read_records(path) for path in records]
    caption = f"Composites: {cfg.demo.data}, {size[0]} px, scale={cfg.demo.scale}"
    table = scores_table(records, caption=caption, names=REPORTED_SCORES)
    report = root / "report.html"
    data = instantiate(composed.data.datamodule).with_masks(test_bank=MaskBank.load(bank_path))
    images = list(data.images("test"))
    write_report(
        report,
        f"{len(networks)} methods on data={cfg.demo.data}",
        tables=[text_table(table).to_html()],
        provenance={frame["method"].iloc[0]: provenance for frame, provenance in scored},
        grids=[comparison_grid(fill_samples(networks, image, mask), name) for name, image, mask in images],
        figures=[grid for model in runs for grid in _figures(model, networks[model], images)],
        runs=runs,
        notes=[
            f"Trained from scratch on the training images of data={cfg.demo.data} at {cfg.demo.scale} scale. "
            f"Generator steps: {', '.join(f'{model} {count}' for model, count in steps.items())}. Tested on images "
            "that are not in the training split, every crop with one mask of each hole-ratio bin. The figures of the "
            "networks' internals show the middle-sized hole of each image. "
            "To train longer: make demo ARGS=demo.longer=5",
            "A handful of images, a few minutes of training and a quarter of the channels show that everything works, "
            "not which paper is better. Nothing is downloaded, so the perceptual and style loss terms, which compare "
            "features of a pretrained VGG-16, are off at mini scale.",
            f"Training and scoring took {time.monotonic() - started:.0f} s.",
        ],
    )
    console.print(text_table(table, intervals=False).to_console())
    return report


def _figures(model: str, network: InpaintingNetwork, images: list[tuple[str, Tensor, Tensor]]) -> list[Grid]:
    """Draw the internals of a network on the middle-sized hole of each image."""
    image = torch.stack([crops[len(crops) // 2] for _, crops, _ in images])
    mask = torch.stack([masks[len(masks) // 2] for _, _, masks in images])
    figures = draw_internals(network, image, mask)
    return [replace(grid, caption=f"{model}: {figure.replace('_', ' ')}") for figure, grid in figures.items()]
