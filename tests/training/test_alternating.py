"""Algorithm 1 of contextual attention: turns of critics and generator, and what each changes."""

import pytest
import torch
from lightning.pytorch import Callback
from torch.testing import assert_close

from src.common.errors import InputError
from src.networks.contextual_attention import CoarseToFine
from src.training.run import train

CRITICS = {"loss.terms.adversarial_global", "loss.terms.adversarial_local"}


def by_part(watch):
    """Return what each batch changed: the network, or critics by their term."""
    return [{"network" if part.startswith("network") else part for part in parts} for parts in watch.changed_parts(3)]


def test_critics_step_on_five_batches_and_the_generator_on_the_sixth(composed, train_watched):
    trainer, watch = train_watched(composed("model=contextual_attention", "trainer.max_steps=2"))
    assert trainer.lightning_module.critic_steps == 5  # Algorithm 1
    assert by_part(watch) == 2 * [*(5 * [CRITICS]), {"network"}]  # 12 batches, four per epoch


def test_turn_takes_a_window_of_batches(composed, train_watched):
    few = ["model.training.critic_steps=1", "accumulate=2", "trainer.max_steps=2"]
    _, watch = train_watched(composed("model=contextual_attention", *few))
    assert by_part(watch) == 2 * [set(), CRITICS, set(), {"network"}]


def test_without_critics_the_generator_steps_on_every_batch(composed, train_watched):
    off = ["loss.terms.adversarial_global=null", "loss.terms.adversarial_local=null"]
    trainer, watch = train_watched(composed("model=contextual_attention", *off))
    assert by_part(watch) == 3 * [{"network"}]
    assert len(trainer.optimizers) == 1


def test_steps_of_an_epoch_are_whole_rounds(composed):
    few = ["model.training.critic_steps=2", "trainer.max_steps=-1", "trainer.max_epochs=2"]
    trainer = train(composed("model=contextual_attention", *few))
    assert trainer.global_step == 2  # eight batches, three per round
    assert trainer.lightning_module.generator_steps == 2


def test_run_resumed_within_an_epoch_equals_an_uninterrupted_one(interrupted):
    few = ["model.training.critic_steps=2", "accumulate=2"]
    straight, resumed = interrupted(4, 1, "model=contextual_attention", *few)
    assert all(torch.equal(t, resumed[key]) for key, t in straight.items())


def test_run_resumed_within_a_round_equals_an_uninterrupted_one(composed, tmp_path, train_with):
    class StopWithinARound(Callback):
        def on_train_batch_end(self, trainer, *_):
            trainer.should_stop = trainer.fit_loop.total_batch_idx == 4  # the second round's middle

    options = ["model=contextual_attention", "model.training.critic_steps=2", "trainer.max_steps=3"]
    straight = train(composed(*options, f"output_dir={tmp_path / 'whole'}")).lightning_module.state_dict()
    train_with(StopWithinARound(), composed(*options, f"output_dir={tmp_path / 'half'}"))
    last = tmp_path / "half" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 1
    rest = composed(*options, f"output_dir={tmp_path / 'rest'}", f"resume={last}")
    resumed = train(rest).lightning_module.state_dict()
    assert all(torch.equal(t, resumed[key]) for key, t in straight.items())


def test_critic_batches_keep_no_graph_of_the_generator(composed, train_with):
    class Graphs(Callback):
        def __init__(self):
            self.kept = []

        def on_train_start(self, trainer, module):
            module.network.register_forward_hook(
                lambda network, args, output: self.kept.append(output.prediction.requires_grad)
            )

    graphs = Graphs()
    few = ["model.training.critic_steps=2", "trainer.max_steps=1", "trainer.limit_val_batches=0"]
    train_with(graphs, composed("model=contextual_attention", *few, "callbacks.best=null"))
    assert graphs.kept[:3] == [False, False, True]


def parts_by_batch(watch):
    """Return what each batch changed: either of the two networks, or critics by their term."""
    return [
        {".".join(name.split(".")[: 2 if name.startswith("network") else 3]) for name in names}
        for names in watch.changed
    ]


def test_phases_are_fractions_of_the_generator_steps(composed, train_watched):
    phases = ["model.training.coarse_share=0.3", "model.training.critics_start_share=0.7"]
    shared = ["model.training.critic_steps=1", "model.training.shared_batch=true"]
    _, watch = train_watched(composed("model=contextual_attention", *phases, *shared, "trainer.max_steps=10"))
    both = {"network.coarse", "network.refinement"}
    assert parts_by_batch(watch) == 3 * [{"network.coarse"}] + 4 * [both] + 3 * [both | CRITICS]


def test_critic_batches_are_skipped_before_the_critics_start(composed, train_watched):
    few = ["model.training.critic_steps=2", "model.training.critics_start_share=0.5", "trainer.max_steps=2"]
    _, watch = train_watched(composed("model=contextual_attention", *few))
    assert by_part(watch) == [set(), set(), {"network"}, CRITICS, CRITICS, {"network"}]


def test_only_the_terms_of_the_phase_are_logged(composed, train_with):
    class Terms(Callback):
        def __init__(self):
            self.seen = []

        def on_train_batch_end(self, trainer, module, *_):
            self.seen.append({name for name in module.pending_losses if name in module.loss.names})

    terms = Terms()
    phases = ["model.training.coarse_share=0.34", "model.training.critics_start_share=0.6", "trainer.max_steps=3"]
    shared = ["model.training.critic_steps=1", "model.training.shared_batch=true", "callbacks.health=null"]
    train_with(terms, composed("model=contextual_attention", *phases, *shared))
    everything = {"l1", "coarse_l1", "adversarial_global", "adversarial_local"}
    assert terms.seen[0] == {"coarse_l1"}
    assert terms.seen[-1] == everything


def test_validation_scores_the_coarse_image_while_only_the_coarse_network_is_trained(composed, train_with):
    class Scores(Callback):
        def __init__(self):
            self.seen = []

        def on_validation_end(self, trainer, module):
            scores = trainer.callback_metrics
            self.seen.append((module.stage_of_last_step, bool(scores["val/psnr"] == scores["val/coarse_psnr"])))

    scores = Scores()
    phases = ["model.training.coarse_share=0.5", "trainer.max_steps=2", "trainer.val_check_interval=1"]
    shared = ["model.training.critic_steps=1", "model.training.shared_batch=true"]
    train_with(scores, composed("model=contextual_attention", *phases, *shared))
    assert scores.seen == [("coarse", True), ("", False)]


def test_run_resumed_in_another_phase_equals_an_uninterrupted_one(interrupted):
    phases = ["model.training.coarse_share=0.3", "model.training.critics_start_share=0.5"]
    turns = ["model.training.critic_steps=1", "model.training.shared_batch=true"]
    straight, resumed = interrupted(4, 2, "model=contextual_attention", *phases, *turns)
    assert all(torch.equal(t, resumed[key]) for key, t in straight.items())


def test_network_without_a_coarse_stage_has_no_coarse_phase(composed, train_watched):
    alone = [
        "model.network._target_=src.networks.contextual_attention.CoarseOnly",
        "~model.network.refinement",
        "loss.terms.coarse_l1=null",
        "model.training.coarse_share=1",
        "model.training.critics_start_share=1",
    ]
    _, watch = train_watched(composed("model=contextual_attention", *alone, "trainer.max_steps=1"))
    assert by_part(watch)[-1] == {"network"}


def test_coarse_network_alone_equals_the_coarse_stage():
    torch.manual_seed(0)
    network = CoarseToFine(1 / 16)
    image, mask = torch.rand(2, 3, 21, 30), torch.ones(2, 1, 21, 30)
    mask[..., 5:15, 8:20] = 0
    image[0, :, 7, 9] = torch.nan  # in the hole, which is not read
    with torch.no_grad():
        alone, whole = network.complete_coarsely(image, mask), network(image, mask)
    assert_close(alone.coarse, whole.coarse)
    assert alone.prediction is alone.coarse


@pytest.mark.parametrize("key", ["coarse_share", "critics_start_share"])
def test_fractions_out_of_range_are_rejected(composed, key):
    with pytest.raises(InputError, match=f"{key} must lie in \\[0, 1\\], got 1.5"):
        train(composed("model=contextual_attention", f"model.training.{key}=1.5"))


def test_critic_steps_below_one_are_rejected(composed):
    with pytest.raises(InputError, match="critic_steps must be an integer >= 1, got 0"):
        train(composed("model=contextual_attention", "model.training.critic_steps=0"))


def test_late_terms_start_with_the_critics(composed, train_with):
    """GMCNN trains on the reconstruction terms first, then also on ID-MRF and the adversarial terms."""

    class Terms(Callback):
        def __init__(self):
            self.seen = []

        def on_train_batch_end(self, trainer, module, *_):
            self.seen.append({name.partition("/")[0] for name in module.pending_losses} - {"loss"})

    terms = Terms()
    half = ["model.training.critic_steps=1", "model.training.shared_batch=true", "trainer.max_steps=2"]
    train_with(terms, composed("model=gmcnn", *half, "model.training.critics_start_share=0.5", "callbacks.health=null"))
    first = {"confidence_l1", "known_l1"}
    assert terms.seen == [first, first | {"id_mrf", "adversarial_global", "adversarial_local"}]
    with pytest.raises(InputError, match=r"late_terms has unknown terms \['mrf'\]: use \['adversarial_global', "):
        train(composed("model=gmcnn", "model.training.late_terms=[mrf]"))


def test_gl_has_three_phases(composed, train_watched):
    trainer, watch = train_watched(
        composed("model=gl", "trainer.max_steps=4", "model.training.critics_alone_share=0.5")
    )
    critic = {"loss.terms.adversarial"}
    assert by_part(watch) == [{"network"}, critic, critic, *3 * [critic | {"network"}]]
    assert trainer.global_step == 4


def test_run_resumed_while_the_critic_trains_alone_equals_an_uninterrupted_one(interrupted):
    straight, resumed = interrupted(4, 1, "model=gl", "model.training.critics_alone_share=0.5")
    assert all(torch.equal(t, resumed[key]) for key, t in straight.items())
