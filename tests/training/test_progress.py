"""Output of a training: lines in the log, and in a terminal one bar for the whole run."""

import io
import logging
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from tqdm import tqdm

from src.common.terminal_log import StderrHandler
from src.training.callbacks import progress
from src.training.callbacks.progress import StepProgressBar, ValidationReport, format_time_left
from src.training.run import train


def a_trainer(step, **scores):
    metrics = {f"val/{name}": torch.tensor(value) for name, value in scores.items()}
    return SimpleNamespace(
        global_step=step, callback_metrics=metrics, state=SimpleNamespace(fn=TrainerFn.FITTING), sanity_checking=False,
        is_global_zero=True,
    )  # fmt: skip


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds as the progress module reads it."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    return clock


def a_module(steps, monitor="val/psnr", stage=""):
    return SimpleNamespace(generator_steps=steps, monitor=monitor, stage_of_last_step=stage)


def test_validation_line(clock, caplog):
    caplog.set_level(logging.INFO)
    module, report = a_module(6000), ValidationReport()
    report.on_train_start(a_trainer(0), module)
    clock.now += 100
    report.on_validation_end(a_trainer(1000, psnr=24.55), module)
    clock.now += 20
    over = {"psnr_over_biharmonic": 0.42, "psnr_over_biharmonic/(0,0.1]": -3.0, "psnr_over_mean_colour": -0.5}
    report.on_validation_end(a_trainer(1200, psnr=24.31, **over), module)
    resumed = ValidationReport()
    resumed.load_state_dict(report.state_dict())
    resumed.on_train_start(a_trainer(1200), module)
    resumed.on_validation_end(a_trainer(6000, psnr=24.56), module)
    assert [record.getMessage() for record in caplog.records] == [
        "step 1000/6000  val/psnr 24.55 dB (best so far)  8 min left",
        "step 1200/6000  val/psnr 24.31 dB (best 24.55 at 1000)  +0.42 dB over biharmonic  -0.50 dB over mean colour"
        "  8 min left",
        "step 6000/6000  val/psnr 24.56 dB (best so far)",
    ]


def test_each_stage_reports_its_own_score_and_best(caplog):
    caplog.set_level(logging.INFO)
    report, psnr = ValidationReport(), {"psnr": 20.0, "psnr_over_biharmonic": -6.0}
    report.on_validation_end(a_trainer(100, edge_f1=0.5, **psnr), a_module(400, "val/edge_f1", "edges"))
    report.on_validation_end(a_trainer(200, edge_f1=0.4, **psnr), a_module(400, "val/edge_f1", "edges"))
    resumed = ValidationReport()
    resumed.load_state_dict(report.state_dict())
    resumed.on_validation_end(a_trainer(300, edge_f1=0.45, **psnr), a_module(400, "val/edge_f1", "edges"))
    for step, score in ((350, 25.0), (375, 24.0)):
        resumed.on_validation_end(a_trainer(step, edge_f1=0.9, psnr=score), a_module(400, stage="inpainting"))
    resumed.on_validation_end(a_trainer(400, edge_f1=0.1, psnr=22.0), a_module(400, stage="joint"))
    assert [record.getMessage().split("  ")[1] for record in caplog.records] == [
        "val/edge_f1 0.500 (best so far)",
        "val/edge_f1 0.400 (best 0.500 at 100)",
        "val/edge_f1 0.450 (best 0.500 at 100)",
        "val/psnr 25.00 dB (best so far)",
        "val/psnr 24.00 dB (best 25.00 at 350)",
        "val/psnr 22.00 dB (best so far)",
    ]


@pytest.mark.parametrize("why", ["another process", "no validation", "a test"])
def test_no_line_without_a_validation_score(why, caplog):
    caplog.set_level(logging.INFO)
    trainer = a_trainer(10) if why == "no validation" else a_trainer(10, psnr=24.0)
    trainer.is_global_zero = why != "another process"
    trainer.state.fn = TrainerFn.TESTING if why == "a test" else TrainerFn.FITTING
    ValidationReport().on_validation_end(trainer, a_module(10))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s left"), (119, "119 s left"), (120, "2 min left"), (7199, "120 min left"), (7200, "2 h left")],
)
def test_time_left_in_words(seconds, words):
    assert format_time_left(seconds) == words


def test_pace_of_a_resumed_run_counts_only_its_own_steps(clock, caplog):
    caplog.set_level(logging.INFO)
    module, report = a_module(1000), ValidationReport()
    report.on_train_start(a_trainer(500), module)
    report.on_validation_end(a_trainer(500, psnr=20.0), module)
    clock.now += 10
    report.on_validation_end(a_trainer(510, psnr=21.0), module)
    assert [record.getMessage().partition("so far)")[2] for record in caplog.records] == ["", "  8 min left"]


@pytest.fixture
def terminal(monkeypatch):
    """The text written by a progress bar, as to a terminal of 100 columns."""
    written = io.StringIO()
    shown = {"file": written, "ncols": 100, "dynamic_ncols": False, "disable": False, "mininterval": 0}
    monkeypatch.setattr(progress, "tqdm", lambda **options: tqdm(**options | shown))
    return written


def test_one_bar_shows_the_generator_steps_of_the_whole_run(composed, train_with, terminal):
    options = ("trainer.max_steps=2", "trainer.val_check_interval=2", "trainer.enable_progress_bar=true")
    train_with(StepProgressBar(), composed("model=contextual_attention", *options))
    lines = re.split(r"[\r\n]", terminal.getvalue())
    assert any(re.match(r"training: +50%.* 1/2 .*train/loss=", line) for line in lines), lines
    assert any(re.match(r"training: 100%.* 2/2 ", line) for line in lines), lines
    assert not any("Epoch" in line for line in lines)


def test_no_bar_outside_a_terminal(composed, train_with, capsys):
    train_with(StepProgressBar(), composed("model=pconv", "trainer.enable_progress_bar=true"))
    captured = capsys.readouterr()
    assert "training:" not in captured.out + captured.err


def test_run_logs_one_line_per_validation(composed, caplog):
    caplog.set_level(logging.INFO, "src.training.callbacks.progress")
    train(composed("model=pconv", "trainer.max_steps=2", "trainer.val_check_interval=1"))
    lines = [record.getMessage() for record in caplog.records if record.name == "src.training.callbacks.progress"]
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
    assert all("dB over biharmonic" in line for line in lines)


def test_log_lines_go_to_the_current_stderr(monkeypatch):
    handler, replaced = StderrHandler(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", replaced)
    handler.emit(logging.LogRecord("a", logging.INFO, "", 0, "a line", None, None))
    assert replaced.getvalue() == "a line\n"
