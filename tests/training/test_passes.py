"""How often a step runs generator, critics and features, forward and backward: what the algorithms ask for, no more."""

from collections import Counter

import pytest
import torch
from lightning.pytorch import Callback

from src.losses.adversarial import AdversarialTerm
from src.networks.interface import InpaintingNetwork
from src.networks.mecnet import MECNet


class Passes(Callback):
    """Forward passes of every part by whether they keep a graph, and the calls of a backward pass, in each batch."""

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
    """`passes(*overrides)` -> what each batch of a run did."""

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


def test_lbam_runs_its_generator_once_for_both_and_its_penalty_takes_one_pass_more(passes):
    (step,) = passes("model=lbam", "trainer.max_steps=1")
    assert step == {
        "network: graph": 1,
        "adversarial: graph": 3,  # real, fake, and their mixture
        "adversarial: through": 1,  # for the generator, from the critic that has been stepped
        "extractor: no graph": 1,  # the truth's, for both terms
        "extractor: through": 1,
        "backward": 3,  # the penalty's slope, the critic's, the generator's
    }


def test_mpga_gla_compares_with_real_scores_that_keep_no_graph(passes):
    (step,) = passes("model=mpga_gla", "trainer.max_steps=1")
    assert step == {
        "network: graph": 1,
        "adversarial: graph": 2,
        "adversarial: no graph": 1,
        "adversarial: through": 1,
        "backward": 2,
    }


def test_contextual_attention_runs_its_generator_without_a_graph_in_the_critics_turns(passes):
    turn, last = passes("model=contextual_attention", "model.training.critic_steps=1", "trainer.max_steps=1")
    critics = ("adversarial_global", "adversarial_local")
    assert turn == {"network: no graph": 1, **{f"{name}: graph": 3 for name in critics}, "backward": 4}
    assert last == {"network: graph": 1, **{f"{name}: through": 1 for name in critics}, "backward": 1}


def test_pconv_looks_at_three_pictures(passes):
    (step,) = passes("model=pconv", "trainer.max_steps=1")
    assert step == {"network: graph": 1, "extractor: no graph": 1, "extractor: through": 2, "backward": 1}


def test_each_stage_of_edge_lbam_runs_what_it_trains_alone(passes):
    edges, inpainting, joint = passes("model=edge_lbam", "trainer.max_steps=3")
    of_edges = {"network.completion: graph": 1, "edges: graph": 2, "edges: no graph": 1, "edges: through": 1}
    of_pictures = {
        "network: graph": 1,
        "adversarial: graph": 3,
        "adversarial: through": 1,
        "extractor: no graph": 1,
        "extractor: through": 1,
    }
    assert edges == {**of_edges, "backward": 2}
    assert inpainting == {**of_pictures, "backward": 3}
    assert joint == {**of_edges, **of_pictures, "backward": 4}
