"""The view of a W&B project: every series and image that a run logs has a panel, and every loss term is included."""

import json
import re
from pathlib import Path
from unittest.mock import Mock

import pytest
import requests
import wandb

from src.common.errors import InputError
from src.loggers.wandb import STEP
from src.loggers.wandb_dashboard import loss_terms, save_view
from src.masks.hole_ratios import BINS, bin_name
from src.metrics.scores import STANDARD
from src.rendering.network_figures import FIGURES
from src.training.run import train
from tests.loggers.test_wandb import csv_series

WITHOUT_PANEL = {"epoch"}


@pytest.fixture(scope="module")
def panels(commands, tmp_path_factory):
    """The panels by section, from the file that the command writes."""
    pytest.importorskip("wandb_workspaces", reason="views need the extra `dashboard`")
    folder = tmp_path_factory.mktemp("view")
    ended = commands("dashboard", "entity=me", "project=mine", "output=view.json", cwd=folder)
    assert ended.code == 0, ended.err
    assert ended.out == "view: view.json\n"
    bank = json.loads((folder / "view.json").read_text())["section"]["panelBankConfig"]
    return {section["name"]: section["panels"] for section in bank["sections"]}


def metrics_of(panels):
    return {name for panel in panels for name in panel["config"].get("metrics", ())}


@pytest.mark.parametrize("model", ["edge_lbam", "mpga_gla"])
def test_every_logged_series_has_a_panel(panels, composed, model):
    cfg = composed(f"model={model}", "logger=csv", "trainer.max_steps=3", "trainer.log_every_n_steps=1")
    train(cfg)
    lines = [panel["config"] for section in panels.values() for panel in section if "Line" in panel["viewType"]]
    named = {name for config in lines for name in config.get("metrics", ())}
    patterns = [config["metricRegex"] for config in lines if config.get("metricRegex")]
    series = csv_series(Path(cfg.output_dir)).keys() - WITHOUT_PANEL
    assert not {name for name in series - named if not any(re.fullmatch(one, name) for one in patterns)}
    assert all(config["xAxis"] == STEP for config in lines)
    shown = {key for panel in panels["Inside the network"] for key in panel["config"]["mediaKeys"]}
    drawn = {f"maps/{path.name}" for path in Path(cfg.output_dir, "samples").iterdir() if path.is_dir()}
    assert drawn <= shown == {f"maps/{name}" for name in FIGURES}
    assert panels["Samples"][0]["config"]["mediaKeys"] == ["samples"]


def test_scores_are_shown_by_hole_ratio(panels):
    assert metrics_of(panels["Validation by hole ratio"]) >= {f"val/psnr/{bin_name(one)}" for one in BINS}
    tested = {f"test/{metric.name}" for metric in STANDARD}
    assert {name for panel in panels["Tests"] for name in panel["config"].get("metrics", ())} == tested


def test_loss_terms_with_and_without_a_critic():
    terms = loss_terms()
    assert terms["adversarial"]
    assert not terms["l1"]


def test_missing_entity_and_unreachable_servers_are_reported(commands, tmp_path):
    ended = commands("dashboard", cwd=tmp_path)
    assert (ended.code, ended.err) == (1, "error: set entity=<the user or team that owns the W&B project>\n")
    for raised in (wandb.errors.CommError("No route."), requests.ConnectionError("No route")):
        with pytest.raises(InputError, match=r"^W&B: No route: saving a view needs its servers"):
            save_view(Mock(save=Mock(side_effect=raised)))
