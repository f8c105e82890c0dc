"""Jobs of several processes: how they start, what they write and print, and that they end together."""

import csv
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

import src.common.resolvers  # noqa: F401  # rows of the papers' tables as experiments=
from src.evaluation.records import read_records
from src.evaluation.scoring import evaluate
from src.training.launcher import job_command
from tests.commands import ROOT

DIES = "+callbacks.dies._target_=tests.distributed.dying.Dies"


def ended_as(run, rank: int, how: str):
    ended = run("train", "model=pconv", DIES, f"+callbacks.dies.rank={rank}", f"+callbacks.dies.how={how}")
    return ended, [line for line in ended.err.splitlines() if line.startswith("error: ")]


@pytest.fixture
def training(by_two, tmp_path):
    """Train in two processes, without callbacks that write."""
    quiet = (
        "callbacks.progress=null",
        "callbacks.sample_images=null",
        "logger=[]",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    return lambda command, *overrides: by_two(command, *quiet, *overrides)


def test_multirun_trains_each_job_in_two_processes_with_hydras_flags(by_two, tmp_path):
    """The flags name a directory of the user, one on the search path, and a config that is not named like a module."""
    own = {"user/other": "train, _self_", "user/scale/own": "smoke", "searched/mask/own": "rectangles"}
    for name, defaults in own.items():
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"defaults: [{defaults}]\n")
    sweep = tmp_path / "sweep"
    ended = by_two(
        *("train", "--config-dir", tmp_path / "user", "-cn", "other", "-m", "seed=0,1", "model=pconv", "mask=own"),
        *(f"hydra.searchpath=[file://{tmp_path / 'searched'}]", f"hydra.sweep.dir={sweep}", "callbacks.progress=null"),
        *("callbacks.sample_images=null", "callbacks.references=null", "trainer.limit_val_batches=1"),
        scale="own",
    )
    assert ended.code == 0, ended.err
    assert ended.out.count("checkpoints: ") == 2  # printed by the first process of each job
    for job in ("0_pconv", "1_pconv"):
        assert (sweep / job / "checkpoints" / "last.ckpt").is_file()
        rows = csv.DictReader((sweep / job / "csv" / "metrics.csv").read_text().splitlines())
        steps = [row["step"] for row in rows]
        assert len(steps) == len(set(steps)) > 0
    assert {path.name for path in sweep.iterdir() if path.is_dir()} - {".hydra"} == {"0_pconv", "1_pconv"}


def test_one_and_two_processes_write_the_same_records(by_two, composed, tmp_path):
    """One of the two processes scores three of the five samples."""
    options = ("model=mean_colour", "lpips=false", "bank_masks_per_bin=1", "batch_size=5", "scale.test_batches=1")
    ended = by_two("evaluate", *options, f"hydra.run.dir={tmp_path / 'two'}")
    assert ended.code == 0, ended.err
    alone = evaluate(composed("scale=smoke", *options, f"output_dir={tmp_path / 'one'}", config="evaluate"))
    one, two = (read_records(path)[0] for path in (alone, tmp_path / "two" / "records.parquet"))
    assert len(one) == 5
    pd.testing.assert_frame_equal(one, two)
    assert ended.out.count("records: ") == 1
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == [
        ".hydra", "bank.npz", "records.parquet", "table.md",
    ]  # fmt: skip


@pytest.mark.soak
def test_more_processes_than_samples_are_rejected_with_one_message(by_two, tmp_path):
    options = ("model=mean_colour", "lpips=false", "bank_masks_per_bin=1", "batch_size=1", "scale.test_batches=1")
    ended = by_two("evaluate", *options, f"hydra.run.dir={tmp_path}")
    assert ended.code == 1
    assert ended.err.count("error: data=folder has 1 test samples for 2 processes: lower trainer.devices") == 1


@pytest.mark.soak
def test_input_error_of_another_process_ends_the_run(training):
    ended, errors = ended_as(training, 1, "input error")
    assert ended.code == 1
    stopped = "error: process 1 ended with exit code 1 (its error is printed above), so the run was stopped"
    assert errors == ["error: photo_3.png can't be read", stopped]
    assert "Traceback" not in ended.err


def test_killed_process_ends_the_run(training):
    ended, errors = ended_as(training, 1, "killed")
    assert ended.code == 1
    assert errors == ["error: process 1 was killed by SIGKILL, so the run was stopped"]
    assert "Traceback" not in ended.err


@pytest.mark.soak
@pytest.mark.parametrize(
    ("rank", "how", "code", "message", "traced"),
    [
        (-1, "input error", 1, "error: photo_3.png can't be read", None),  # in all processes
        (0, "input error", 1, "error: photo_3.png can't be read", None),
        (
            1,
            "bug",
            1,
            "error: process 1 ended with exit code 1 (its error is printed above)",
            "KeyError: 'a bug'",
        ),
        (0, "bug", 1, None, "KeyError: 'a bug'"),
        (1, "leaves", 1, "error: process 1 ended with exit code 7", None),
        (0, "killed", -9, None, None),
    ],
)
def test_run_ends_however_a_process_ends(training, tmp_path, rank, how, code, message, traced):
    ended, errors = ended_as(training, rank, how)
    assert ended.code == code
    assert any(line.startswith(message) for line in errors) if message else not errors
    assert ended.err.count("Traceback") == (traced is not None)
    assert traced is None or traced in ended.err
    # A process that the system kills with its parent may take a moment.
    deadline = time.monotonic() + 30
    while (left := [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path) in _read(path)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    assert not left


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@pytest.mark.parametrize(
    "overrides",
    [["experiments=lbam/table2/full"], ["model=pconv", "+loss.terms.a={b: null}", "start_from='a b,=.ckpt'"]],
)
def test_further_process_composes_the_job_instead_of_the_multirun(overrides):
    folder = "a b/=c,d"
    hydra = ["hydra.mode=MULTIRUN", f"hydra.runtime.output_dir='{folder}'", "hydra.job.num=3", "hydra/launcher=joblib"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        job = compose("train", [*overrides, *hydra, "hydra.launcher.n_jobs=2"], return_hydra_config=True)
        command = job_command(job.hydra, local_rank=1)
        flags = ["--config-name", "train", "--config-path", str(ROOT / "conf")]
        assert command[:7] == [sys.executable, "-m", "src.train", *flags]
        again = compose("train", list(command[7:]), return_hydra_config=True)
    assert again.hydra.run.dir == folder
    assert again.hydra.job.num == 3
    assert again.hydra.overrides.task == overrides
    assert again.hydra.launcher != job.hydra.launcher
