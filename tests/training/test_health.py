"""Divergence stops a run before its weights or checkpoints are affected; warnings of critics and weights."""

import math
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from src.checkpoints.reading import load_checkpoint
from src.common.errors import InputError, report_input_errors
from src.losses.adversarial import GradientPenalty, ScoreTerm
from src.losses.inputs import LossInput
from src.losses.objectives import LeastSquares, Lorentzian, NonSaturating, RelativisticAverageHinge, Wasserstein
from src.losses.reconstruction import L1, ValidL1
from src.networks.interface import InpaintingOutput
from src.training.callbacks.health import DivergedError, TrainingHealth
from src.training.run import train

WINDOW = 10


@pytest.fixture
def spoil(monkeypatch):
    """`spoil(part, name, call, value)` multiplies a method's result at its `call`-th call, from 1, by `value`."""

    def spoil_result(part, name, call, value):
        original, calls = getattr(part, name), []

        def method(self, *args):
            calls.append(None)
            result = original(self, *args)
            return result * value if len(calls) == call else result

        monkeypatch.setattr(part, name, method)

    return spoil_result


def saved(cfg):
    return load_checkpoint(Path(cfg.output_dir) / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_loss_stops_the_run_before_the_step_and_keeps_the_checkpoint(composed, spoil, value):
    cfg = composed("model=lbam", "trainer.max_steps=5", "trainer.val_check_interval=1")
    spoil(L1, "forward", 3, value)
    with pytest.raises(SystemExit, match=r"^error: ") as ended:
        report_input_errors(train)(cfg)
    message = str(ended.value)
    path = Path(cfg.output_dir, "checkpoints", "last.ckpt")
    for words in (
        f"generator step 3: l1 is {value}, loss is {value}; ",
        f"the last good checkpoint is {path}",
        "lower",
    ):
        assert words in message
    assert message.count("\n") == 0
    assert saved(cfg).step == 2
    assert all(t.isfinite().all() for t in saved(cfg).network.state_dict().values())


def test_non_finite_loss_leaves_the_weights_unchanged(composed, train_watched, train_with, spoil):
    class Weights(Callback):
        def on_train_batch_start(self, trainer, module, *_):
            self.before = {name: p.detach().clone() for name, p in module.network.named_parameters()}

        def on_exception(self, trainer, module, exception):
            self.kept = all(torch.equal(p, self.before[name]) for name, p in module.network.named_parameters())

    weights = Weights()
    spoil(ValidL1, "forward", 2, math.nan)
    with pytest.raises(DivergedError, match="generator step 2: valid is nan"):
        train_with(weights, composed("model=pconv"))
    assert weights.kept


def test_diverged_critic_is_named_by_its_term(composed, spoil):
    spoil(Wasserstein, "critic", 2, math.inf)
    named = r"generator step 2: adversarial/critic_wasserstein is -?inf, adversarial/critic is -?inf; there is no check"
    with pytest.raises(DivergedError, match=named):
        train(composed("model=lbam"))


def test_every_batch_of_a_window_is_checked_before_saving(composed, spoil):
    spoil(ValidL1, "forward", 3, math.nan)  # the first of two batches of step 2
    cfg = composed("model=pconv", "accumulate=2", "trainer.val_check_interval=1")
    with pytest.raises(DivergedError, match="generator step 2: valid is nan"):
        train(cfg)
    assert saved(cfg).step == 1


class SpoilGradients(Callback):
    """Make the gradients of one part NaN in one step."""

    def __init__(self, part, step):
        self.part, self.step = part, step

    def on_train_batch_start(self, trainer, module, *_):
        if trainer.global_step == self.step:
            parameter = next(p for name, p in module.named_parameters() if name.startswith(self.part))
            parameter.register_hook(lambda gradient: gradient * math.nan)


@pytest.mark.parametrize(("part", "loss"), [("network", "loss"), ("loss.terms.adversarial", "adversarial/critic")])
def test_non_finite_gradient_of_a_finite_loss_stops_the_run(composed, train_with, part, loss):
    cfg = composed("model=lbam", "trainer.val_check_interval=1")
    with pytest.raises(DivergedError, match=rf"generator step 2: {loss} is -?\d.*, but the norm of its gradient nan;"):
        train_with(SpoilGradients(part, 1), cfg)
    assert saved(cfg).step == 1


class SpoilBuffer(Callback):
    """Make a running mean NaN, which no training loss reads."""

    def on_train_batch_end(self, trainer, module, *_):
        if trainer.global_step == 2:
            name, buffer = next((n, b) for n, b in module.network.named_buffers() if n.endswith("running_mean"))
            self.name = f"network.{name}"
            buffer.fill_(math.nan)


def test_non_finite_weights_are_not_saved(composed, train_with):
    cfg, spoil_buffer = composed("model=lbam", "trainer.val_check_interval=1"), SpoilBuffer()
    with pytest.raises(DivergedError) as ended:
        train_with(spoil_buffer, cfg)
    assert f"{spoil_buffer.name} has values that are not finite, so it is not saved" in str(ended.value)
    for name in ("last", "best"):
        path = Path(cfg.output_dir) / "checkpoints" / f"{name}.ckpt"
        assert load_checkpoint(path).step == 1


def test_without_the_callback_the_run_continues_and_losses_do_not_accumulate(composed, spoil):
    spoil(ValidL1, "forward", 2, math.nan)
    module = train(composed("model=pconv", "callbacks.health=null")).lightning_module
    assert not all(p.isfinite().all() for p in module.parameters())
    assert set(module.pending_losses) == {*module.loss.terms, "loss"}  # of the last batch


def test_exploding_learning_rate_is_detected(composed):
    with pytest.raises(DivergedError, match=r"generator step \d+: .*adversarial"):
        train(composed("model=lbam", "trainer.max_steps=30", "scale.learning_rate=3"))


class Fed:
    """A `TrainingHealth` without a Trainer that gets values one by one."""

    def __init__(self, factor=1000.0, window=100):
        self.health = TrainingHealth(factor, 0.95, window, losing_share=0.9, gradient_ratio=(0.01, 2.0))
        self.trainer = SimpleNamespace(
            strategy=SimpleNamespace(reduce=lambda tensor, reduce_op: tensor), global_step=0, is_global_zero=True,
            precision="32-true", checkpoint_callbacks=[], checkpoint_callback=None, ckpt_path=None,
            log_every_n_steps=1, state=SimpleNamespace(fn=TrainerFn.FITTING), callback_metrics={},
        )  # fmt: skip
        loss = SimpleNamespace(weights={"adversarial": 0.1})
        self.module = SimpleNamespace(batches_per_step=1, loss=loss, generator_steps=100, monitor="val/psnr")

    def __call__(self, *values, name="adversarial/critic"):
        for value in values:
            self.module.pending_losses = {name: torch.tensor(value)}
            self.health.on_train_batch_end(self.trainer, self.module, None, None, 0)
            self.trainer.global_step += 1

    def validate(self, step, **scores):
        self.trainer.global_step = step
        self.trainer.callback_metrics = {f"val/{name}": torch.tensor(value) for name, value in scores.items()}
        self.health.on_validation_end(self.trainer, self.module)


def test_loss_explodes_above_a_multiple_of_its_median():
    fed = Fed()
    fed(*[-5.0] * 20, 4999.0, -4999.0)  # spikes below the limit
    with pytest.raises(
        DivergedError, match=r"step 23: adversarial/critic is -5001, .* last 22 values is 5: more than .*=1000"
    ):
        fed(-5001.0)


def test_drifting_scores_and_a_resting_hinge_do_not_count_as_exploded():
    fed = Fed()
    fed(*(-(1.02**step) for step in range(2000)))  # to -1.6e17, an e-fold every fifty steps
    fed(*[0.0] * 200, 2.0, 900.0, name="hinge")
    fed(*(10.0**step for step in range(9)), name="fresh")  # fewer than ten values have no median yet
    with pytest.raises(DivergedError, match="hinge is 1100"):
        fed(1100.0, name="hinge")
    Fed(factor=math.inf)(*[1.0] * 20, 1e30)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("explosion_factor", 1),
        ("explosion_factor", math.nan),
        ("winning_share", 0.4),
        ("winning_share", 2),
        ("losing_share", 0.5),
        ("window", 9),
        ("gradient_ratio", [2, 0.1]),
        ("gradient_ratio", [0.1]),
    ],
)
def test_arguments_out_of_range_are_rejected(argument, value):
    given = {
        "explosion_factor": 10.0,
        "winning_share": 0.9,
        "losing_share": 0.9,
        "window": 10,
        "gradient_ratio": [0.01, 2],
        argument: value,
    }
    with pytest.raises(InputError, match=rf"callbacks\.health\.{argument} must"):
        TrainingHealth(**given)


def test_winning_critic_causes_one_warning_until_it_recovers(caplog):
    fed = Fed(window=WINDOW)

    def warnings(*rates):
        caplog.clear()
        fed(*rates, name="patches/critic_won")
        return [record.getMessage() for record in caplog.records]

    assert warnings(*[1.0] * (WINDOW - 1)) == []
    (warning,) = warnings(1.0)
    assert warning.startswith("generator step 10: the critic of patches has won: ")
    assert "train/patches/critic_won averages 100.0 %" in warning
    assert warnings(*[0.6, 1.0] * 20) == []  # not below 0.5 on average: not recovered
    assert warnings(*[0.0] * WINDOW) == []
    (warning,) = warnings(*[1.0] * 2 * WINDOW)  # recovered, and won again
    assert warning.startswith("generator step 70: ")


def test_losing_critic_causes_one_warning_until_it_is_nearer_to_chance(caplog):
    fed = Fed(window=WINDOW)
    fed(*[1.0] * 9, 0.0, *[1.0, 0.8] * WINDOW, name="adversarial/critic_lost")
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith(
        "generator step 10: the critic of adversarial has lost: train/adversarial/critic_lost averages 90.0 %"
    )
    assert "a lower loss.weights.adversarial" in warning
    caplog.clear()
    fed(*[0.71] * WINDOW, *[1.0] * WINDOW, name="adversarial/critic_lost")  # 0.7 is the middle of 0.9 and 0.5
    assert caplog.records == []
    fed(*[0.69] * WINDOW, *[1.0] * WINDOW, name="adversarial/critic_lost")
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("ratio", "effect", "proposed"), [(3.0, "outweighs them", "0.01"), (0.001, "hardly", "30")])
def test_unbalanced_weight_causes_a_warning_with_a_balanced_weight(ratio, effect, proposed, caplog):
    fed = Fed(window=WINDOW)
    fed(*[0.3] * WINDOW, *[ratio] * 5, name="adversarial/gradient_ratio")
    assert caplog.records == []  # the median of the last ten is in the range
    fed(*[ratio] * 30, name="adversarial/gradient_ratio")
    (warning,) = [record.getMessage() for record in caplog.records]
    assert effect in warning
    assert "0.1 to 0.5 is healthy; loss.weights.adversarial is 0.1, try " + proposed in warning
    fed(*[0.3] * 40, *[ratio] * 40, name="adversarial/gradient_ratio")
    assert len(caplog.records) == 2


def test_gradient_ratio_never_stops_a_run():
    Fed(window=WINDOW)(*[0.3] * 20, 1e9, math.inf, math.nan, name="adversarial/gradient_ratio")


def test_window_in_steps_has_fewer_logged_ratios():
    fed = Fed(window=400)
    fed.trainer.log_every_n_steps, fed.module.batches_per_step = 40, 2  # batches, which are 20 steps
    fed(*[5.0] * 19, name="adversarial/gradient_ratio")
    assert fed.health._warned == set()
    fed(5.0, name="adversarial/gradient_ratio")
    assert fed.health._warned == {"adversarial/gradient_ratio"}


def test_window_of_ratios_is_limited_to_the_values_kept():
    fed = Fed(window=WINDOW)
    fed.module.batches_per_step = 32  # accumulate=32, each logged: 320 values in a window of steps
    fed(*[5.0] * WINDOW, name="adversarial/gradient_ratio")
    assert fed.health._warned == {"adversarial/gradient_ratio"}


def test_refinement_worse_than_the_coarse_stage_causes_a_warning_in_the_second_half(caplog):
    fed = Fed(window=50)
    fed.module.generator_steps = 60
    fed.validate(40, psnr=20.0, coarse_psnr=21.0)
    fed.module.generator_steps = 100
    fed.validate(49, psnr=20.0, coarse_psnr=21.0)
    assert caplog.records == []
    fed.validate(50, psnr=20.0, coarse_psnr=20.5)
    (warning,) = (record.getMessage() for record in caplog.records)
    assert "the refined image is worse than the coarse one" in warning
    assert "val/psnr 20.00 dB, val/coarse_psnr 20.50 dB" in warning
    fed.validate(60, psnr=20.0, coarse_psnr=20.5)
    fed.validate(70, psnr=20.5, coarse_psnr=20.5)
    fed.validate(80, psnr=20.0)
    fed.trainer.state.fn = TrainerFn.TESTING
    fed.validate(90, psnr=20.0, coarse_psnr=20.5)
    assert len(caplog.records) == 1


def test_network_below_the_mean_colour_causes_a_warning_in_the_second_half(caplog):
    fed = Fed(window=50)
    fed.validate(49, psnr_over_mean_colour=-1.0)
    fed.module.generator_steps = 200
    fed.validate(99, psnr_over_mean_colour=-1.0)
    assert caplog.records == []
    fed.validate(100, psnr=20.0, psnr_over_mean_colour=-1.25)
    (warning,) = (record.getMessage() for record in caplog.records)
    assert "step 100 of 200: filling the holes with the mean colour of the known pixels is 1.25 dB better" in warning
    fed.validate(110, psnr_over_mean_colour=-2.0)
    fed.validate(120, psnr_over_mean_colour=0.0)
    fed.trainer.state.fn = TrainerFn.TESTING
    fed.validate(130, psnr_over_mean_colour=-1.0)
    assert len(caplog.records) == 1
    fed.trainer.state.fn = TrainerFn.FITTING
    fed.validate(140, psnr_over_mean_colour=-0.5)
    assert len(caplog.records) == 2


def test_stage_without_filled_holes_is_not_compared(caplog):
    fed = Fed(window=50)
    fed.module.monitor = "val/edge_f1"
    fed.validate(90, psnr=10.0, coarse_psnr=20.0, psnr_over_mean_colour=-8.0)
    assert caplog.records == []


GAMES = {
    "hinge": {"hinge": RelativisticAverageHinge(), "lorentzian": Lorentzian()},
    "DCGAN": {"gan": NonSaturating()},
    "LSGAN": {"gan": LeastSquares()},
    "Wasserstein": {"gan": Wasserstein()},
    "Wasserstein, held by its penalty": {"gan": Wasserstein()},
}
PENALTIES = {"Wasserstein, held by its penalty": GradientPenalty()}


class Patches(nn.Sequential):
    def forward(self, image, mask):
        return super().forward(image)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("unlike", [True, False])
def test_winning_critic_differs_from_one_at_chance(game, unlike, caplog):
    """Train a critic on noise against dark grey, which differ, or against other noise, which does not."""
    torch.manual_seed(0)
    critic = Patches(nn.Conv2d(3, 8, 4, stride=4), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 1))
    term = ScoreTerm(critic, GAMES[game], PENALTIES.get(game))
    optimizer, fed, mask = torch.optim.Adam(critic.parameters(), lr=3e-2), Fed(window=20), torch.zeros(8, 1, 16, 16)
    for _ in range(200):
        ours = torch.full((8, 3, 16, 16), 0.2) if unlike else torch.rand(8, 3, 16, 16)
        loss, parts = term.critic_loss(LossInput(torch.rand(8, 3, 16, 16), mask, InpaintingOutput(ours)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        fed(parts["critic_won"].item(), name="patches/critic_won")
    assert len(caplog.records) == (unlike and game not in PENALTIES)


@pytest.mark.parametrize("held", [True, False])
def test_critic_without_its_penalty_wins_in_training_and_causes_a_warning(composed, caplog, held):
    critic = "loss.terms.adversarial_global"
    cfg = composed(
        "model=contextual_attention", "loss.terms.adversarial_local=null", "trainer.max_steps=8",
        "callbacks.health.window=10", "callbacks.best=null", "trainer.limit_val_batches=0", "scale.learning_rate=1e-9",
        "scale.schedule._target_=src.training.schedules.constant",
        "model.training.critic_optimizer={_target_:torch.optim.Adam,_partial_:true,lr:1e-3,betas:[0.5,0.9]}",
        *([] if held else [f"{critic}.penalty=null"]),
    )  # fmt: skip
    trainer = train(cfg)
    messages = [record.getMessage() for record in caplog.records if record.name == "src.training.callbacks.health"]
    assert len(messages) == (0 if held else 1)
    assert all("the critic of adversarial_global has won" in line for line in messages)
    assert trainer.callback_metrics["train/adversarial_global/critic_won"] == (0 if held else 1)


def test_state_round_trip():
    fed, again = Fed(window=WINDOW), Fed(window=WINDOW)
    fed(*[1.0] * WINDOW, name="patches/critic_won")
    fed.validate(50, psnr=20.0, coarse_psnr=20.5)
    fed(0.5, -0.75, name="l1")
    again.health.load_state_dict(fed.health.state_dict())
    assert again.health.state_dict() == fed.health.state_dict()
    assert again.health._recent["l1"] == deque([0.5, -0.75])
    assert again.health._recent["l1"].maxlen == WINDOW


def test_state_of_a_resumed_run_equals_that_of_an_uninterrupted_one(interrupted, tmp_path):
    interrupted(6, 3, "model=lbam", "callbacks.best=null")
    states = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]["TrainingHealth"]
        for name in ("whole", "rest")
    ]
    assert states[0] == states[1]
    assert len(states[0]["recent"]["l1"]) == 6


def test_float16_gradients_may_overflow_until_the_loss_scale_has_vanished():
    fed, optimizer = Fed(), torch.optim.SGD([nn.Parameter(torch.ones(1))])
    optimizer.param_groups[0]["params"][0].grad = torch.tensor([math.inf])
    scaler = SimpleNamespace(get_scale=lambda: 2.0**-24)
    fed.trainer.precision_plugin = SimpleNamespace(scaler=scaler)
    module = SimpleNamespace(pending_losses={"loss": torch.tensor(1.0)})
    fed.health.on_before_optimizer_step(fed.trainer, module, optimizer)  # the scaler skips this step
    assert module.pending_losses == {}
    scaler.get_scale = lambda: 2.0**-25
    with pytest.raises(DivergedError, match=r"float16.s loss scale has fallen to 2\.98e-08"):
        fed.health.on_before_optimizer_step(fed.trainer, module, optimizer)
