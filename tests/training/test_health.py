"""What stops a run before it spoils its weights or its checkpoints, and what is warned of."""

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
    """`spoil(part, name, call, value)`: what the method returns at its `call`-th call, counted from 1, is `value`."""

    def spoilt(part, name, call, value):
        original, calls = getattr(part, name), []

        def method(self, *args):
            calls.append(None)
            result = original(self, *args)
            return result * value if len(calls) == call else result

        monkeypatch.setattr(part, name, method)

    return spoilt


def saved(cfg):
    return load_checkpoint(Path(cfg.output_dir) / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run_before_the_step_and_leaves_the_checkpoint(composed, spoil, value):
    cfg = composed("model=lbam", "trainer.max_steps=5", "trainer.val_check_interval=1")
    spoil(L1, "forward", 3, value)
    with pytest.raises(SystemExit, match=r"^error: ") as ended:
        report_input_errors(train)(cfg)
    said = str(ended.value)
    path = Path(cfg.output_dir, "checkpoints", "last.ckpt")
    for words in (
        f"generator step 3: l1 is {value}, loss is {value}; ",
        f"the last good checkpoint is {path}",
        "lower",
    ):
        assert words in said
    assert said.count("\n") == 0
    assert saved(cfg).step == 2
    assert all(t.isfinite().all() for t in saved(cfg).network.state_dict().values())


def test_the_weights_do_not_follow_it(composed, train_watched, train_with, spoil):
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


def test_a_critics_loss_is_called_by_its_term(composed, spoil):
    spoil(Wasserstein, "critic", 2, math.inf)
    named = r"generator step 2: adversarial/critic_wasserstein is -?inf, adversarial/critic is -?inf; there is no check"
    with pytest.raises(DivergedError, match=named):
        train(composed("model=lbam"))


def test_every_batch_of_a_window_is_looked_at_and_nothing_saved_after_it(composed, spoil):
    spoil(ValidL1, "forward", 3, math.nan)  # the first of two batches of step 2
    cfg = composed("model=pconv", "accumulate=2", "trainer.val_check_interval=1")
    with pytest.raises(DivergedError, match="generator step 2: valid is nan"):
        train(cfg)
    assert saved(cfg).step == 1


class SpoilGradients(Callback):
    """Gradients of one part that are not finite, from a step on."""

    def __init__(self, part, step):
        self.part, self.step = part, step

    def on_train_batch_start(self, trainer, module, *_):
        if trainer.global_step == self.step:
            parameter = next(p for name, p in module.named_parameters() if name.startswith(self.part))
            parameter.register_hook(lambda gradient: gradient * math.nan)


@pytest.mark.parametrize(("part", "loss"), [("network", "loss"), ("loss.terms.adversarial", "adversarial/critic")])
def test_a_gradient_that_is_no_number_behind_a_finite_loss_stops_the_run(composed, train_with, part, loss):
    cfg = composed("model=lbam", "trainer.val_check_interval=1")
    with pytest.raises(DivergedError, match=rf"generator step 2: {loss} is -?\d.*, but the norm of its gradient nan;"):
        train_with(SpoilGradients(part, 1), cfg)
    assert saved(cfg).step == 1


class SpoilBuffer(Callback):
    """A running mean that is not finite, which no training loss sees."""

    def on_train_batch_end(self, trainer, module, *_):
        if trainer.global_step == 2:
            name, buffer = next((n, b) for n, b in module.network.named_buffers() if n.endswith("running_mean"))
            self.name = f"network.{name}"
            buffer.fill_(math.nan)


def test_weights_that_are_not_finite_are_not_saved_whatever_made_them_so(composed, train_with):
    cfg, spoil_buffer = composed("model=lbam", "trainer.val_check_interval=1"), SpoilBuffer()
    with pytest.raises(DivergedError) as ended:
        train_with(spoil_buffer, cfg)
    assert f"{spoil_buffer.name} has values that are not finite, so it is not saved" in str(ended.value)
    for name in ("last", "best"):
        path = Path(cfg.output_dir) / "checkpoints" / f"{name}.ckpt"
        assert load_checkpoint(path).step == 1


def test_without_the_callback_a_run_goes_on_and_nothing_piles_up(composed, spoil):
    spoil(ValidL1, "forward", 2, math.nan)
    module = train(composed("model=pconv", "callbacks.health=null")).lightning_module
    assert not all(p.isfinite().all() for p in module.parameters())
    assert set(module.pending_losses) == {*module.loss.terms, "loss"}  # those of the last batch


def test_a_rate_that_makes_it_explode_is_noticed(composed):
    with pytest.raises(DivergedError, match=r"generator step \d+: .*adversarial"):
        train(composed("model=lbam", "trainer.max_steps=30", "scale.learning_rate=3"))


class Fed:
    """A `TrainingHealth` that is given values one by one, without a Trainer."""

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


def test_a_loss_explodes_past_a_multiple_of_its_usual_size():
    fed = Fed()
    fed(*[-5.0] * 20, 4999.0, -4999.0)  # spikes pass
    with pytest.raises(
        DivergedError, match=r"step 23: adversarial/critic is -5001, .* last 22 values is 5: more than .*=1000"
    ):
        fed(-5001.0)


def test_no_alarm_for_scores_that_drift_or_a_hinge_that_rests():
    fed = Fed()
    fed(*(-(1.02**step) for step in range(2000)))  # to -1.6e17, an e-fold every fifty steps
    fed(*[0.0] * 200, 2.0, 900.0, name="hinge")
    fed(*(10.0**step for step in range(9)), name="fresh")  # fewer than ten tell nothing of what is usual
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
def test_arguments_out_of_range_are_refused(argument, value):
    shares = {"winning_share": 0.9, "losing_share": 0.9}
    given = {"explosion_factor": 10.0, **shares, "window": 10, "gradient_ratio": [0.01, 2], argument: value}
    with pytest.raises(InputError, match=rf"callbacks\.health\.{argument} must"):
        TrainingHealth(**given)


def test_a_stretch_is_warned_of_once(caplog):
    fed = Fed(window=WINDOW)

    def warnings(*shares):
        caplog.clear()
        fed(*shares, name="patches/critic_won")
        return [record.getMessage() for record in caplog.records]

    assert warnings(*[1.0] * (WINDOW - 1)) == []
    (warning,) = warnings(1.0)
    assert warning.startswith("generator step 10: the critic of patches has won: ")
    assert "train/patches/critic_won averages 100.0 %" in warning
    assert warnings(*[0.6, 1.0] * 20) == []  # less, and more again: one stretch
    assert warnings(*[0.0] * WINDOW) == []
    (warning,) = warnings(*[1.0] * 2 * WINDOW)  # lost, and won again
    assert warning.startswith("generator step 70: ")


def test_a_critic_that_has_lost_is_warned_of_until_it_is_nearer_to_chance(caplog):
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
def test_a_weight_out_of_balance_is_warned_of_with_one_that_is_in_balance(ratio, effect, proposed, caplog):
    fed = Fed(window=WINDOW)
    fed(*[0.3] * WINDOW, *[ratio] * 5, name="adversarial/gradient_ratio")
    assert caplog.records == []  # the median of the last ten is still between
    fed(*[ratio] * 30, name="adversarial/gradient_ratio")
    (warning,) = [record.getMessage() for record in caplog.records]
    assert effect in warning
    assert "0.1 to 0.5 is healthy; loss.weights.adversarial is 0.1, try " + proposed in warning
    fed(*[0.3] * 40, *[ratio] * 40, name="adversarial/gradient_ratio")
    assert len(caplog.records) == 2


def test_a_ratio_of_any_size_stops_no_run():
    Fed(window=WINDOW)(*[0.3] * 20, 1e9, math.inf, math.nan, name="adversarial/gradient_ratio")


def test_ratios_are_logged_values_of_which_a_window_of_steps_has_fewer():
    fed = Fed(window=400)
    fed.trainer.log_every_n_steps, fed.module.batches_per_step = 40, 2  # batches, and so 20 steps
    fed(*[5.0] * 19, name="adversarial/gradient_ratio")
    assert fed.health._warned == set()
    fed(5.0, name="adversarial/gradient_ratio")
    assert fed.health._warned == {"adversarial/gradient_ratio"}


def test_many_batches_a_step_need_no_more_values_than_are_remembered():
    fed = Fed(window=WINDOW)
    fed.module.batches_per_step = 32  # accumulate=32, each logged: 320 values in a window of steps
    fed(*[5.0] * WINDOW, name="adversarial/gradient_ratio")
    assert fed.health._warned == {"adversarial/gradient_ratio"}


def test_a_network_below_its_coarse_stage_or_the_mean_colour_is_warned_of_in_the_second_half(caplog):
    fed = Fed(window=50)
    fed.module.generator_steps = 60
    fed.validate(40, psnr=20.0, coarse_psnr=21.0, psnr_over_mean_colour=-1.0)
    fed.module.generator_steps = 100
    fed.validate(49, psnr=20.0, coarse_psnr=21.0, psnr_over_mean_colour=-1.0)
    assert caplog.records == []
    fed.validate(50, psnr=20.0, coarse_psnr=20.5, psnr_over_mean_colour=-1.25)
    first, second = (record.getMessage() for record in caplog.records)
    assert "the refined image is worse than the coarse one" in first
    assert "val/psnr 20.00 dB, val/coarse_psnr 20.50 dB" in first
    assert "step 50 of 100: filling the holes with the mean colour of the known pixels is 1.25 dB better" in second
    fed.validate(60, psnr=20.0, coarse_psnr=20.5, psnr_over_mean_colour=-1.25)
    assert len(caplog.records) == 2
    fed.validate(70, psnr=20.5, coarse_psnr=20.5, psnr_over_mean_colour=0.0)
    fed.validate(80, psnr=20.0)
    assert len(caplog.records) == 2
    fed.trainer.state.fn = TrainerFn.TESTING
    fed.validate(90, psnr=20.0, coarse_psnr=20.5)
    assert len(caplog.records) == 2


def test_a_stage_without_images_is_not_compared_with_the_mean_colour(caplog):
    fed = Fed(window=50)
    fed.module.monitor = "val/edge_f1"
    fed.validate(90, psnr=10.0, psnr_over_mean_colour=-8.0)
    assert caplog.records == []


def test_an_earlier_checkpoint_remembers_winners():
    fed = Fed()
    fed.health.load_state_dict({"recent": {}, "winners": ["patches"]})
    assert fed.health._warned == {"patches/critic_won"}


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
def test_a_critic_that_wins_is_told_from_one_that_does_not(game, unlike, caplog):
    """A critic is trained, on noise against dark grey, which it can tell, or other noise, which it can not."""
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
def test_in_training_a_critic_without_its_penalty_runs_away_from_a_generator_and_is_warned_of(composed, caplog, held):
    critic = "loss.terms.adversarial_global"
    cfg = composed(
        "model=contextual_attention", "loss.terms.adversarial_local=null", "trainer.max_steps=8",
        "callbacks.health.window=10", "callbacks.best=null", "trainer.limit_val_batches=0", "scale.learning_rate=1e-9",
        "scale.schedule._target_=src.training.schedules.constant",
        "model.training.critic_optimizer={_target_:torch.optim.Adam,_partial_:true,lr:1e-3,betas:[0.5,0.9]}",
        *([] if held else [f"{critic}.penalty=null"]),
    )  # fmt: skip
    trainer = train(cfg)
    said = [record.getMessage() for record in caplog.records if record.name == "src.training.callbacks.health"]
    assert len(said) == (0 if held else 1)
    assert all("the critic of adversarial_global has won" in line for line in said)
    assert trainer.callback_metrics["train/adversarial_global/critic_won"] == (0 if held else 1)


def test_the_state_goes_through_a_checkpoint():
    fed, again = Fed(window=WINDOW), Fed(window=WINDOW)
    fed(*[1.0] * WINDOW, name="patches/critic_won")
    fed.validate(50, psnr=20.0, coarse_psnr=20.5)
    fed(0.5, -0.75, name="l1")
    again.health.load_state_dict(fed.health.state_dict())
    assert again.health.state_dict() == fed.health.state_dict()
    assert again.health._recent["l1"] == deque([0.5, -0.75])
    assert again.health._recent["l1"].maxlen == WINDOW


def test_what_is_remembered_survives_an_interruption(interrupted, tmp_path):
    interrupted(6, 3, "model=lbam", "callbacks.best=null")
    states = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]["TrainingHealth"]
        for name in ("whole", "rest")
    ]
    assert states[0] == states[1]
    assert len(states[0]["recent"]["l1"]) == 6


def test_under_float16_gradients_may_overflow_until_the_scale_is_gone():
    fed, optimizer = Fed(), torch.optim.SGD([nn.Parameter(torch.ones(1))])
    optimizer.param_groups[0]["params"][0].grad = torch.tensor([math.inf])
    scaler = SimpleNamespace(get_scale=lambda: 2.0**-24)
    fed.trainer.precision_plugin = SimpleNamespace(scaler=scaler)
    module = SimpleNamespace(pending_losses={"loss": torch.tensor(1.0)})
    fed.health.on_before_optimizer_step(fed.trainer, module, optimizer)  # the scaler leaves this step out
    assert module.pending_losses == {}
    scaler.get_scale = lambda: 2.0**-25
    with pytest.raises(DivergedError, match=r"float16.s loss scale has fallen to 2\.98e-08"):
        fed.health.on_before_optimizer_step(fed.trainer, module, optimizer)
