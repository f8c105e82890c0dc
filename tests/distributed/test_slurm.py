"""Slurm through submitit, with mocked Slurm commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tests.commands import ROOT

FAKE = Path(__file__).parent / "slurm"


def test_slurm_launcher_requests_one_task_per_gpu():
    options = ["trainer=ddp_multinode", "trainer.num_nodes=2", "trainer.devices=4", "hydra/launcher=slurm"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", options, return_hydra_config=True)
        OmegaConf.update(cfg, "hydra.job.name", "train", force_add=True)
        launcher = instantiate(cfg.hydra.launcher, submitit_folder="logs")
    assert type(launcher).__name__ == "SlurmLauncher"
    params = launcher.params
    assert (params["nodes"], params["tasks_per_node"], params["gpus_per_node"]) == (2, 4, 4)
    assert params["max_num_timeout"] > 0  # otherwise submitit would not requeue a preempted job


@pytest.mark.soak
def test_multirun_trains_each_job_in_two_slurm_tasks(photo_folder, tmp_path):
    """Three scripts mock Slurm's commands."""
    command = [
        *(sys.executable, "-m", "src.train", "-m", "model=lbam,pconv", "scale=smoke", "hydra/launcher=slurm"),
        *("data=folder", f"data.root={photo_folder}", "workers=0", "callbacks.progress=null"),
        *("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", f"hydra.sweep.dir={tmp_path}"),
    ]
    environment = os.environ | {"PATH": f"{FAKE}:{os.environ['PATH']}"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    for job in ("0_lbam", "1_pconv"):
        assert (tmp_path / job / "checkpoints" / "last.ckpt").is_file()
    (script,) = (tmp_path / ".submitit").glob("*/*.sh")
    assert "#SBATCH --ntasks-per-node=2" in script.read_text()
