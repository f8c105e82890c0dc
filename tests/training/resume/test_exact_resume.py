"""A run that is killed and started again by the same command ends bit-identical to an uninterrupted one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from signal import Signals
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import Tensor

from src.common.errors import InputError
from src.training.resume.checkpoints import latest_checkpoint
from src.training.resume.run_dirs import FINISHED
from tests.commands import Ended

MOMENTS = (
    "on_train_batch_start", "on_train_batch_end", "on_validation_start", "on_validation_batch_end",
    "on_save_checkpoint", "fsync", "replace",
)  # fmt: skip

PROCEDURES = {
    "lbam": ["model=lbam", "callbacks=ema"],
    "lbam_accumulating": ["model=lbam", "accumulate=3", "callbacks=ema", "trainer.max_steps=4"],
    "pconv": ["model=pconv", "trainer.max_steps=8", "model.training.fine_tuning_share=0.5"],
    "edge_lbam": ["model=edge_lbam", "trainer.max_steps=7"],
    "contextual_attention": ["model=contextual_attention", "trainer.max_steps=3"],
    "mpga_gla": ["model=mpga_gla", "trainer.max_steps=5", "clip_norm=1"],
}
"""Overrides by name. An epoch has four batches: kills fall inside epochs, rounds of critics, windows and stages."""

LIGHT = ("callbacks.sample_images=null", "callbacks.references=null")
"""Callbacks that take half the time of such a run; "lbam" has them."""

KILLED = -9


@pytest.fixture(scope="module")
def train(commands, photo_folder, tmp_path_factory) -> Callable[..., Ended]:
    """`train(run_dir, *overrides)` runs `python -m src.train`, by default without the callbacks of `LIGHT`."""
    cwd = tmp_path_factory.mktemp("cwd")
    common = [
        "scale=smoke", "data=folder", f"data.root={photo_folder}", "trainer=cpu", "workers=0", "bank_masks_per_bin=2",
        "trainer.max_steps=6", "trainer.val_check_interval=2", "trainer.log_every_n_steps=1",
        "trainer.enable_progress_bar=false", "callbacks.progress=null",
    ]  # fmt: skip
    return lambda run_dir, *overrides, light=True, **how: commands(
        "train", *common, *(LIGHT if light else ()), f"output_dir={run_dir}", *overrides, cwd=cwd, **how
    )


@pytest.fixture(scope="module")
def uninterrupted(train, tmp_path_factory) -> Callable[..., Path]:
    """`uninterrupted(*overrides)` returns the directory of a finished run, trained once for all tests."""
    finished: dict[tuple[Any, ...], Path] = {}

    def trained(*overrides: str, light: bool = True) -> Path:
        key = (*overrides, light)
        if key not in finished:
            finished[key] = tmp_path_factory.mktemp("uninterrupted")
            ended = train(finished[key], *overrides, light=light)
            assert ended.code == 0, ended.err
        return finished[key]

    return trained


def contents(folder: Path) -> dict[str, Any]:
    """Return everything a run writes, by name, without its directory."""
    files: dict[str, Any] = {"log": rows(folder)}
    files |= {path.name: path.read_bytes() for path in (folder / "samples").glob("*.png")}
    for name in ("last", "best"):
        whole = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        # Lightning counts repeated validations in the loops, and does not restore the latest score; nothing reads them.
        kept = {key: value for key, value in whole.items() if key not in ("config", "loops")}
        values = leaves(kept, str(folder))
        files |= {f"{name}: {key}": value for key, value in values if not key.endswith(".current_score")}
    return files


def rows(folder: Path) -> list[str]:
    """Return the lines of metrics.csv."""
    return (folder / "csv" / "metrics.csv").read_text().splitlines()


def leaves(node: Any, folder: str, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values in nested mappings and lists with their dotted keys."""
    if isinstance(node, dict | list | tuple):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, folder, f"{path}.{key}".replace(folder, ""))
    else:
        yield path, node.replace(folder, "") if isinstance(node, str) else node


def differences(one: Path, other: Path) -> list[str]:
    """Return the names of the outputs in which two runs differ, bit for bit."""
    a, b = contents(one), contents(other)

    def same(x: Any, y: Any) -> bool:
        return torch.equal(x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) else bool(x == y)

    return [name for name in a.keys() | b.keys() if name not in a or name not in b or not same(a[name], b[name])]


def killing(moment: str, count: int, signal: str = "SIGKILL", group: bool = False) -> str:
    """Return the override that ends a run by a signal."""
    arguments = f"moment:{moment},count:{count},signal:{signal},group:{group}"
    return f"+callbacks.kill={{_target_:tests.killing.Kill,{arguments}}}"


@pytest.mark.parametrize("name", PROCEDURES)
def test_run_killed_at_random_moments_equals_an_uninterrupted_one(train, uninterrupted, tmp_path, name):
    light = name != "lbam"
    rng = np.random.default_rng(sum(map(ord, name)))
    kills = 0
    for moments in (MOMENTS[:2], MOMENTS):  # the first ones always occur
        minutes = rng.choice([0, 9])  # a checkpoint before every batch, or only after validations
        kill = killing(rng.choice(moments), rng.integers(1, 4))
        overrides = [*PROCEDURES[name], f"callbacks.last.minutes={minutes}", kill]
        ended = train(tmp_path / "killed", *overrides, light=light)
        assert ended.code in (KILLED, 0), ended.err
        kills += ended.code == KILLED
    assert kills > 0
    last = train(tmp_path / "killed", *PROCEDURES[name], light=light)
    assert last.code == 0, last.err
    assert differences(uninterrupted(*PROCEDURES[name], light=light), tmp_path / "killed") == []


def test_stop_signal_saves_the_run_before_the_next_batch(train, uninterrupted, tmp_path):
    signal = "SIGTERM"
    ended = train(tmp_path / "stopped", "model=pconv", killing("on_train_batch_end", 3, signal))
    assert ended.code == 128 + Signals[signal]
    assert f"{signal}: saved the run at step 3" in ended.err
    assert "Traceback" not in ended.err
    assert torch.load(tmp_path / "stopped" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
    assert train(tmp_path / "stopped", "model=pconv").code == 0
    assert differences(uninterrupted("model=pconv"), tmp_path / "stopped") == []


def test_loader_workers_leave_a_group_signal_to_the_main_process(train, uninterrupted, tmp_path):
    signal = "SIGUSR1"
    overrides = ["model=pconv", "workers=2"]
    ended = train(tmp_path / "stopped", *overrides, killing("on_train_batch_end", 3, signal, group=True))
    assert ended.code == 128 + Signals[signal], ended.err
    assert "Traceback" not in ended.err
    assert torch.load(tmp_path / "stopped" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
    assert train(tmp_path / "stopped", *overrides).code == 0
    assert differences(uninterrupted("model=pconv"), tmp_path / "stopped") == []


def test_loader_workers_end_when_the_main_process_is_killed(train, tmp_path):
    ended = train(tmp_path / "run", "model=pconv", "workers=2", killing("on_train_batch_end", 3), limit_s=240)
    assert ended.code == KILLED
    assert ended.seconds < 240  # it ends when no process holds the pipes open


ROUNDS = {
    "contextual_attention": (["model=contextual_attention", "trainer.max_steps=2"], [5, 7]),
    "contextual_attention_accumulating": (
        ["model=contextual_attention", "model.training.critic_steps=1", "accumulate=3", "trainer.max_steps=1"],
        [2, 4],
    ),
    "edge_lbam": (["model=edge_lbam", "trainer.max_steps=4"], [1, 2]),
}
"""Overrides, and the number of batches in the checkpoint that each kill leaves: inside a round, at a stage boundary."""


@pytest.mark.parametrize("name", ROUNDS)
def test_logged_rows_do_not_depend_on_where_in_a_round_or_stage_a_run_was_killed(train, uninterrupted, tmp_path, name):
    (overrides, saved), done = ROUNDS[name], 0
    overrides = [*overrides, "trainer.val_check_interval=4", "trainer.limit_val_batches=1"]
    for batches in saved:
        kill = killing("on_train_batch_start", batches - done + 2)  # before that batch's own checkpoint
        assert train(tmp_path / "killed", *overrides, "callbacks.last.minutes=0", kill).code == KILLED
        last = torch.load(tmp_path / "killed" / "checkpoints" / "last.ckpt", weights_only=True)
        done = last["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"]
        assert done == batches
    assert train(tmp_path / "killed", *overrides).code == 0
    assert rows(uninterrupted(*overrides)) == rows(tmp_path / "killed")


def test_interrupted_command_resumes_and_finished_command_starts_over(commands, photo_folder, tmp_path):
    overrides = [
        *("model=pconv", "scale=smoke", "data=folder", f"data.root={photo_folder}", "trainer=cpu", "workers=0"),
        *("trainer.max_steps=6", "callbacks.last.minutes=0", killing("on_train_batch_end", 4)),
    ]
    assert commands("train", *overrides, cwd=tmp_path).code == KILLED
    started = list((tmp_path / "outputs" / "pconv_folder_smoke").iterdir())
    other = commands("train", *overrides, "seed=1", cwd=tmp_path)  # another command
    assert other.code == KILLED
    ended = commands("train", *overrides, cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert "generator step 3" in ended.err
    assert str(started[0].relative_to(tmp_path)) in ended.out
    assert len(list(started[0].parent.iterdir())) == 2

    third = commands("train", *overrides, cwd=tmp_path)
    assert third.code == KILLED
    assert len(list(started[0].parent.iterdir())) == 3


def test_interrupted_multirun_resumes_without_repeating_finished_runs(commands, photo_folder, tmp_path):
    overrides = [
        *("-m", "trainer.max_steps=2,4", "model=pconv", "scale=smoke", "data=folder", f"data.root={photo_folder}"),
        *("trainer=cpu", "workers=0", "callbacks.last.minutes=0", killing("on_train_batch_end", 3)),
    ]
    assert commands("train", *overrides, cwd=tmp_path).code == KILLED
    (sweep,) = (tmp_path / "multirun").iterdir()
    first = (sweep / "0_pconv" / "checkpoints" / "last.ckpt").stat()
    ended = commands("train", *overrides, cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert "0_pconv is finished" in ended.err
    assert (sweep / "0_pconv" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == first.st_mtime_ns
    last = torch.load(sweep / "1_pconv" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 4
    assert list((tmp_path / "multirun").iterdir()) == [sweep]
    assert (sweep / FINISHED).is_file()


def test_signal_during_the_last_validation_ends_a_multirun_with_a_finished_run(commands, photo_folder, tmp_path):
    ended = commands(
        *("train", "-m", "trainer.max_steps=2,4", "scale.validate_every=2", "model=pconv", "scale=smoke"),
        *("data=folder", f"data.root={photo_folder}", "trainer=cpu", "workers=0"),
        killing("on_validation_batch_end", 1, "SIGTERM"),
        cwd=tmp_path,
    )  # fmt: skip
    assert ended.code == 128 + Signals.SIGTERM, ended.err
    (sweep,) = (tmp_path / "multirun").iterdir()
    assert (sweep / "0_pconv" / FINISHED).is_file()
    assert not (sweep / "1_pconv").exists()


def test_directory_of_another_or_a_running_run_is_rejected(train, tmp_path):
    folder = tmp_path / "run"
    assert train(folder, "model=pconv", killing("on_train_batch_end", 3)).code == KILLED
    other = train(folder, "model=pconv", "batch_size=1")
    assert other.code == 1
    assert "holds a run that differs in batch_size" in other.err
    with FileLock(folder / "lock"):
        busy = train(folder, "model=pconv")
    assert busy.code == 1
    assert "another process is running" in busy.err


@pytest.fixture
def checkpoints(train, tmp_path) -> Path:
    """The directory of an interrupted run with two checkpoints."""
    assert train(tmp_path / "run", "model=pconv", killing("on_validation_start", 3)).code == KILLED
    return tmp_path / "run"


@pytest.mark.parametrize("corruption", ["truncated", "a bit flipped", "empty"])
def test_corrupt_checkpoint_is_named_and_the_previous_one_is_used(checkpoints, caplog, corruption):
    last, before = (checkpoints / "checkpoints" / name for name in ("last.ckpt", "before_last.ckpt"))
    assert latest_checkpoint(checkpoints) == last
    whole = bytearray(last.read_bytes())
    middle = len(whole) // 2
    whole[middle] ^= 4
    last.write_bytes({"truncated": whole[:middle], "a bit flipped": whole, "empty": b""}[corruption])
    with caplog.at_level("WARNING"):
        assert latest_checkpoint(checkpoints) == before
    assert str(last) in caplog.text
    before.write_bytes(whole[:100])
    with pytest.raises(InputError, match=r"last\.ckpt.*before_last\.ckpt.*resume=null"):
        latest_checkpoint(checkpoints)


def test_run_resumes_from_the_checkpoint_before_a_corrupt_one(train, uninterrupted, checkpoints):
    last = checkpoints / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    ended = train(checkpoints, "model=pconv")
    assert ended.code == 0, ended.err
    assert "resuming from" in ended.err
    assert differences(uninterrupted("model=pconv"), checkpoints) == []


def test_resume_that_is_not_bit_identical_is_logged(train, checkpoints):
    last = checkpoints / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    content["rounding"]["threads"] += 1
    torch.save(content, last)
    ended = train(checkpoints, "model=pconv")
    assert ended.code == 0, ended.err
    assert "threads changed since" in ended.err
