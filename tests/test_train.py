"""Training as a user types it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def typed(*arguments):
    """Run `python -m src.train ...` in the project's folder."""
    return subprocess.run(
        [sys.executable, "-m", "src.train", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def smoke(photo_folder):
    return ["scale=smoke", "data=folder", f"data.root={photo_folder}", "workers=0"]


def test_multirun_trains_a_sweep(photo_folder, tmp_path):
    ended = typed("-m", "model=lbam,pconv", *smoke(photo_folder), f"hydra.sweep.dir={tmp_path}", "trainer=cpu")
    assert ended.returncode == 0, ended.stderr
    for job in ("0_lbam", "1_pconv"):
        assert (tmp_path / job / "checkpoints" / "best.ckpt").is_file()
        assert (tmp_path / job / "csv" / "metrics.csv").is_file()


def test_two_processes_train_one_model(photo_folder, tmp_path):
    ended = typed(
        "model=lbam", *smoke(photo_folder), "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2",
        f"hydra.run.dir={tmp_path}",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["model=dalle"], ["Could not find 'model/dalle'", "Available options", "pconv"]),
        (
            ["data=places", "data.root=nowhere"],
            ["error: data=places: data.root=nowhere is not a folder", "places2.csail"],
        ),
        (["resume=gone.ckpt"], ["error: no checkpoint at gone.ckpt"]),
        (["scale.image_size=96"], ["error: loss.terms.adversarial.critic: size must be a power of two"]),
    ],
)
def test_mistakes_are_answered_without_a_traceback(arguments, expected, tmp_path):
    ended = typed(*arguments, "scale=smoke", f"hydra.run.dir={tmp_path}")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    for words in expected:
        assert words in ended.stderr


def test_missing_weights_say_which_file_goes_where(photo_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    ended = typed(
        *smoke(photo_folder), "loss.features.weights=pretrained", "loss.features.width=1", f"hydra.run.dir={tmp_path}"
    )
    assert ended.returncode == 1
    for words in ("vgg16-397923af.pth", str(tmp_path / "empty"), "loss.features.weights=none"):
        assert words in ended.stderr


def test_help_reads_well():
    ended = typed("--help")
    assert ended.returncode == 0
    for words in (
        "model: biharmonic, contextual_attention, edge_lbam, lbam",
        "scale: mini, paper, smoke",
        "python -m src.train -m model=lbam,pconv",
    ):
        assert words in ended.stdout
