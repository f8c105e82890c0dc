"""One seed, one result: each seed changes only what it names, and nothing else changes the result."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from src.training.run import train

ROOT = Path(__file__).parents[2]

PROCEDURES = {
    "lbam": ["model=lbam", "mask=random_shapes"],
    "edge_lbam": ["model=edge_lbam", "mask=irregular"],  # batches hold edges
    "contextual_attention": ["model=contextual_attention", "model.training.critic_steps=1", "mask=rectangles"],
}
"""The procedures that draw random numbers, with the masks that can be drawn."""


class Observed(Callback):
    """Records the initial weights, samples and random numbers of a run of one epoch."""

    def __init__(self):
        self.crops, self.masks, self.order, self.noise = {}, {}, [], []

    def on_train_start(self, trainer, module):
        self.weights = {name: p.detach().clone() for name, p in module.named_parameters()}
        self.validation_masks = trainer.datamodule.masks.validation_bank.hash

    def on_before_backward(self, trainer, module, loss):
        self.noise.append(torch.initial_seed())

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        indices = batch["index"].tolist()
        self.order += indices
        self.crops |= {index: image.numpy().tobytes() for index, image in zip(indices, batch["image"], strict=True)}
        self.masks |= {index: mask.numpy().tobytes() for index, mask in zip(indices, batch["mask"], strict=True)}


def differing(one: Observed, other: Observed) -> set[str]:
    """Return the names of `Observed` in which two runs differ."""
    same_weights = all(torch.equal(t, other.weights[name]) for name, t in one.weights.items())
    names = ("crops", "masks", "order", "noise", "validation_masks")
    return {name for name in names if getattr(one, name) != getattr(other, name)} | (
        set() if same_weights else {"weights"}
    )


CHANGED_BY = {
    "seed": {"crops", "masks", "order", "noise", "validation_masks", "weights"},
    "data.seed": {"crops", "order"},
    "mask_seed": {"masks", "validation_masks"},
    "init_seed": {"weights"},
    "noise_seed": {"noise"},
}


def test_each_seed_changes_what_it_names_and_nothing_else(composed, train_with):
    def observed(*overrides):
        options = ["model=lbam", "mask=strokes", "trainer.max_steps=4"]  # four batches: every image once
        off = ["trainer.limit_val_batches=0", "callbacks.best=null", "logger=[]"]
        seen = Observed()
        train_with(seen, composed(*options, *off, *overrides))
        assert sorted(seen.order) == list(range(8))
        return seen

    usual = observed()
    for key, expected in CHANGED_BY.items():
        assert differing(usual, observed(f"{key}=5")) == expected, key


def result(cfg, run=train):
    """Train, and return weights, optimiser states and the log."""
    trainer = run(cfg)
    state = {f"weights.{name}": t for name, t in trainer.lightning_module.state_dict().items()}
    for i, optimizer in enumerate(trainer.optimizers):
        for parameter, entries in optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{i}.{parameter}.{key}": t for key, t in entries.items()}
    return state, Path(cfg.output_dir, "csv", "metrics.csv").read_text()


def assert_same(one, other):
    assert one[0].keys() == other[0].keys()
    assert [name for name, value in one[0].items() if not torch.equal(value, other[0][name])] == []
    assert one[1] == other[1]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")  # on a machine of two cores
@pytest.mark.parametrize("model", ["lbam", "edge_lbam"])
def test_result_does_not_depend_on_the_number_of_workers(composed, tmp_path, model):
    options = [*PROCEDURES[model], "trainer.max_steps=5", "trainer.val_check_interval=2", "trainer.log_every_n_steps=1"]
    options += ["callbacks.sample_images=null", "callbacks.references=null", "callbacks.best=null"]
    one, other = (result(composed(*options, f"workers={n}", f"output_dir={tmp_path / str(n)}")) for n in (0, 3))
    assert_same(one, other)


def test_result_does_not_depend_on_the_cache(composed, tmp_path):
    options = [*PROCEDURES["lbam"], "trainer.max_steps=6", "data.samples_per_image.train=2", "callbacks.best=null"]
    plain = result(composed(*options, f"output_dir={tmp_path / 'plain'}"))
    for name, kept in {"none": ["data.cache_mib=0"], "in_workers": ["workers=2"]}.items():
        assert_same(plain, result(composed(*options, *kept, f"output_dir={tmp_path / name}")))


class Reseed(Callback):
    """Seeds every random state of the process at random."""

    def reseed(self, *_):
        for state in (random, np.random):
            state.seed(random.SystemRandom().getrandbits(32))
        cv2.setRNGSeed(random.SystemRandom().getrandbits(31))
        torch.manual_seed(random.SystemRandom().getrandbits(63))

    on_train_start = on_train_epoch_start = on_train_batch_start = on_train_batch_end = reseed
    on_validation_start = on_validation_batch_start = on_validation_end = reseed


@pytest.mark.parametrize("model", PROCEDURES)
def test_result_does_not_depend_on_the_random_states_of_the_process(composed, train_with, tmp_path, model):
    options = [
        *PROCEDURES[model],
        "trainer.val_check_interval=2",
        "callbacks.sample_images=null",
        "callbacks.best=null",
    ]
    options += ["trainer.log_every_n_steps=1", "workers=1"]
    alone = result(composed(*options, f"output_dir={tmp_path / 'alone'}"))
    reseeded = composed(*options, f"output_dir={tmp_path / 'reseeded'}")
    assert_same(alone, result(reseeded, lambda cfg: train_with(Reseed(), cfg)))


def test_result_does_not_depend_on_hash_seed_and_directory_order(composed, photo_folder, tmp_path):
    options = ["model=lbam", "mask=strokes", "callbacks.sample_images=null", "callbacks.references=null"]
    here = composed(*options)
    train(here)
    other_order = tmp_path / "photos"
    other_order.mkdir()
    for path in sorted(photo_folder.iterdir(), reverse=True):
        shutil.copy(path, other_order)
    overrides = [*options, "scale=smoke", "data=folder", f"data.root={other_order}", "trainer=cpu"]
    command = [sys.executable, "-m", "src.train", *overrides, f"output_dir={tmp_path / 'there'}"]
    environment = os.environ | {"PYTHONHASHSEED": "5", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    assert_same(outputs_of(Path(here.output_dir)), outputs_of(tmp_path / "there"))


def outputs_of(folder):
    """Return the weights and the log of a run."""
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return last["state_dict"], (folder / "csv" / "metrics.csv").read_text()
