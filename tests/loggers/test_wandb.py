"""The W&B logger, tested on the files of offline runs."""

import csv
import os
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import wandb
from hydra import compose
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from src.checkpoints.reading import load_checkpoint
from src.common.errors import InputError
from src.evaluation.scoring import evaluate
from src.loggers.setup import closing, log_images
from src.loggers.wandb import LONGEST_GROUP, WandbLog
from src.reproduction.run import reproduce
from src.training.run import train
from tests.wandb_files import offline_runs

OFFLINE = "logger.wandb.offline=true"
MAPS = {"maps/attention_maps", "maps/updated_masks", "maps/features"}


@pytest.fixture(autouse=True)
def _isolate_wandb(tmp_path, monkeypatch):
    """Hide the login and caches of the user."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb_home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


@pytest.fixture(scope="module")
def run_train(commands, photo_folder):
    """Return a function that runs `python -m src.train` in a directory, logging offline and without artifacts."""
    common = [
        "scale=smoke", "data=folder", f"data.root={photo_folder}", "trainer=cpu", "workers=0", "bank_masks_per_bin=2",
        "trainer.enable_progress_bar=false", "callbacks.progress=null", "callbacks.sample_images.count=1",
        "trainer.log_every_n_steps=1", "logger=[csv,wandb]", OFFLINE, "logger.wandb.checkpoints=[]",
    ]  # fmt: skip
    return lambda cwd, *overrides: commands("train", *overrides, *common, cwd=cwd)


def csv_series(folder: Path) -> dict[str, list[tuple[int, float]]]:
    rows = list(csv.DictReader((folder / "csv" / "metrics.csv").read_text().splitlines()))
    return {
        name: [(int(row["step"]), float(row[name])) for row in rows if row[name]] for name in rows[0] if name != "step"
    }


def tensorboard_series(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_all_loggers_get_the_same_series_and_wandb_gets_images_and_artifacts(composed):
    cfg = composed(
        "model=lbam", "logger=[csv,tensorboard,wandb]", OFFLINE, "trainer.max_steps=4", "trainer.val_check_interval=2",
        "trainer.log_every_n_steps=1", "logger.wandb.group=mine", "logger.wandb.tags=[first]",
    )  # fmt: skip
    train(cfg)
    folder = Path(cfg.output_dir)
    (run,) = offline_runs(folder)
    table = csv_series(folder)
    series = {name: values for name, values in run.series().items() if name != "trainer/global_step"}
    assert series == table
    single = {name: [(step, float(np.float32(value))) for step, value in values] for name, values in table.items()}
    assert tensorboard_series(folder) == single
    assert {f"train/{term}" for term in cfg.loss.terms} <= series.keys()
    assert {"val/psnr", "val/psnr/(0,0.1]", "val/ssim/(0.1,0.2]", "val/l1_percent"} <= series.keys()
    assert [step for step, _ in series["val/psnr"]] == [2, 4]

    assert [row["_step"] for row in run.rows] == list(range(len(run.rows)))
    assert (run.name, run.group, run.job_type) == ("lbam-folder-smoke, seed 0", "mine", "train")
    assert set(run.tags) == {"lbam", "folder", "smoke", "first"}
    resolved = OmegaConf.to_container(cfg, resolve=True)
    assert run.config.items() >= {key: resolved[key] for key in ("model", "loss", "scale", "trainer", "seed")}.items()
    assert run.exit_code == 0
    assert run.summary["best_val_psnr"] == pytest.approx(max(value for _, value in table["val/psnr"]))
    image_rows = [row for row in run.rows if "samples" in row]
    assert [row["trainer/global_step"] for row in image_rows] == [2, 4]
    for row in image_rows:
        assert row.keys() >= MAPS
        assert all((run.files / row[name]["path"]).is_file() for name in ("samples", *MAPS))
    assert {path.name for path in (folder / "samples" / "attention_maps").iterdir()} == {
        "step_0000002.png",
        "step_0000004.png",
    }
    assert run.artifacts == {
        f"model-{run.id}:best": {"config.yaml", "model.safetensors"},
        f"model-{run.id}:last": {"last.ckpt"},
    }


PCONV = ("model=pconv", "trainer.max_steps=6", "trainer.val_check_interval=2")


@pytest.fixture(scope="module")
def uninterrupted(run_train, tmp_path_factory):
    """The W&B run of an uninterrupted `PCONV` training."""
    folder = tmp_path_factory.mktemp("whole")
    assert run_train(folder, *PCONV, "output_dir=whole").code == 0
    return offline_runs(folder)[0]


@pytest.mark.parametrize(("signal", "code"), [("SIGTERM", 143), ("SIGKILL", -9)])
def test_resumed_run_resumes_its_wandb_run(run_train, uninterrupted, tmp_path, signal, code):
    kill = f"+callbacks.kill={{_target_:tests.killing.Kill,moment:on_train_batch_end,count:5,signal:{signal}}}"
    assert run_train(tmp_path, *PCONV, "output_dir=half", kill).code == code
    assert run_train(tmp_path, *PCONV, "output_dir=half").code == 0

    first, second = offline_runs(tmp_path, killed=code == -9)
    assert first.id == second.id != uninterrupted.id
    assert second.exit_code == 0
    if code == 143:
        assert first.exit_code == 143
        assert second.rows[0]["_step"] == len(first.rows)  # exactly the rows before the checkpoint were sent
    else:  # its checkpoint is of step 4, after two validations that log a row of images and a row of scores each
        assert second.rows[0]["_step"] == 4 + 2 * 2
        assert second.rows[0]["trainer/global_step"] == 5
    for run in (first, second):
        for row in run.rows:
            assert numbers(row) == numbers(uninterrupted.rows[row["_step"]])
    assert second.rows[-1]["_step"] == len(uninterrupted.rows) - 1


def numbers(row):
    return {name: value for name, value in row.items() if name[0] != "_" and isinstance(value, int | float)}


def test_each_job_of_a_multirun_has_its_own_wandb_run(run_train, tmp_path):
    ended = run_train(
        tmp_path, "-m", "experiments=lbam/table2/full,lbam/table2/sigmoid", "mask=random_shapes", "trainer.max_steps=1",
        "hydra.sweep.dir=sweep",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    runs = offline_runs(tmp_path)
    assert len({run.id for run in runs}) == 2
    assert [set(run.tags) - {"lbam", "folder", "smoke"} for run in runs] == [
        {"lbam/table2", "full"},
        {"lbam/table2", "sigmoid"},
    ]
    assert {(run.group, run.job_type, run.exit_code) for run in runs} == {("sweep", "train", 0)}
    names = ["lbam/table2/full, seed 0, 0_lbam", "lbam/table2/sigmoid, seed 0, 1_lbam"]
    assert [run.name for run in runs] == names


class Fails(Callback):
    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 2:
            raise InputError("no more")


def test_failed_run_marks_its_wandb_run_as_failed_and_keeps_all_rows(composed, train_with, tmp_path):
    cfg = composed("model=pconv", "logger=[csv,wandb]", OFFLINE, "trainer.log_every_n_steps=1")
    with pytest.raises(InputError, match="no more"):
        train_with(Fails(), cfg)
    (run,) = offline_runs(tmp_path)
    assert run.exit_code == 1
    assert [step for step, _ in run.series()["train/loss"]] == [1, 2]
    assert not run.artifacts


@pytest.mark.parametrize(
    ("ends", "code"), [(SystemExit(143), 143), (SystemExit("error: full disk"), 1), (KeyboardInterrupt(), 1), (None, 0)]
)
def test_wandb_run_has_the_exit_code_of_the_command(tmp_path, ends, code):
    logger = WandbLog(str(tmp_path), job_type="train", offline=True)
    with suppress(BaseException), closing([logger]):
        logger.log_metrics({"a": 1.0}, 3)
        if ends is not None:
            raise ends
    (run,) = offline_runs(tmp_path)
    assert (run.exit_code, run.rows[0]["a"]) == (code, 1.0)


def test_rows_that_wandb_has_are_not_sent_again(tmp_path, monkeypatch):
    sent = []
    online = SimpleNamespace(
        id="abc", starting_step=5, define_metric=lambda *_, **__: None, log=lambda row, **how: sent.append((row, how))
    )
    passed = {}
    monkeypatch.setattr("wandb.init", lambda **options: passed.update(options) or online)
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "train.run_id").write_text("abc")
    logger = WandbLog(str(tmp_path), job_type="train", resumed=True, rows_logged=3)
    for row in range(3, 7):
        logger.log_metrics({"a": row}, 10 * row)
    assert (passed["id"], passed["resume"]) == ("abc", "allow")
    assert [(row["a"], row["trainer/global_step"], how["step"]) for row, how in sent] == [(5, 50, 5), (6, 60, 6)]
    assert logger.rows == 7
    # A checkpoint written without the W&B logger has no row count: new rows follow the existing ones.
    unknown = WandbLog(str(tmp_path), job_type="train", resumed=True)
    unknown.log_metrics({"a": 7}, 70)
    assert sent[-1][1]["step"] == 5


def test_new_run_starts_a_new_wandb_run(composed, tmp_path):
    cfg = composed(
        "model=pconv", "logger=wandb", OFFLINE, "logger.wandb.checkpoints=[]", "callbacks.sample_images=null"
    )
    train(cfg)
    train(cfg)  # resume=null
    first, second = offline_runs(tmp_path)
    assert first.id != second.id


def test_missing_api_key_is_reported_with_how_to_log_in(composed, monkeypatch):
    with pytest.raises(InputError, match=r"^W&B: No API key configured: run `wandb login` or set WANDB_API_KEY"):
        train(composed("model=pconv", "logger=wandb"))


def test_wandb_mode_can_be_offline_or_disabled(tmp_path, monkeypatch):
    wandb.teardown()  # W&B reads the environment on first use
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = WandbLog(str(tmp_path / "offline"), job_type="train")
    with closing([logger]):
        logger.log_metrics({"a": 1.0}, 0)
    assert offline_runs(tmp_path)[0].exit_code == 0
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = WandbLog(str(tmp_path / "off"), job_type="train", checkpoints=["best", "last"])
    with closing([logger]):
        log_images([logger], {"samples": np.zeros((4, 4, 3), np.uint8)}, 0)
        logger.update_summary({"best_val_psnr": 1.0})
        logger.log_artifact("results", {"offline": tmp_path / "offline" / "wandb" / "train.run_id"})
    assert not list((tmp_path / "off").rglob("*.wandb"))
    wandb.teardown()


def test_only_rank_0_starts_a_wandb_run(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = WandbLog(str(tmp_path), job_type="train", offline=True)
    with closing([logger]):
        logger.log_metrics({"a": 1.0}, 0)
        logger.log_checkpoints(tmp_path)
    assert not list(tmp_path.rglob("wandb"))


def test_invalid_checkpoints_option_is_an_error(tmp_path):
    for invalid in ("best", ["best", "latest"]):
        with pytest.raises(InputError, match=r"logger\.wandb\.checkpoints"):
            WandbLog(str(tmp_path), job_type="train", checkpoints=invalid)


def test_long_group_names_are_shortened_to_the_limit_of_wandb(tmp_path):
    logger = WandbLog(str(tmp_path), job_type="train", offline=True, job_group="g" * 200)
    with closing([logger]):
        logger.log_metrics({"a": 1.0})
    assert len(offline_runs(tmp_path)[0].group) == LONGEST_GROUP


def train_one_step(cfg: DictConfig) -> Path:
    """Train, and return the last checkpoint."""
    train(cfg)
    return Path(cfg.output_dir) / "checkpoints" / "last.ckpt"


ONE_STEP = ("model=lbam", "trainer.max_steps=1", "logger=[]", "callbacks.sample_images=null")


def test_evaluation_logs_its_table(composed, tmp_path):
    best = train_one_step(composed(*ONE_STEP))
    cfg = composed(f"ckpt={best}", "logger=[wandb,tensorboard,csv]", OFFLINE, "data.split.test=0.3", config="evaluate")
    evaluate(cfg)
    (run,) = offline_runs(tmp_path)
    assert (run.job_type, run.exit_code) == ("evaluate", 0)
    (all_of_psnr,) = (row for row in run.table("results") if (row["metric"], row["hole ratio"]) == ("PSNR", "all"))
    assert all_of_psnr["low"] <= all_of_psnr["mean"] <= all_of_psnr["high"]
    assert run.series()["test/psnr"] == [(load_checkpoint(best).step, all_of_psnr["mean"])]
    assert run.series()["test/psnr"] == csv_series(Path(cfg.output_dir))["test/psnr"]
    assert run.artifacts[f"results-{run.id}:latest"] == {"records.parquet", "bank.npz"}


def test_reproduction_logs_our_scores_with_the_papers(asked, photo_folder, tmp_path):
    data = ("scale=smoke", "data=folder", f"data.root={photo_folder}", "trainer=cpu", "workers=0")
    last = train_one_step(
        compose("train", [*ONE_STEP, *data, "callbacks.progress=null", f"output_dir={tmp_path / 'run'}"])
    )
    cfg = asked("rows=[full]", f"checkpoints={{full:{last}}}", "logger=wandb", OFFLINE)
    assert reproduce(cfg) == {}
    row, command = offline_runs(tmp_path)
    assert [run.job_type for run in (row, command)] == ["evaluate", "reproduce"]
    assert row.group == command.group == f"{cfg.study}/lbam/table2"[-LONGEST_GROUP:]
    assert {"lbam/table2", "full"} <= set(row.tags)
    cell = {"row": "full", "metric": "PSNR", "column": "(0.1,0.2]"}
    (ours,) = (line for line in command.table("reproduction") if cell.items() <= line.items())
    assert ours["paper"] == 28.73
    assert ours["ours"] == pytest.approx(row.series()["test/psnr/(0.1,0.2]"][0][1])
