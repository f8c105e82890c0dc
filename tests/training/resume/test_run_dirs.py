"""Run directories: the same run, another one, a finished one, changed training images."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from src.common.errors import InputError
from src.training.resume.checkpoints import NothingToTrainError, RunFinishedError, _identity_in
from src.training.resume.run_dirs import COMMAND, FINISHED, is_unfinished_run, read_finished, run_dir_lock
from src.training.run import train
from tests.commands import Ended
from tests.training.conftest import StopAfter

KILLED = -9


def test_lock_clears_what_a_killed_process_left(tmp_path):
    left = [tmp_path / name for name in (".a.abcd1_23.part", "checkpoints/.next.ckpt.abcdefgh.part")]
    kept = [tmp_path / name for name in (".mine.part", "a.abcdefgh.part", "other/.a.abcdefgh.part")]
    for path in (*left, *kept):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    with run_dir_lock(tmp_path):
        assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize(
    "content",
    [b"[" * 10**5, b"\xff\xfe", b"{}", b"[]", b'{"config": []}', b'{"config": {}, "best_val_psnr": "x"}', b"1" * 5000],
)
def test_corrupt_end_of_a_run_does_not_count(tmp_path, content):
    (tmp_path / FINISHED).write_bytes(content)
    assert read_finished(tmp_path) is None


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"[" * 10**5, b"a: &x [1]\nb: *x", b"model: []\ndata: x", b"callbacks: 3"]
)
def test_corrupt_command_is_not_resumed(composed, tmp_path, content):
    (tmp_path / COMMAND).write_bytes(content)
    assert not is_unfinished_run(tmp_path, composed("model=pconv"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("loss", {"terms": 3}), ("callbacks", {"ema": 3, "best": "x"}), ("trainer", []), ("data", {"seed": 0, "x": []})],
)
def test_corrupt_configuration_in_a_checkpoint_is_named(key, value):
    config = {"model": {"network": {}, "training": {"_target_": "x", "stages": []}}, "loss": {"terms": {}}, "seed": 0}
    config |= {"data": {"seed": 0}, "trainer": {}} | {key: value}
    with pytest.raises(InputError, match=r"last\.ckpt does not record how its run was trained"):
        _identity_in(Path("last.ckpt"), config)


def killing(count: int) -> str:
    """Return the override that kills a run after `count` batches, with a checkpoint before every batch."""
    return f"+callbacks.kill={{_target_:tests.killing.Kill,moment:on_train_batch_end,count:{count}}}"


@pytest.fixture
def run(commands, photo_folder, tmp_path) -> Callable[..., Ended]:
    """`run(*overrides)` runs `python -m src.train` in the test's directory."""
    common = [
        *("model=pconv", "scale=smoke", "data=folder", f"data.root={photo_folder}", "trainer=cpu", "workers=0"),
        *("trainer.max_steps=6", "callbacks.last.minutes=0", "callbacks.progress=null"),
        *("trainer.enable_progress_bar=false", "bank_masks_per_bin=2"),
    ]
    return lambda *overrides: commands("train", *common, *overrides, cwd=tmp_path)


def step_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


def test_finished_run_is_not_repeated_and_its_directory_rejects_another_run(composed):
    cfg = ("model=pconv", "trainer.max_steps=1", "resume=auto")
    folder = Path(train(composed(*cfg)).default_root_dir)
    assert read_finished(folder)["best_val_psnr"] is None
    with pytest.raises(RunFinishedError, match="is finished"):
        train(composed(*cfg))
    with pytest.raises(InputError, match="holds a run that differs in batch_size") as rejected:
        train(composed(*cfg, "batch_size=1"))
    assert not isinstance(rejected.value, RunFinishedError)
    (folder / FINISHED).write_text("")  # truncated
    assert read_finished(folder) is None
    assert train(composed(*cfg)).global_step == 1
    assert read_finished(folder) is not None


def test_rejected_command_does_not_hide_an_interrupted_run(run, tmp_path):
    assert run(killing(4)).code == KILLED
    (folder,) = (tmp_path / "outputs" / "pconv_folder_smoke").iterdir()
    rejected = run(killing(4), "batch_size=1", f"output_dir={folder}")
    assert rejected.code == 1
    assert "differs in batch_size" in rejected.err
    ended = run(killing(4))
    assert ended.code == 0, ended.err
    assert f"{folder.name}/checkpoints/last.ckpt, generator step 3" in ended.err


def test_run_resumed_from_another_checkpoint_resumes_from_its_own_afterwards(run, tmp_path):
    assert run("trainer.max_steps=2", "output_dir=first").code == 0
    overrides = ("resume=first/checkpoints/last.ckpt", "output_dir=second", "trainer.max_steps=8", killing(3))
    assert run(*overrides).code == KILLED
    assert step_of(tmp_path / "second" / "checkpoints" / "last.ckpt") == 4
    assert run(*overrides).code == KILLED
    assert step_of(tmp_path / "second" / "checkpoints" / "last.ckpt") == 6
    ended = run(*overrides)
    assert ended.code == 0, ended.err
    assert "second/checkpoints/last.ckpt, generator step 6" in ended.err


def test_moving_average_defines_the_run(composed, train_stopped):
    train_stopped(composed("model=pconv", "callbacks=ema", "trainer.max_steps=4"))
    with pytest.raises(InputError, match=r"differs in callbacks\.ema"):
        train(composed("model=pconv", "trainer.max_steps=4", "resume=auto"))


@pytest.fixture
def train_stopped(composed) -> Callable:
    """Train, and remove the mark of a finished run."""

    def trained(cfg):
        (Path(train(cfg).default_root_dir) / FINISHED).unlink()

    return trained


def test_changed_training_images_are_detected(composed, train_stopped, photo_folder, tmp_path, caplog):
    photos = tmp_path / "photos"
    shutil.copytree(photo_folder, photos)
    overrides = ("model=pconv", f"data.root={photos}", "trainer.max_steps=2")
    train_stopped(composed(*overrides))
    shutil.copy(photos / "photo_0.png", photos / "photo_10.png")
    with pytest.raises(InputError, match=r"are not those that .*last\.ckpt was trained on"):
        train(composed(*overrides, "resume=auto"))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    train(composed(*overrides, "trainer.max_steps=3", f"resume={last}", f"output_dir={tmp_path / 'other'}"))
    assert "are not those that" in caplog.text


def test_run_stopped_by_max_time_is_unfinished(composed, train_with):
    overrides = ("model=pconv", "trainer.max_steps=100000", "trainer.val_check_interval=100000", "resume=auto")
    trainer = train(composed(*overrides, "trainer.max_time=00:00:00:01"))
    folder = Path(trainer.default_root_dir)
    assert read_finished(folder) is None
    assert step_of(folder / "checkpoints" / "last.ckpt") == trainer.global_step > 0
    with pytest.raises(NothingToTrainError, match=r"trainer\.max_time is used up"):
        train(composed(*overrides, "trainer.max_time=00:00:00:01"))
    step = trainer.global_step
    assert train_with(StopAfter(step + 1), composed(*overrides, "trainer.max_time=00:01:00:00")).global_step == step + 1


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ("resume=true", "resume must be auto, null or a checkpoint's path"),
        ("seed=-1", "seed must be an integer from 0 to 4294967295, got -1"),
        ("noise_seed=x", "noise_seed must be an integer from 0"),
        ("init_seed=99999999999999", "init_seed must be an integer from 0"),
        ("batch_size=x", "batch_size must be an integer >= 1, got 'x'"),
        ("workers=-1", "workers must be an integer >= 0, got -1"),
        ("trainer.max_steps=1.5", r"trainer\.max_steps must be an integer >= -1, got 1\.5"),
        ("scale.max_steps=-1", r"pconv\.yaml does not say how .* set scale\.max_steps= or scale\.max_epochs=, or add"),
        ("callbacks.last.minutes=x", r"callbacks\.last\.minutes must be a number"),
        ("callbacks.last.minutes=-1", r"callbacks\.last\.minutes must be a number"),
        ("+callbacks.ema=1", r"callbacks\.ema must be null or have a _target_"),
    ],
)
def test_invalid_values_are_rejected_with_their_key(composed, overrides, expected):
    with pytest.raises(Exception, match=expected):
        train(composed("model=pconv", overrides))
