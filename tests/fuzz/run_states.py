"""Fuzzed states of runs: valid checkpoints with one to three parts of another meaning."""

import json
import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor, nn

import src.common.resolvers  # noqa: F401
from src.training.optimizers import fuse
from src.training.resume.checkpoints import find_resume_point
from src.training.resume.run_state import keep_implementation, require_optimizer_state, require_run_state
from src.training.run import train
from src.training.setup import make_callbacks, make_module
from src.training.trainer import make_trainer

CONF = Path(__file__).parents[2] / "conf"
_REQUIRED = {"state_dict", "global_step", "loops", "callbacks", "optimizer_states", "lr_schedulers"}


def junk(kind: int, given: Any) -> Any:
    """Return one of `JUNK` values of other kinds, shapes or ranges than the given one."""
    tensor = given if isinstance(given, Tensor) else torch.zeros(2, 3)
    makers: list[Callable[[], Any]] = [
        lambda: None,
        lambda: -1,
        lambda: 3,
        lambda: 2**80,
        lambda: math.nan,
        lambda: math.inf,
        lambda: 1e-9,
        lambda: True,
        lambda: "",
        lambda: "../../etc/passwd",
        lambda: [],
        lambda: {},
        lambda: [[1], {"a": None}],
        lambda: {0: {}, "step": -1},
        lambda: torch.tensor(math.nan),
        lambda: tensor.flatten()[:1] + 0,
        lambda: tensor[None],
        lambda: tensor.mT if tensor.dim() > 1 else tensor.double(),
        lambda: tensor.to(torch.float16),
        lambda: tensor.to(torch.int64),
        lambda: tensor.to(torch.complex64),
        lambda: tensor.to("meta"),
        lambda: torch.zeros(tensor.shape).to_sparse(),
        lambda: torch.zeros(()).expand(tensor.shape),
        lambda: torch.full_like(tensor, math.inf) if tensor.is_floating_point() else tensor - 9,
        lambda: -tensor.abs() - 1,
        lambda: torch.empty(0),
        lambda: torch.quantize_per_tensor(torch.ones(tensor.shape), 0.1, 0, torch.quint8),
        lambda: given,
    ]
    try:
        return makers[kind % len(makers)]()
    except RuntimeError:  # of a tensor that is sparse or quantised already
        return None


def places(node: Any, depth: int = 12) -> Iterator[tuple[Any, Any]]:
    """Yield all containers with each of their keys or positions."""
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        if depth:
            yield from places(node[key], depth - 1)


def changed(content: Any, recipe: list[list[int]]) -> Any:
    """Return a copy of a checkpoint with the changes of a recipe: a place, and what happens there."""
    content = _copied(content)
    for where, what in recipe:
        found = list(places(content))
        if not found:
            break
        parent, key = found[where % len(found)]
        if what % 5 == 0:
            del parent[key]
        elif what % 5 == 1 and isinstance(parent, dict):
            parent[("step", 0, "params", "x", 99, "l1")[what % 6]] = parent.pop(key)
        else:
            parent[key] = junk(what, parent[key])
    return content


def recipe(data: bytes, rng: Random) -> bytes:
    """Return one to three changes."""
    return json.dumps([[rng.randrange(1 << 30), rng.randrange(1 << 30)] for _ in range(rng.randint(1, 3))]).encode()


def _copied(node: Any) -> Any:
    """Copy the containers, not the tensors."""
    if isinstance(node, dict):
        return {key: _copied(value) for key, value in node.items()}
    return [_copied(value) for value in node] if isinstance(node, list) else node


# Optimisers: of each kind a new one, and the state of one that has taken a step


KINDS: tuple[tuple[Any, dict[str, Any]], ...] = (
    (torch.optim.Adam, {"betas": (0.5, 0.9)}),
    (torch.optim.AdamW, {"amsgrad": True, "foreach": False}),
    (torch.optim.SGD, {"momentum": 0.9}),
    (torch.optim.RMSprop, {"centered": True}),
)


def optimizer_of(kind: int) -> torch.optim.Optimizer:
    """Return a new optimiser of two layers' weights."""
    made, options = KINDS[kind]
    layers = nn.Conv2d(2, 3, 3), nn.Linear(4, 2)
    optimizer: torch.optim.Optimizer = made([p for layer in layers for p in layer.parameters()], lr=1e-3, **options)
    fuse(optimizer)
    return optimizer


def take_step(optimizer: torch.optim.Optimizer) -> None:
    """Take a step with small gradients."""
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()


@cache
def saved_state(kind: int) -> dict[str, Any]:
    """Return the state after a step."""
    optimizer = optimizer_of(kind)
    take_step(optimizer)
    return optimizer.state_dict()


def load_optimizer_state(path: Path, rng: Random) -> None:
    """Load a changed state into a new optimiser, and take a step, which must only write where it may."""
    kind = rng.randrange(len(KINDS))
    state = changed(saved_state(kind), json.loads(path.read_bytes()))
    optimizer = optimizer_of(kind)
    optimizer.register_load_state_dict_pre_hook(
        lambda one, given: (require_optimizer_state(one, given, path), keep_implementation(one, given))[0]  # type: ignore[func-returns-value]
    )
    optimizer.load_state_dict(state)
    take_step(optimizer)
    for parameter, entry in optimizer.state.items():
        for key, value in entry.items():
            assert not isinstance(value, Tensor) or value.shape in ((), parameter.shape), key


# Whole checkpoints of a short run


@cache
def stopped_run(photos: Path, folder: Path) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Train two steps, and return the configuration, its plain values and the content of the checkpoint."""
    overrides = [
        *("data=folder", f"data.root={photos}", "trainer=cpu", "workers=0", "trainer.enable_progress_bar=false"),
        *("scale=smoke", "model=lbam", "callbacks=ema", "callbacks.progress=null", "trainer.max_steps=2"),
        *("callbacks.references=null", "callbacks.sample_images=null", "trainer.max_time=00:10:00:00"),
        *("bank_masks_per_bin=1", f"output_dir={folder}", "resume=null"),
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides)
    train(cfg)
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return cfg, OmegaConf.to_container(cfg, resolve=True), content  # type: ignore[return-value]


def new_run(cfg: Any, config: dict[str, Any]) -> Callable[[], tuple[Any, Any]]:
    """Return a function that returns Trainer and module of a run that has not started."""
    module = make_module(cfg, config, find_resume_point(None, Path(), config))
    trainer = make_trainer(cfg.trainer, callbacks=make_callbacks(cfg), logger=False)
    callbacks, loops = trainer.callbacks, trainer.fit_loop.state_dict()

    def parts() -> tuple[Any, Any]:
        new = SimpleNamespace(
            callbacks=deepcopy(callbacks), fit_loop=SimpleNamespace(state_dict=lambda: loops), precision="32-true",
            precision_plugin=trainer.precision_plugin, max_epochs=trainer.max_epochs,
        )  # fmt: skip
        return new, module

    return parts


def check_run_state(folder: Path) -> Callable[[Path, Random], None]:
    """Return a function that checks a changed checkpoint as a resumed run does."""
    photos = folder / "photos"
    photos.mkdir()
    for number in range(10):
        Image.new("RGB", (90, 80), (20 * number, 60, 99)).save(photos / f"{number}.png")
    cfg, config, content = stopped_run(photos, folder / "stopped")
    parts = new_run(cfg, config)
    without_config = {key: value for key, value in content.items() if key != "config"}

    def check(path: Path, rng: Random) -> None:
        given = changed(without_config, json.loads(path.read_bytes()))
        # A file without these is not read as a checkpoint.
        given |= {key: content[key] for key in _REQUIRED - given.keys()}
        if type(given["global_step"]) is not int:
            given["global_step"] = content["global_step"]
        trainer, module = parts()
        require_run_state(trainer, module, given, path)

    return check
