"""conf/wandb_sweep.yaml: W&B's agents run commands that src.train can compose."""

import json

import pytest
import yaml
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from src.loggers.wandb import WandbLog
from tests.conftest import CONF

SWEEP = yaml.safe_load((CONF / "wandb_sweep.yaml").read_text())


def values(parameter):
    """Return the values of a list, or the ends of a range."""
    return parameter["values"] if "values" in parameter else [parameter["min"], parameter["max"]]


def test_sweep_config_is_valid():
    assert SWEEP.keys() == {"project", "name", "program", "method", "metric", "parameters", "command"}
    assert SWEEP["method"] in ("grid", "random", "bayes")
    assert SWEEP["metric"] == {"name": "best_val_psnr", "goal": "maximize"}
    assert (CONF.parent / SWEEP["program"]).is_file()
    assert json.loads(json.dumps(SWEEP, allow_nan=False)) == SWEEP  # as it is sent to the servers


CHOICES = [values(parameter) for parameter in SWEEP["parameters"].values()]


@pytest.mark.parametrize("position", range(max(map(len, CHOICES))))
def test_agents_commands_compose(composed, position):
    """Every value of every parameter is in one of the commands."""
    chosen = [choices[position % len(choices)] for choices in CHOICES]
    settings = dict(zip(SWEEP["parameters"], chosen, strict=True))
    arguments = create_sweep_command_args({"args": {key: {"value": value} for key, value in settings.items()}})
    command = []
    for word in create_sweep_command(list(SWEEP["command"])):
        command += arguments["args_no_hyphens"] if word == "${args_no_hyphens}" else [word]
    assert command[:4] == ["${env}", "${interpreter}", "-m", "src.train"]
    cfg = composed(*command[4:])
    assert {key: OmegaConf.select(cfg, key) for key in settings} == settings
    assert cfg.model.name == "lbam"
    assert "wandb" in cfg.logger


def test_run_uses_the_id_that_the_agent_chose(tmp_path, monkeypatch):
    passed = {}
    monkeypatch.setenv("WANDB_RUN_ID", "chosen")
    monkeypatch.setattr("wandb.init", lambda **options: passed.update(options) or (_ for _ in ()).throw(KeyError))
    ids = []
    for group in (None, "a multirun"):  # its jobs must not share the agent's id
        with pytest.raises(KeyError):
            WandbLog(str(tmp_path), job_type="train", job_group=group).log_metrics({"a": 1.0})
        ids.append(passed["id"])
    assert ids[0] == "chosen" != ids[1]
