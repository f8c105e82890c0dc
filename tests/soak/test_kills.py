"""Trainings killed repeatedly at random times: `make soak`, or `SOAK_MINUTES=60 make soak`."""

import os
import time

import numpy as np
import pytest

from tests.commands import Commands
from tests.training.resume.test_exact_resume import KILLED, differences

pytestmark = pytest.mark.soak

MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
"""Approximate duration of all tests together."""

PROCEDURES = {
    "lbam": ["model=lbam", "callbacks=ema", "accumulate=2", "trainer.max_steps=40"],
    "pconv": ["model=pconv", "trainer.max_steps=80"],
    "edge_lbam": ["model=edge_lbam", "trainer.max_steps=60"],
    "contextual_attention": ["model=contextual_attention", "trainer.max_steps=12"],
    "mpga_gla": ["model=mpga_gla", "trainer.max_steps=50"],
}


@pytest.mark.parametrize("name", PROCEDURES)
def test_run_killed_at_random_times_equals_an_uninterrupted_one(photo_folder, tmp_path, name, capsys):
    overrides = [
        *("scale=smoke", "data=folder", f"data.root={photo_folder}", "trainer=cpu", "workers=2", *PROCEDURES[name]),
        *("bank_masks_per_bin=2", "trainer.val_check_interval=5", "trainer.log_every_n_steps=1"),
        *("callbacks.last.minutes=0.005", "callbacks.progress=null", "trainer.enable_progress_bar=false"),
    ]
    start, kills, runs = time.monotonic(), 0, 0
    rng = np.random.default_rng(int(time.time()))
    with Commands() as commands:
        uninterrupted = commands("train", *overrides, "output_dir=uninterrupted", cwd=tmp_path, limit_s=600)
        assert uninterrupted.code == 0, uninterrupted.err
        while runs == 0 or time.monotonic() - start < 60 * MINUTES / len(PROCEDURES):
            folder = f"killed_{runs}"
            while True:
                ended = commands(
                    "train",
                    *overrides,
                    f"output_dir={folder}",
                    cwd=tmp_path,
                    limit_s=rng.uniform(1, uninterrupted.seconds),
                )
                if ended.code != KILLED:
                    break
                kills += 1
            assert ended.code == 0, ended.err
            assert differences(tmp_path / "uninterrupted", tmp_path / folder) == []
            runs += 1
    with capsys.disabled():
        print(f"\n{name}: {runs} runs, {kills} kills in {time.monotonic() - start:.0f} s, all results equal")
