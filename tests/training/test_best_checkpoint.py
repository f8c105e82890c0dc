"""The best checkpoint belongs to a run's last stage; MECNet alone is selected by its edges' F1."""

import json
from pathlib import Path

import pytest
import torch

from src.training.module import InpaintingModule
from src.training.procedures.stages import StagedTraining
from src.training.resume.run_dirs import mark_finished
from src.training.run import train
from src.training.sweep_table import read_sweep
from tests.training.conftest import StopAfter

PSNR = {1: 30.0, 2: 29.0, 3: 25.0, 4: 26.0, 5: 20.0, 6: 19.0}  # by step, two per stage
F1 = {1: 0.1, 2: 0.5, 3: 0.9, 4: 0.2, 5: 0.3, 6: 0.4}
SIX = [
    "model=edge_lbam",
    "trainer.max_steps=6",
    "trainer.val_check_interval=1",
    "callbacks.sample_images=null",
    "callbacks.references=null",
]


@pytest.fixture
def scripted(monkeypatch):
    """Replace the scores of every validation by those of the tables."""

    def log(module):
        for score, table in (("psnr", PSNR), ("edge_f1", F1)):
            if module.global_step in table:
                module.log_by_step({f"val/{score}": table[module.global_step]})

    monkeypatch.setattr(InpaintingModule, "on_validation_epoch_end", log)
    monkeypatch.setattr(StagedTraining, "on_validation_epoch_end", log)


def step_of_best(folder) -> int:
    return torch.load(Path(folder, "checkpoints", "best.ckpt"), weights_only=True)["global_step"]


def recorded_best(folder) -> dict[str, float | None]:
    found = json.loads(Path(folder, "finished.json").read_text())
    return {key: value for key, value in found.items() if key.startswith("best")}


def test_best_checkpoint_belongs_to_the_last_stage(composed, scripted):
    cfg = composed(*SIX)
    trainer = train(cfg)
    assert step_of_best(cfg.output_dir) == 5
    assert recorded_best(cfg.output_dir) == {"best_val_psnr": 20.0}
    assert trainer.checkpoint_callback.best_model_score == 20.0


@pytest.mark.parametrize(("at", "best"), [(2, 2), (3, 3), (5, 5)])
def test_each_stage_uses_its_own_score_also_after_a_resume(composed, scripted, train_with, at, best):
    cfg = composed(*SIX)
    train_with(StopAfter(at), cfg)
    assert step_of_best(cfg.output_dir) == best  # edges by F1: 2 of 1 and 2; inpainting by PSNR: 4 of 3 and 4
    trainer = train(composed(*SIX, f"resume={cfg.output_dir}/checkpoints/last.ckpt"))
    assert step_of_best(cfg.output_dir) == 5
    assert trainer.checkpoint_callback.best_model_score == 20.0
    assert recorded_best(cfg.output_dir) == {"best_val_psnr": 20.0}


def test_edges_alone_are_selected_by_f1(composed, scripted):
    cfg = composed(*SIX, "model.training.only=[edges]")
    train(cfg)
    assert step_of_best(cfg.output_dir) == 3
    assert recorded_best(cfg.output_dir) == {"best_val_psnr": None, "best_val_edge_f1": pytest.approx(0.9)}


def test_configured_monitor_applies_to_all_stages(composed, scripted):
    cfg = composed(*SIX, "callbacks.best.monitor=val/edge_f1")
    train(cfg)
    assert step_of_best(cfg.output_dir) == 6
    assert recorded_best(cfg.output_dir)["best_val_psnr"] is None


def test_validation_without_the_score_is_skipped(composed, scripted, monkeypatch):
    monkeypatch.delitem(F1, 3)
    cfg = composed(*SIX, "model.training.only=[edges]")
    train(cfg)
    assert step_of_best(cfg.output_dir) == 2


def test_last_stage_without_a_validation_causes_a_warning(composed, scripted, caplog):
    cfg = composed(*SIX, "trainer.val_check_interval=4")
    train(cfg)
    assert step_of_best(cfg.output_dir) == 4
    assert "best.ckpt belongs to the stage inpainting, as the stage joint had no validation" in caplog.text


def test_sweep_table_separates_f1_and_psnr(tmp_path):
    bests = {"0": {"best_val_psnr": 20.0}, "1": {"best_val_edge_f1": 0.4}, "2": {"best_val_edge_f1": 0.5}}
    for run, best in bests.items():
        (tmp_path / run / ".hydra").mkdir(parents=True)
        (tmp_path / run / ".hydra" / "overrides.yaml").write_text(f"- seed={run}")
        mark_finished(tmp_path / run, {}, best)
    table = read_sweep(tmp_path)
    assert table["run"].tolist() == ["0", "2", "1"]
    assert table["best_val_psnr"].notna().tolist() == [True, False, False]
    assert table["best_val_edge_f1"].notna().tolist() == [False, True, True]
