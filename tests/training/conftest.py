"""Fixtures that train and observe."""

from collections.abc import Callable

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback

from src.training.run import train


class Watch(Callback):
    """Counts batches, and records the names of the parameters that each changes."""

    def __init__(self):
        self.changed, self.batches = [], 0

    def on_train_batch_start(self, trainer, module, *_):
        self.before = {name: p.detach().clone() for name, p in module.named_parameters()}

    def on_train_batch_end(self, trainer, module, *_):
        self.batches += 1
        self.changed.append({name for name, p in module.named_parameters() if not torch.equal(p, self.before[name])})

    def changed_parts(self, depth: int = 2) -> list[set[str]]:
        """Return the same by the first parts of the names: network, loss.terms.adversarial.critic ..."""
        return [{".".join(name.split(".")[:depth]) for name in names} for names in self.changed]


class StopAfter(Callback):
    """Stops as an interrupted run does, after a validation."""

    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.global_step >= self.steps


@pytest.fixture
def train_with(monkeypatch) -> Callable:
    """`train_with(callback, cfg)` trains with an additional callback."""

    def trained(callback, cfg):
        def patched(node, **arguments):
            made = instantiate(node, **arguments)
            # without enable_progress_bar=False, which a run without this callback has
            return lambda callbacks, enable_progress_bar=True, **rest: made(callbacks=[*callbacks, callback], **rest)

        with monkeypatch.context() as patch:
            patch.setattr("src.training.trainer.instantiate", patched)
            return train(cfg)

    return trained


@pytest.fixture
def train_watched(train_with) -> Callable:
    """`train_watched(cfg)` returns the Trainer and a `Watch`."""

    def trained(cfg):
        watch = Watch()
        return train_with(watch, cfg), watch

    return trained


@pytest.fixture
def interrupted(composed, tmp_path, train_with) -> Callable:
    """`interrupted(steps, at, *overrides)` returns the weights of a whole run, and of one stopped and resumed."""

    def trained(steps, at, *overrides):
        light = ["callbacks.sample_images=null", "callbacks.references=null"]  # half the time of such a run
        options = [*light, *overrides, f"trainer.max_steps={steps}"]
        straight = train(composed(*options, f"output_dir={tmp_path / 'whole'}")).lightning_module.state_dict()
        train_with(StopAfter(at), composed(*options, f"output_dir={tmp_path / 'half'}"))
        last = tmp_path / "half" / "checkpoints" / "last.ckpt"
        assert torch.load(last, weights_only=True)["global_step"] == at
        trainer = train(composed(*options, f"output_dir={tmp_path / 'rest'}", f"resume={last}"))
        assert trainer.global_step == steps
        return straight, trainer.lightning_module.state_dict()

    return trained
