"""Edge-LBAM's three stages: trained parts, lengths, learning rates."""

import csv
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback

from src.checkpoints.reading import load_checkpoint
from src.common.errors import InputError
from src.training.procedures.stages import completing_edges, inpainting_on_predicted_edges, inpainting_on_true_edges
from src.training.run import train

COMPLETION = {"network.completion", "loss.terms.edges"}
INPAINTING = {"network.unet", "loss.terms.adversarial"}


def by_part(watch):
    """Return what each batch changed: parts of the network, or critics by their term."""
    return [
        {part if part.startswith("loss") else part.rpartition(".")[0] for part in parts}
        for parts in watch.changed_parts(3)
    ]


class Spans(Callback):
    def on_train_start(self, trainer, module):
        self.spans = [module.span(step) for step in range(module.generator_steps)]


def test_each_stage_trains_its_part_and_its_critics(composed, train_watched):
    lengths = [
        f"model.training.stages.{name}.length={n}" for name, n in (("edges", 2), ("inpainting", 1), ("joint", 1))
    ]
    _, watch = train_watched(composed("model=edge_lbam", "trainer.max_steps=4", *lengths))
    assert by_part(watch) == [COMPLETION, COMPLETION, INPAINTING, COMPLETION | INPAINTING]


@pytest.fixture
def network_and_batch(composed):
    """A small Edge-LBAM and a batch whose true and known edges differ, on known pixels too."""
    torch.manual_seed(0)
    network = instantiate(composed("model=edge_lbam").model.network)
    image, mask = torch.rand(2, 3, 64, 64), torch.ones(2, 1, 64, 64)
    mask[..., 20:44, 10:40] = 0
    edges, known_edges = ((torch.rand(2, 1, 64, 64) > 0.9).float() for _ in range(2))
    return network, {"image": image, "mask": mask, "edges": edges, "known_edges": known_edges * mask}


def edges_seen_by_the_unet(network, forward, batch):
    seen = []
    hook = network.unet.forward_maps.register_forward_hook(lambda module, args, output: seen.append(args[1]))
    output = forward(network, batch)
    hook.remove()
    return output, seen


def test_first_stage_predicts_only_edges(network_and_batch):
    network, batch = network_and_batch
    output, seen = edges_seen_by_the_unet(network, completing_edges, batch)
    assert seen == []
    assert output.edges.shape == batch["edges"].shape
    other = completing_edges(network.eval(), batch | {"known_edges": torch.zeros_like(batch["known_edges"])})
    assert not torch.allclose(other.edges, completing_edges(network, batch).edges)


def test_second_stage_inpaints_along_the_true_edges(network_and_batch):
    network, batch = network_and_batch
    _, (seen,) = edges_seen_by_the_unet(network, inpainting_on_true_edges, batch)
    assert torch.equal(seen, batch["edges"])


def test_second_stage_drops_the_edges_in_some_holes(network_and_batch):
    network, batch = network_and_batch
    known = batch["edges"] * batch["mask"]
    assert not torch.equal(known, batch["edges"])
    always = partial(inpainting_on_true_edges, dropped=1.0)
    assert torch.equal(edges_seen_by_the_unet(network, always, batch)[1][0], known)
    batch = {name: value.repeat(8, 1, 1, 1) for name, value in batch.items()}
    half = partial(inpainting_on_true_edges, dropped=0.5)
    torch.manual_seed(1)
    (seen,) = edges_seen_by_the_unet(network, half, batch)[1]
    dropped = [torch.equal(one, known[i % 2]) for i, one in enumerate(seen)]
    assert 0 < sum(dropped) < 16  # sample by sample
    assert all(gone or torch.equal(one, edges) for gone, one, edges in zip(dropped, seen, batch["edges"], strict=True))
    torch.manual_seed(1)
    assert torch.equal(edges_seen_by_the_unet(network, half, batch)[1][0], seen)


def test_third_stage_inpaints_along_completed_edges_and_trains_both_networks(network_and_batch):
    network, batch = network_and_batch
    output, (seen,) = edges_seen_by_the_unet(network.eval(), inpainting_on_predicted_edges, batch)
    known = batch["mask"] > 0
    assert torch.equal(seen[known], batch["known_edges"][known])
    assert torch.equal(seen[~known], output.edges[~known])
    assert not torch.equal(output.edges[known], batch["known_edges"][known])  # MECNet's own go to its terms
    (output.prediction - batch["image"]).abs().mean().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in network.completion.parameters())


@pytest.mark.parametrize(
    ("steps", "ends"),
    [(9, {"edges": 4, "inpainting": 8, "joint": 9}), (3, {"edges": 1, "inpainting": 2, "joint": 3})],
)
def test_stages_divide_the_run_by_length_with_at_least_one_step_each(composed, train_with, steps, ends):
    spans, lengths = Spans(), "scale.stage_lengths={edges: 400, inpainting: 400, joint: 100}"
    short = [f"trainer.max_steps={steps}", "trainer.val_check_interval=100"]
    train_with(spans, composed("model=edge_lbam", lengths, *short))
    assert {name: end for name, _, end in spans.spans} == ends
    assert [begin <= step < end for step, (_, begin, end) in enumerate(spans.spans)] == steps * [True]


def test_every_stage_has_its_own_learning_rate_and_schedule(composed):
    rates = [f"scale.learning_rates.{rate}" for rate in ("edges=4e-4", "inpainting=2e-4", "joint=1e-4")]
    cfg = composed("model=edge_lbam", "trainer.max_steps=6", "trainer.log_every_n_steps=1", *rates)
    train(cfg)
    rows = list(csv.DictReader(Path(cfg.output_dir, "csv", "metrics.csv").read_text().splitlines()))
    logged = [(float(row["train/stage"]), float(row["train/learning_rate"])) for row in rows if row["train/stage"]]
    expected = [(1, 4e-4), (1, 2e-4), (2, 2e-4), (2, 1e-4), (3, 1e-4), (3, 0.5e-4)]  # linear to 0 in each
    assert logged == [(stage, pytest.approx(rate)) for stage, rate in expected]


@pytest.mark.parametrize("at", [2, 3])
def test_run_resumed_in_any_stage_equals_an_uninterrupted_one(interrupted, at):
    straight, resumed = interrupted(6, at, "model=edge_lbam")
    assert all(torch.equal(t, resumed[key]) for key, t in straight.items())


def test_stage_runs_alone_from_the_weights_of_the_previous_one(composed, tmp_path):
    train(composed("model=edge_lbam", "model.training.only=[edges]", f"output_dir={tmp_path / 'first'}"))
    first = tmp_path / "first" / "checkpoints" / "last.ckpt"
    then = ["model.training.only=[inpainting]", f"start_from={first}", f"output_dir={tmp_path / 'second'}"]
    trained = train(composed("model=edge_lbam", *then)).lightning_module.network
    before = load_checkpoint(first).network.state_dict()
    differs = {key for key, t in trained.state_dict().items() if not torch.equal(t, before[key])}
    assert {key.partition(".")[0] for key in differs} == {"unet"}


def test_validation_scores_the_edges_in_the_hole(composed):
    metrics = train(composed("model=edge_lbam", "trainer.limit_val_batches=1.0")).callback_metrics
    for score in ("edge_precision", "edge_recall", "edge_f1", "edge_recall_1px", "edge_base_rate_1px"):
        assert 0 <= metrics[f"val/{score}"] <= 1
    assert "val/edge_recall/(0.5,0.6]" in metrics


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.training.only=[eges]"], r"only names \['eges'\]; the stages are edges, inpainting, joint"),
        (["model.training.only=edges"], r"only must be a list: use model.training.only=\[edges\]"),
        (["model.training.stages.joint.length=0"], "joint.length must be above 0"),
        (["model.training.stages.joint.terms=[l2]"], r"joint.terms names \['l2'\]"),
        (
            ["model.training.stages.inpainting.terms=[adversarial]", "model.training.stages.joint.terms=[edges, l1]"],
            "the loss terms perceptual, style are on, but no stage trains on them",
        ),
        (["loss.terms.edges=null", "loss.terms.auxiliary=null"], "all terms of the stage edges are off"),
        (["trainer.max_steps=2"], "a run of 2 steps has none for one of the stages"),
        (["start_from=gone.ckpt"], "no checkpoint at gone.ckpt"),
        (["start_from=a.ckpt", "resume=b.ckpt"], "exclude each other"),
    ],
)
def test_invalid_options_are_rejected(composed, overrides, message):
    with pytest.raises(InputError, match=message):
        train(composed("model=edge_lbam", *overrides))


def test_resume_with_other_stages_is_rejected(composed, tmp_path):
    train(composed("model=edge_lbam", "model.training.only=[inpainting]", "trainer.max_steps=1"))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with pytest.raises(InputError, match=r"trained with another only, .*start_from="):
        train(composed("model=edge_lbam", f"resume={last}"))


def test_weights_of_another_network_are_rejected(composed, tmp_path):
    train(composed("model=pconv", "trainer.max_steps=1", f"output_dir={tmp_path / 'pconv'}"))
    with pytest.raises(InputError, match=r"start_from=.*another network"):
        train(composed("model=edge_lbam", f"start_from={tmp_path / 'pconv' / 'checkpoints' / 'last.ckpt'}"))
