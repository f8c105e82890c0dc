"""Trainings of all procedures in a single process or in two, and their results."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch import Callback
from torch import nn
from torch.nn import functional as F

import src.training.trainer
from src.losses.objectives import RelativisticAverageHinge
from src.training.run import train

CONF = Path(__file__).parents[2] / "conf"

LIGHT = "callbacks.references=null"
"""Saves a third of the time of such a run; one procedure has references."""

PROCEDURES = {
    "lbam": ["callbacks=ema", "model=lbam", "clip_norm=0.05", "callbacks.ema.decay=0.5", LIGHT],
    "edge_lbam": ["model=edge_lbam", LIGHT],  # three steps, one of each stage
    "pconv": ["model=pconv", "model.training.fine_tuning_share=0.5"],
    "contextual_attention": ["model=contextual_attention", "model.training.critic_steps=2", LIGHT],
    "mpga_gla": ["model=mpga_gla", LIGHT],
    "accumulating": ["model=lbam", "accumulate=2", LIGHT],
}
"""Overrides by name; three steps at smoke scale and a validation after the last; an epoch has two batches."""

COMMON = [
    *(
        "scale=smoke",
        "data=folder",
        "workers=0",
        "logger=[]",
        "bank_masks_per_bin=1",
    ),
    "data.eval_batch_size=5",  # one such batch is validated, which two processes cannot halve
    *(f"callbacks.{name}=null" for name in ("progress", "sample_images", "last", "best")),
    *("+trainer.enable_checkpointing=false", "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1"),
]


class HalvedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the halves of a batch that two processes hold, which tracks the statistics of the first."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        second = F.batch_norm(x[1::2], None, None, self.weight, self.bias, True, 0.0, self.eps)
        return torch.stack([super().forward(x[0::2]), second], dim=1).flatten(0, 1)


class Recorder(Callback):
    """Records initial state and logged values of a run; halves the batch norms of a single process."""

    def __init__(self):
        self.logged = []

    def setup(self, trainer, module, stage):
        if trainer.world_size == 1:
            for layer in module.modules():
                if type(layer) is nn.BatchNorm2d:
                    layer.__class__ = HalvedBatchNorm2d
        self.initial = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    def on_train_batch_end(self, trainer, *_):
        self.logged.append({name: value.item() for name, value in trainer.logged_metrics.items()})


@contextmanager
def one_more_callback(callback: Callback) -> Iterator[None]:
    def patched(node, **arguments):
        made = instantiate(node, **arguments)
        return lambda callbacks, **rest: made(callbacks=[*callbacks, callback], **rest)

    src.training.trainer.instantiate = patched
    yield
    src.training.trainer.instantiate = instantiate


def outcome(overrides: list[str], precision: str, photos: Path, folder: Path, alone: bool) -> dict[str, Any]:
    processes = ["trainer=cpu"] if alone else ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    options = [f"trainer.precision={precision}", f"data.root={photos}", f"output_dir={folder}"]
    cfg = compose("train", [*processes, *overrides, *COMMON, *options, f"batch_size={4 if alone else 2}"])
    recorder = Recorder()
    with one_more_callback(recorder):
        trainer = train(cfg)
    return {
        "initial": recorder.initial,
        "final": {name: tensor.clone() for name, tensor in trainer.lightning_module.state_dict().items()},
        "logged": recorder.logged,
        "validated": {key: value.item() for key, value in trainer.callback_metrics.items() if key.startswith("val/")},
    }


def hinge_gradient(index: int) -> torch.Tensor:
    """Return the gradient of scores on both sides of their margins, averaged as DDP averages those of a weight."""
    scores = 3 * torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    real, fake = scores.requires_grad_()[:, index::2] if index < 2 else scores.requires_grad_()
    RelativisticAverageHinge().critic(real, fake).backward()
    if index < 2:
        torch.distributed.all_reduce(scores.grad)
        scores.grad /= 2
    return scores.grad


def train_all(index: int, port: int, precision: str, photos: Path, folder: Path) -> None:
    """Train every procedure in processes 0 and 1 together and in 2 alone; each writes its results to `folder`."""
    torch.set_num_threads(1)
    if precision == "64-true":  # for losses and metrics too
        torch.Tensor.float = torch.Tensor.double
    if index < 2:
        os.environ |= {"LOCAL_RANK": str(index), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        outcomes = {
            name: outcome(overrides, precision, photos, folder / f"{name}_{index}", alone=index == 2)
            for name, overrides in PROCEDURES.items()
        }
    torch.save(outcomes | {"hinge": hinge_gradient(index)}, folder / f"{index}.pt")
