"""Every training procedure in mixed precision: the first step's losses, and what stays in float32."""

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision
from omegaconf import OmegaConf
from torch.testing import assert_close

from src.training.run import train
from src.training.trainer import make_trainer

NO_VALIDATION = ("trainer.limit_val_batches=0", "callbacks.best=null")
ONE_STAGE = ["model.training.only=[joint]"]
PROCEDURES = {
    "adversarial": ["model=lbam"],
    "adversarial, relativistic": ["model=mpga_gla"],
    "alternating": ["model=contextual_attention", "model.training.critic_steps=1"],
    "stages": ["model=edge_lbam", *ONE_STAGE],
    "fine-tuning": ["model=pconv", "model.training.fine_tuning_share=1"],
}


class Types(Callback):
    """Records the types of the critics' outputs under the gradient penalty, and the first logged losses."""

    def __init__(self):
        self.mixed, self.first = set(), {}

    def on_train_start(self, trainer, module):
        for term in module.loss.adversarial.values():
            term.critic.register_forward_hook(self.look)

    def look(self, critic, args, output):
        if args[0].requires_grad and args[0].is_leaf:  # the mixture of the gradient penalty
            self.mixed.add(output.dtype)

    def on_train_batch_end(self, trainer, module, *_):
        if trainer.global_step == 1 and not self.first:
            self.first = {
                name: value.clone()
                for name, value in trainer.callback_metrics.items()
                # fractions of few scores, which jump near a threshold
                if "train/" in name and not name.endswith(("critic_won", "critic_lost"))
            }


def first_losses(train_with, cfg):
    types = Types()
    module = train_with(types, cfg).lightning_module
    assert all(t.isfinite().all() for t in module.state_dict().values())
    return types


@pytest.mark.parametrize("procedure", PROCEDURES)
def test_bfloat16_starts_with_the_same_losses(procedure, composed, train_with):
    options = [*PROCEDURES[procedure], "trainer.max_steps=1", *NO_VALIDATION]
    exact = first_losses(train_with, composed(*options))
    half = first_losses(train_with, composed(*options, "trainer.precision=bf16-mixed"))
    assert exact.first.keys() == half.first.keys()
    assert "train/loss" in exact.first
    assert_close(half.first, exact.first, atol=2e-2, rtol=2e-2)
    assert any(value != exact.first[name] for name, value in half.first.items())
    assert half.mixed == exact.mixed <= {torch.float32}


class Steps(Callback):
    """Records the weights that each step changes, and the loss scale after it."""

    def __init__(self, spoilt=""):
        self.changed, self.scales, self.spoilt = [], [], spoilt

    def on_train_batch_start(self, trainer, module, *_):
        self.before = {name: p.detach().clone() for name, p in module.named_parameters()}

    def on_train_start(self, trainer, module):
        for name, p in module.named_parameters():
            if self.spoilt and self.spoilt in name:
                p.register_hook(lambda gradient: torch.full_like(gradient, torch.inf))

    def on_train_batch_end(self, trainer, module, *_):
        self.changed.append({name for name, p in module.named_parameters() if not torch.equal(p, self.before[name])})
        self.scales.append(trainer.precision_plugin.scaler.get_scale())


@pytest.fixture
def train_in_float16(monkeypatch):
    """Train on the CPU as 16-mixed does on a GPU: autocast to float16, and one loss scale for all optimisers."""

    def trained(cfg, *added):
        plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=64.0))

        def made(node, callbacks, plugins, **rest):
            return make_trainer(
                OmegaConf.merge(node, {"precision": None}),
                callbacks=[*callbacks, *added],
                plugins=[*plugins, plugin],
                **rest,
            )

        with monkeypatch.context() as patch:
            patch.setattr("src.training.run.make_trainer", made)
            return train(cfg)

    return trained


@pytest.mark.parametrize("procedure", PROCEDURES)
def test_float16_starts_with_the_same_losses_and_steps_all_parts(procedure, composed, train_with, train_in_float16):
    options = [*PROCEDURES[procedure], "trainer.max_steps=1", *NO_VALIDATION]
    exact, half, steps = Types(), Types(), Steps()
    train_with(exact, composed(*options))
    train_in_float16(composed(*options), half, steps)
    assert_close(half.first, exact.first, atol=5e-3, rtol=5e-3)
    assert half.mixed <= {torch.float32}
    parts = {name.partition(".critic.")[0].partition(".")[0] for batch in steps.changed for name in batch}
    assert parts == {"network", "loss"} if exact.mixed else "network" in parts
    assert set(steps.scales) == {64.0}


def test_overflow_in_the_critics_gradient_skips_only_its_step(composed, train_in_float16):
    steps = Steps(spoilt="critic")
    train_in_float16(composed("model=lbam", "trainer.max_steps=1", *NO_VALIDATION), steps)
    (changed,) = steps.changed
    assert {name.partition(".")[0] for name in changed} == {"network"}
    assert steps.scales == [32.0]
