"""Train the suite's models on built-in photos, compare them on one bank of masks, write a report: `make demo`."""

import time
from dataclasses import replace
from pathlib import Path

import hydra
import torch
from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from torch import Tensor

from src.checkpoints.reading import load_checkpoint
from src.common.errors import report_input_errors
from src.common.options import check_options
from src.common.schemas import DemoOptions
from src.evaluation.formats import text_table
from src.evaluation.records import read_records
from src.evaluation.report import write_report
from src.evaluation.scoring import evaluate, scores_table
from src.masks.bank import MaskBank, bins_within
from src.networks.interface import InpaintingNetwork
from src.rendering.curves import read_metrics
from src.rendering.grids import Grid, comparison_grid, filled_samples
from src.rendering.network_figures import inner_figures
from src.training.run import train

SHOWN = ("psnr", "ssim", "l1_percent", "l1_hole_percent", "tv_percent")
"""Scores of the report's table; the records hold them all."""


def demo(cfg: DictConfig) -> Path:
    """Train, evaluate and report as conf/demo.yaml composes.

    Returns:
        The path of the report.
    """
    check_options(cfg, DemoOptions)
    started, root, console = time.monotonic(), Path(cfg.output_dir), Console()
    shared = [
        f"scale={cfg.demo.scale}",
        f"data={cfg.demo.data}",
        f"mask={cfg.demo.mask}",
        f"seed={cfg.seed}",
        f"workers={cfg.demo.workers}",
    ]
    bank_path = root / "bank.npz"
    composed = compose("evaluate", [*shared, f"bank={bank_path}", f"output_dir={root}"])
    size, hole_ratio = (composed.scale.image_size,) * 2, tuple(composed.mask.hole_ratio)
    masks = instantiate(composed.mask.generator)
    MaskBank.draw(masks, size, cfg.demo.bank_masks_per_bin, cfg.seed, bins_within(hole_ratio)).save(bank_path)

    steps = {model: round(count * cfg.demo.longer) for model, count in cfg.demo.steps.items()}
    records, networks, runs = [], {}, {}

    def score(folder: str, *overrides: str) -> None:
        console.print(f"[bold]scoring[/bold] {folder}")
        settings = compose(
            "evaluate", [*shared, "lpips=false", f"bank={bank_path}", *overrides, f"output_dir={root / folder}"]
        )
        records.append(evaluate(settings))

    for model, count in steps.items():
        score(f"{model}_untrained", f"model={model}")
        console.print(f"[bold]training[/bold] {model}: {count} generator steps")
        output = root / model
        train(compose("train", [*shared, f"model={model}", f"scale.max_steps={count}", f"output_dir={output}"]))
        checkpoint = output / "checkpoints" / "last.ckpt"  # not the best: that is chosen by validation
        score(model, f"ckpt={checkpoint}")
        networks[model], runs[model] = load_checkpoint(checkpoint).network, read_metrics(output / "csv" / "metrics.csv")
    for method in cfg.demo.methods:
        score(method, f"model={method}")
        networks[method] = instantiate(compose("evaluate", [f"model={method}"]).model.network)

    scored = [read_records(path) for path in records]
    table = scores_table(
        records, caption=f"Composites: {cfg.demo.data}, {size[0]} px, scale={cfg.demo.scale}", names=SHOWN
    )
    report = root / "report.html"
    data = instantiate(composed.data.datamodule).with_masks(test_bank=MaskBank.load(bank_path))
    photos = list(data.test_images())
    write_report(
        report,
        f"{len(networks)} methods on data={cfg.demo.data}",
        tables=[text_table(table).to_html()],
        provenance={frame["method"].iloc[0]: made for frame, made in scored},
        grids=[comparison_grid(filled_samples(networks, image, mask), name) for name, image, mask in photos],
        figures=_figures({model: networks[model] for model in runs}, photos),
        runs=runs,
        notes=[
            f"Trained here, from nothing, on the training photos of data={cfg.demo.data} at {cfg.demo.scale} scale. "
            f"Generator steps: {', '.join(f'{model} {count}' for model, count in steps.items())}. Tested on photos "
            "that training never saw, every crop with a mask of every hole-ratio bin. What networks did inside is "
            "shown on a middle-sized hole of every photo. "
            "Longer: make demo ARGS=demo.longer=5",
            "A handful of photos, a few minutes and networks of a quarter of the width show that everything works, and "
            "not which paper is better. Nothing is downloaded, so the perceptual and style terms of the losses, which "
            "compare features of a trained VGG-16, are off at mini scale.",
            f"Training and scoring took {time.monotonic() - started:.0f} s.",
        ],
    )
    console.print(text_table(table, intervals=False).to_console())
    return report


def _figures(networks: dict[str, InpaintingNetwork], photos: list[tuple[str, Tensor, Tensor]]) -> list[Grid]:
    """What every network did inside, on the middle-sized hole of every photo."""
    image = torch.stack([images[len(images) // 2] for _, images, _ in photos])
    mask = torch.stack([masks[len(masks) // 2] for _, _, masks in photos])
    return [
        replace(grid, caption=f"{model}: {figure.replace('_', ' ')}")
        for model, network in networks.items()
        for figure, grid in inner_figures(network, image, mask).items()
    ]


@hydra.main(version_base="1.3", config_path="../conf", config_name="demo")
@report_input_errors
def main(cfg: DictConfig) -> None:
    """Run the demo and say where its report is."""
    report = demo(cfg)
    print(f"report: {report.resolve()}")


if __name__ == "__main__":
    main()
