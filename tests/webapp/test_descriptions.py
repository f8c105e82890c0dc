"""What the page's list says of networks, and which are selected initially."""

import json
import shutil

import pytest
import torch

from src.checkpoints.reading import SHIPPED
from src.webapp.descriptions import Description, describe, preselect


@pytest.fixture
def run(tmp_path, untrained):
    """A copy of the untrained LBAM's run, with a scale and 1,200 steps."""
    shutil.copytree(untrained / "demo" / "lbam", tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    content["config"]["scale"] = {"image_size": 64}
    torch.save(content | {"global_step": 1200}, path)
    return path


def test_a_run_is_described_by_its_checkpoint_and_its_end(run):
    assert describe(run) == Description("lbam", 64, 1200, None)
    finished = run.parents[1] / "finished.json"
    for score, expected in ((24.5, 24.5), (None, None), ("x", None)):
        finished.write_text(json.dumps({"best_val_psnr": score, "config": {}}))
        assert describe(run.parents[1]) == Description("lbam", 64, 1200, expected)
    assert str(Description("lbam", 64, 1200, 24.5)) == "lbam, 64 px, 1,200 steps, validation 24.50 dB"
    shutil.copy(run, run.with_name("last.ckpt"))
    assert describe(run.with_name("last.ckpt")).psnr is None  # the score is of best.ckpt
    run.write_bytes(run.read_bytes()[:1000])
    assert describe(run) is None


@pytest.mark.parametrize(
    "card",
    [
        "",
        "---\n",
        "---\nmodel-index: 3\n---\n",
        "---\nmodel-index: [{results: [{metrics: [{type: psnr, value: x}]}]}]\n---",
    ],
)
def test_a_model_card_may_lack_the_score(untrained, tmp_path, card):
    shutil.copytree(untrained / "edge_lbam", tmp_path / "exported")
    (tmp_path / "exported" / "README.md").write_text(card)
    assert describe(tmp_path / "exported") == Description("edge_lbam", None, 1, None)


def test_shipped_networks_have_a_validation_score():
    described = [describe(path.parent) for path in SHIPPED.glob("*/config.yaml")]
    assert all(facts.psnr is not None and facts.steps >= 1000 for facts in described)


def test_short_runs_are_not_selected():
    facts = {
        name: Description("lbam", 64, steps, None)
        for name, steps in zip("abcdef", (3, 5, 10, 1000, 9999, 7000), strict=True)
    }
    assert preselect(facts | {"g": None}, 1) == {"a", "d", "e"}
    assert preselect({}, 1) == set()
