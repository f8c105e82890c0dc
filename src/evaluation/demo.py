"""The demo: shipped networks, methods without weights and a network trained on the spot, compared in one report."""

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
from src.checkpoints.weights import list_shipped
from src.common.options import check_options
from src.common.schemas import DemoOptions
from src.evaluation.formats import text_table
from src.evaluation.records import read_records, write_records
from src.evaluation.report import write_report
from src.evaluation.scoring import evaluate, scores_table
from src.masks.bank import MaskBank, bins_within
from src.networks.interface import InpaintingNetwork
from src.rendering.curves import read_metrics
from src.rendering.grids import Grid, comparison_grid, fill_samples
from src.rendering.network_figures import draw_internals
from src.training.run import train

TABLE_SCORES = ("psnr", "ssim")
"""Scores in the report's first table; the folded one has all that need no weights."""

NEXT_COMMANDS = """\
  python -m src.app    # paint over an object in a photo of yours and fill it
  python -m src.predict {network} image=photo.jpg mask=mask.png output=filled.png
  python -m src.train model=pconv data=folder data.root=photos/ scale=small    # train on your own images"""


def run_demo(cfg: DictConfig) -> Path:
    """Score, train and write a report as conf/demo.yaml composes; return the report's path."""
    check_options(cfg, DemoOptions)
    started, root, console = time.monotonic(), Path(cfg.output_dir), Console()
    shared = [f"{key}={cfg.demo[key]}" for key in ("scale", "data", "mask", "workers")]
    crops = {"test": cfg.demo.crops, "validation": 2}
    shared += [f"seed={cfg.seed}", *(f"data.samples_per_image.{split}={count}" for split, count in crops.items())]
    bank_path = root / "bank.npz"
    composed = compose("evaluate", [*shared, f"bank={bank_path}", f"output_dir={root}"])
    size, hole_ratio = (composed.scale.image_size,) * 2, tuple(composed.mask.hole_ratio)
    masks = instantiate(composed.mask.generator)
    MaskBank.draw(masks, size, cfg.demo.bank_masks_per_bin, cfg.seed, bins_within(hole_ratio)).save(bank_path)
    records: list[Path] = []

    def score(name: str, *overrides: str) -> None:
        console.print(f"[bold]scoring[/bold] {name}")
        options = [
            *shared,
            "lpips=false",
            f"bank={bank_path}",
            *overrides,
            f"output_dir={root / name.replace(' ', '_')}",
        ]
        path = evaluate(compose("evaluate", options))
        rows, provenance = read_records(path)
        write_records(rows.assign(method=name), path, provenance)  # two networks can be of one model
        records.append(path)

    networks: dict[str, InpaintingNetwork] = {}
    sentences = dict(cfg.demo.methods)
    for name in cfg.demo.methods:
        score(name, f"model={name}")
        networks[name] = instantiate(compose("evaluate", [f"model={name}"]).model.network)
    for directory in list_shipped().values():
        score(directory.name, f"ckpt={directory}")
        networks[directory.name] = load_checkpoint(directory).network
        sentences[directory.name] = "Shipped with the suite and trained on other images; its model card has details."

    model, steps, output = cfg.demo.train, cfg.demo.steps, root / "training"
    before = f"{model} untrained"
    score(before, f"model={model}")
    console.print(f"[bold]training[/bold] {model} from scratch: {steps} generator steps")
    length = [f"scale.max_steps={steps}", f"scale.validate_every={max(1, steps // 3)}"]
    train(compose("train", [*shared, f"model={model}", *length, f"output_dir={output}"]))
    trained = load_checkpoint(output)  # its best checkpoint, which the page offers too
    after = f"{model} after {trained.step} steps"
    score(after, f"ckpt={output}")
    networks[after] = trained.network
    sentences[after] = f"Trained from scratch here; {before} has its initial weights."

    caption = f"Composites: {cfg.demo.data}, {size[0]} px, scale={cfg.demo.scale}"
    table = scores_table(records, caption=caption, names=TABLE_SCORES)
    data = instantiate(composed.data.datamodule).with_masks(test_bank=MaskBank.load(bank_path))
    images = [(name, image, mask) for name, image, mask, _ in data.images("test")]
    # One mask of every second hole ratio: the page stays short.
    grids = [comparison_grid(fill_samples(networks, image[1::2], mask[1::2]), name) for name, image, mask in images]
    with_weights = [name for name in networks if name not in cfg.demo.methods]
    report = root / "report.html"
    write_report(
        report,
        f"{len(networks)} ways to fill a hole",
        glance=replace(grids[0], rows=grids[0].rows[1:2], caption=""),
        sentences=sentences,
        tables=[text_table(table, intervals=False).to_html()],
        more_tables=[text_table(scores_table(records, caption=caption)).to_html()],
        provenance={rows["method"].iloc[0]: provenance for rows, provenance in map(read_records, records)},
        grids=grids,
        figures=[grid for name in with_weights for grid in _figures(name, networks[name], images)],
        runs={after: read_metrics(output / "csv" / "metrics.csv")},
        notes=[
            f"Scored on {table.columns[-1].count} crops of images that no network was trained on, with one bank of "
            "masks. The training here shows that training works, not how good the method becomes. "
            f"All of this took {time.monotonic() - started:.0f} s.",
        ],
    )
    console.print(text_table(replace(table, groups=table.groups[:1], notes=()), intervals=False).to_console())
    shipped = "model={} weights={}".format(*next(iter(list_shipped())))
    print(f"\nnext:\n{NEXT_COMMANDS.format(network=shipped)}")
    return report


def _figures(name: str, network: InpaintingNetwork, images: list[tuple[str, Tensor, Tensor]]) -> list[Grid]:
    """Draw the internals of a network on the middle-sized hole of each image."""
    image = torch.stack([crops[len(crops) // 2] for _, crops, _ in images])
    mask = torch.stack([masks[len(masks) // 2] for _, _, masks in images])
    figures = draw_internals(network, image, mask)
    return [replace(grid, caption=f"{name}: {figure.replace('_', ' ')}") for figure, grid in figures.items()]
