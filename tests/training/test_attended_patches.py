"""The effective number of attended patches that validation logs."""

import csv
from pathlib import Path

import pytest
import torch

from src.networks.layers.effective_patches import effective_patches_in_hole
from src.training.run import train

ONE_STEP = ("trainer.max_steps=1", "trainer.val_check_interval=1", "callbacks.sample_images=null")


def logged(cfg):
    text = Path(cfg.output_dir, "csv", "metrics.csv").read_text()
    (row,) = (row for row in csv.DictReader(text.splitlines()) if row["val/psnr"])
    return {name: float(value) for name, value in row.items() if name.endswith("attended_patches")}


def test_attended_patches_of_contextual_attention_are_those_of_the_first_batch(composed):
    cfg = composed("model=contextual_attention", *ONE_STEP, "trainer.limit_val_batches=1.0")
    trainer = train(cfg)
    network, batch = trainer.lightning_module.network.eval(), next(iter(trainer.val_dataloaders))
    with torch.no_grad():
        maps = network(batch["image"], batch["mask"], maps=True).maps
    expected = effective_patches_in_hole(maps["attention"], batch["mask"]).mean().item()
    assert logged(cfg) == {"val/attention/attended_patches": pytest.approx(expected, rel=1e-5)}


def test_every_attention_of_mpga_gla_is_logged_and_none_without_attention(composed):
    cfg = composed("model=mpga_gla", *ONE_STEP)
    train(cfg)
    assert logged(cfg)
    assert all(name.startswith("val/") and value >= 1 for name, value in logged(cfg).items())
    cfg = composed("model=pconv", *ONE_STEP)
    train(cfg)
    assert logged(cfg) == {}
