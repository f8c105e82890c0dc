from collections import Counter
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from src.benchmarking.clock import MinDuration
from src.benchmarking.setting import Setting
from src.benchmarking.training import Step, fit, make_batch, make_module, measure_training, set_scale, stage_names

CONF = Path(__file__).parents[2] / "conf"
CPU = torch.device("cpu")


@pytest.fixture
def composed(tmp_path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        scale = compose("benchmark", ["scale=smoke"]).scale
        yield lambda model: set_scale(compose("train", [f"model={model}", f"output_dir={tmp_path}"]), scale, 64)


@pytest.mark.parametrize(("model", "batches"), [("lbam", 1), ("contextual_attention", 6)])
def test_a_step_trains_the_network_and_its_critics(composed, model, batches):
    step = Step(composed(model), None, 64, 2)
    torch.manual_seed(0)
    module = make_module(step, instantiate(step.run.model.network), Setting())
    before = {name: p.clone() for name, p in module.named_parameters() if p.requires_grad}
    counts = Counter()

    def count(batch, batch_idx, original=module.training_step):
        counts["batches"] += 1
        original(batch, batch_idx)

    module.training_step = count
    seconds = fit(module, step.run, make_batch(2, 64), CPU, Setting(), steps=1)
    assert len(seconds) == 1
    assert min(seconds) > 0
    assert counts["batches"] == 2 * batches  # the first step is not timed
    changed = {name: not torch.equal(p, before[name]) for name, p in module.named_parameters() if name in before}
    for part in ("network.", ".critic."):
        assert any(changed[name] for name in changed if part in name), part


def test_stages_are_trained_one_at_a_time(composed):
    assert stage_names(composed("lbam")) == [None]
    run = composed("edge_lbam")
    assert stage_names(run) == ["edges", "inpainting", "joint"]
    assert list(make_module(Step(run, "joint", 64, 2), instantiate(run.model.network), Setting()).stages) == ["joint"]


def test_a_step_is_measured(composed):
    record = measure_training(Step(composed("pconv"), None, 64, 2), CPU, MinDuration(2, 0.0), Setting())
    assert record["runs"] == record["images_per_step"] == 2
    assert record["per_second"] == pytest.approx(2 / record["median_s"])


def test_features_are_random_instead_of_downloaded():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        scale = compose("benchmark", ["scale=paper"]).scale
        run = set_scale(compose("train", ["model=lbam", "output_dir=."]), scale, 128)
    assert (run.loss.features.weights, run.loss.features.width) == ("random", 1.0)
    assert run.loss.terms.adversarial.critic.size == 128
    assert run.model.network.width == 1.0
