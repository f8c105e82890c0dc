"""Numbers of forward and backward passes of generator, critics and features in a step."""

from collections import Counter

import pytest
import torch
from lightning.pytorch import Callback

from src.losses.adversarial import AdversarialTerm
from src.networks.interface import InpaintingNetwork
from src.networks.mecnet import MECNet


class Passes(Callback):
    """Count, in each batch, the forward passes of every part by whether they keep a graph, and the backward passes."""

    def __init__(self):
        self.batches = []

    def on_train_start(self, trainer, module):
        watched = {"extractor": module.loss.extractor}
        watched |= {name: term.critic for name, term in module.loss.terms.items() if isinstance(term, AdversarialTerm)}
        for name, layer in module.network.named_modules(prefix="network"):
            if isinstance(layer, InpaintingNetwork | MECNet):
                watched[name] = layer
        for name, layer in watched.items():
            if layer is not None:
                layer.register_forward_hook(self.counting(name))

    def counting(self, name):
        def count(layer, args, output):
            output = getattr(output, "prediction", output)
            output = output[0] if isinstance(output, tuple) else output
            frozen = not any(p.requires_grad for p in layer.parameters())
            kept = "no graph" if not output.requires_grad else "through" if frozen else "graph"
            self.batches[-1][f"{name}: {kept}"] += 1

        return count

    def on_train_batch_start(self, trainer, module, *_):
        self.batches.append(Counter())


@pytest.fixture
def passes(composed, train_with, monkeypatch):
    """`passes(*overrides)` returns the counts of each batch of a run."""

    def counted(*overrides):
        made = Passes()
        run = torch.autograd.graph._engine_run_backward

        def backward(roots, *args, **kwargs):
            made.batches[-1]["backward"] += 1
            return run(roots, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr("torch.autograd._engine_run_backward", backward)
            patch.setattr("torch.autograd.graph._engine_run_backward", backward)
            train_with(made, composed(*overrides, "trainer.limit_val_batches=0", "callbacks.best=null"))
        return [dict(sorted(batch.items())) for batch in made.batches]

    return counted


def test_lbam_shares_one_generator_pass_and_the_penalty_adds_one_critic_pass(passes):
    (step,) = passes("model=lbam", "trainer.max_steps=1")
    assert step == {
        "network: graph": 1,
        "adversarial: graph": 3,  # real, fake, and their mixture
        "adversarial: through": 1,  # for the generator, after the critic's step
        "extractor: no graph": 1,  # of the true image, for both terms
        "extractor: through": 1,
        "backward": 3,  # of the penalty, the critic and the generator
    }


def test_mpga_gla_scores_real_images_without_a_graph_in_the_generator_step(passes):
    (step,) = passes("model=mpga_gla", "trainer.max_steps=1")
    assert step == {
        "network: graph": 1,
        "adversarial: graph": 2,
        "adversarial: no graph": 1,
        "adversarial: through": 1,
        "backward": 2,
    }


def test_contextual_attention_keeps_no_generator_graph_in_critic_batches(passes):
    turn, last = passes("model=contextual_attention", "model.training.critic_steps=1", "trainer.max_steps=1")
    critics = ("adversarial_global", "adversarial_local")
    assert turn == {"network: no graph": 1, **{f"{name}: graph": 3 for name in critics}, "backward": 4}
    assert last == {"network: graph": 1, **{f"{name}: through": 1 for name in critics}, "backward": 1}


def test_pconv_extracts_features_of_three_images(passes):
    (step,) = passes("model=pconv", "trainer.max_steps=1")
    assert step == {"network: graph": 1, "extractor: no graph": 1, "extractor: through": 2, "backward": 1}


def test_each_stage_of_edge_lbam_runs_only_what_it_trains(passes):
    edges, inpainting, joint = passes("model=edge_lbam", "trainer.max_steps=3")
    of_edges = {"network.completion: graph": 1, "edges: graph": 2, "edges: no graph": 1, "edges: through": 1}
    of_images = {
        "network: graph": 1,
        "adversarial: graph": 3,
        "adversarial: through": 1,
        "extractor: no graph": 1,
        "extractor: through": 1,
    }
    assert edges == {**of_edges, "backward": 2}
    assert inpainting == {**of_images, "backward": 3}
    assert joint == {**of_edges, **of_images, "backward": 4}
