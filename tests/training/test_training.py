"""Training procedures: what a step changes, and that steps are generator steps."""

import copy
import csv
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from src.checkpoints.reading import load_checkpoint
from src.common.errors import InputError
from src.training.run import train

MODELS = ("lbam", "pconv", "contextual_attention", "mpga_gla", "edge_lbam")
RELEASES = (
    *("lbam_printed", "lbam_release", "pconv_release", "contextual_attention_release"),
    *("edge_lbam_printed", "edge_lbam_release", "mecnet_release"),
    *("dfnet", "edge_connect", "edge_connect_plus"),
    *("gmcnn", "gmcnn_release", "medfe", "medfe_release", "picnet"),
)


def weights(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("model", [*MODELS, *RELEASES])
def test_smoke_run_leaves_a_checkpoint_that_rebuilds_its_network(composed, model):
    cfg = composed(f"model={model}")
    trainer = train(cfg)
    assert trainer.global_step == 3
    assert trainer.callback_metrics["val/psnr"].isfinite()
    for name in ("last", "best"):
        checkpoint = load_checkpoint(Path(cfg.output_dir) / "checkpoints" / f"{name}.ckpt")
        assert checkpoint.step == 3
        trained = trainer.lightning_module.network.state_dict()
        assert all(torch.equal(t, trained[key]) for key, t in checkpoint.network.state_dict().items())
    assert list(Path(cfg.output_dir, "samples").glob("*.png"))


def test_every_loss_term_is_logged_under_its_name_by_generator_step(composed):
    cfg = composed("model=lbam", "trainer.max_steps=4", "accumulate=2", "trainer.log_every_n_steps=1")
    train(cfg)
    rows = list(csv.DictReader(Path(cfg.output_dir, "csv", "metrics.csv").read_text().splitlines()))
    terms = {f"train/{name}" for name in cfg.loss.terms}
    assert terms <= rows[0].keys()
    steps = [int(row["step"]) for row in rows if row["train/l1"]]
    assert steps == [1, 2, 3, 4]  # two batches per step, one row per step


@pytest.mark.parametrize("model", MODELS)
def test_max_steps_counts_generator_steps(composed, train_watched, model):
    no_validation = ("trainer.limit_val_batches=0", "callbacks.best=null")
    trainer, watch = train_watched(composed(f"model={model}", "trainer.max_steps=3", "accumulate=2", *no_validation))
    assert trainer.global_step == 3
    assert watch.batches == 3 * trainer.lightning_module.batches_per_step
    assert trainer.lightning_module.batches_per_step == (12 if model == "contextual_attention" else 2)
    assert watch.changed[0] == set()  # the first batch of a window steps nothing


def test_one_step_changes_generator_and_critic_but_not_the_extractor(composed, train_watched):
    trainer, watch = train_watched(composed("model=lbam", "trainer.max_steps=1"))
    module = trainer.lightning_module
    assert any(name.startswith("network.") for name in watch.changed[0])
    assert any(name.startswith("loss.terms.adversarial.critic") for name in watch.changed[0])
    assert module.loss.extractor is not None
    assert not list(module.loss.extractor.parameters())


def test_critic_and_generator_steps_change_only_their_own_weights(composed, monkeypatch):
    from src.training.procedures.adversarial import AdversarialTraining

    seen = {}
    for name in ("step_critic", "step_generator"):

        def wrapped(self, *args, original, name):
            before = weights(self)
            original(self, *args)
            seen[name] = changed(before, weights(self))

        original = getattr(AdversarialTraining, name)
        monkeypatch.setattr(AdversarialTraining, name, partialmethod(wrapped, original=original, name=name))
    train(composed("model=lbam", "trainer.max_steps=1"))
    assert seen["step_critic"]
    assert all(name.startswith("loss.terms.adversarial.critic") for name in seen["step_critic"])
    assert seen["step_generator"]
    assert all(name.startswith("network.") for name in seen["step_generator"])


def test_without_the_adversarial_term_there_is_no_critic(composed):
    trainer = train(composed("model=lbam", "loss.terms.adversarial=null"))
    assert len(trainer.optimizers) == 1
    assert not any("critic" in name for name, _ in trainer.lightning_module.named_parameters())


def test_clipping_bounds_the_gradient_of_each_optimizer(composed, monkeypatch):
    from src.training.manual_training import ManualTraining

    norms = []
    original = ManualTraining.on_before_optimizer_step

    def recorded(self, optimizer):
        original(self, optimizer)
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms.append(torch.linalg.vector_norm(torch.cat([g.flatten() for g in grads])).item())

    monkeypatch.setattr(ManualTraining, "on_before_optimizer_step", recorded)
    train(composed("model=lbam", "clip_norm=0.001"))
    assert len(norms) == 6  # critic and generator, three steps
    assert max(norms) == pytest.approx(0.001, rel=1e-2)


def test_checkpoint_holds_the_moving_average(composed):
    cfg = composed("model=pconv", "callbacks=ema", "callbacks.ema.decay=0.5", "trainer.max_steps=3")
    train(cfg)
    saved = torch.load(Path(cfg.output_dir) / "checkpoints" / "last.ckpt", weights_only=True)
    name = "network.encoder.0"
    average = {k: v for k, v in saved["state_dict"].items() if k.startswith(name) and v.is_floating_point()}
    assert any(not torch.equal(value, saved["current_model_state"][key]) for key, value in average.items())


def test_fine_tuning_freezes_the_encoders_batch_norm_and_lowers_the_rate(composed, train_with):
    cfg = composed(
        "model=pconv", "trainer.max_steps=4", "model.training.fine_tuning_share=0.5", "trainer.val_check_interval=1"
    )  # fmt: skip
    states, rates = [], []

    class Norms(Callback):
        def on_train_batch_end(self, trainer, module, *_):
            states.append([copy.deepcopy(norm.state_dict()) for norm in module.network.encoder_batch_norms()])
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    train_with(Norms(), cfg)
    same = [
        all(torch.equal(a[key], b[key]) for a, b in zip(states[i], states[i + 1], strict=True) for key in a)
        for i in range(3)
    ]
    assert same == [False, True, True]
    assert rates == pytest.approx(
        [1e-3, 7.5e-4, 5e-4 / 4, 2.5e-4 / 4]
    )  # linear to 0, and a quarter in the second stage


@pytest.mark.parametrize("model", ["lbam", "pconv"])
def test_resumed_run_equals_an_uninterrupted_one(interrupted, model):
    straight, resumed = interrupted(6, 3, f"model={model}")
    assert all(torch.equal(t, resumed[key]) for key, t in straight.items())


def test_finished_run_resumes_with_more_steps(composed, tmp_path):
    train(composed("model=pconv", f"output_dir={tmp_path / 'short'}"))
    last = tmp_path / "short" / "checkpoints" / "last.ckpt"
    before = load_checkpoint(last).network.state_dict()
    cfg = composed("model=pconv", "trainer.max_steps=8", f"resume={last}", "trainer.log_every_n_steps=1")
    after = train(cfg).lightning_module.network.state_dict()
    assert any(not torch.equal(t, after[key]) for key, t in before.items())
    rows = csv.DictReader(Path(cfg.output_dir, "csv", "metrics.csv").read_text().splitlines())
    rates = [float(row["train/learning_rate"]) for row in rows if row["train/learning_rate"]]
    assert rates == pytest.approx([1e-3 * (8 - step) / 8 for step in range(3, 8)])


def test_validation_inside_a_window_keeps_its_gradients(composed, tmp_path):
    def trained(name, *overrides):
        cfg = composed("model=pconv", "accumulate=2", f"output_dir={tmp_path / name}", *overrides)
        return train(cfg).lightning_module.network.state_dict()

    seldom, often = trained("seldom", "trainer.val_check_interval=4"), trained("often", "trainer.val_check_interval=1")
    assert all(torch.equal(t, often[key]) for key, t in seldom.items())


@pytest.mark.parametrize("steps", [1, 4])
def test_last_step_is_saved_without_a_validation_there(composed, steps):
    cfg = composed("model=pconv", f"trainer.max_steps={steps}")
    train(cfg)
    assert load_checkpoint(Path(cfg.output_dir) / "checkpoints" / "last.ckpt").step == steps


def test_epochs_can_limit_the_run(composed):
    cfg = composed("model=pconv", "trainer.max_steps=-1", "trainer.max_epochs=1")
    trainer = train(cfg)
    assert trainer.global_step == 4  # eight training images, two per batch
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 / 4)
    assert load_checkpoint(Path(cfg.output_dir) / "checkpoints" / "last.ckpt").step == 4


def test_large_seed_is_valid(composed):
    train(composed("model=lbam", "seed=20261121", "trainer.max_steps=1"))


def test_resume_without_anything_to_resume_is_rejected(composed, tmp_path):
    with pytest.raises(InputError, match="no checkpoint at"):
        train(composed("model=pconv", f"resume={tmp_path / 'gone.ckpt'}"))
    train(composed("model=pconv"))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with pytest.raises(InputError, match=r"step 3 of 3 already.*trainer.max_steps"):
        train(composed("model=pconv", f"resume={last}"))
    with pytest.raises(InputError, match="another network"):
        train(composed("model=lbam", "trainer.max_steps=4", f"resume={last}"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=telea"], "model=telea has no weights"),
        (["loss=lbaam"], "unknown loss"),
        (["trainer.max_steps=-1"], "the run has no end"),
        (["trainer.max_steps=0"], "nothing was trained"),
        (["trainer=gpu"], "trainer: No supported gpu"),
        (["trainer.gradient_clip_val=1"], "set clip_norm="),
        (["trainer.accumulate_grad_batches=2"], "set accumulate="),
        (["accumulate=0"], "accumulate must be"),
        (["clip_norm=0"], "clip_norm must be"),
        (["data.root=/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_error_message_names_the_key(composed, overrides, message):
    with pytest.raises(InputError, match=message):
        train(composed(*overrides))
