"""Nothing that a resumed run restores is trusted: every part is compared with that of a new run."""

import shutil
from random import Random

import pytest
import torch

from src.common.errors import InputError
from src.training.resume.run_state import require_optimizer_state, require_run_state
from src.training.run import train
from tests.fuzz.run_states import (
    KINDS,
    changed,
    load_optimizer_state,
    new_run,
    optimizer_of,
    recipe,
    saved_state,
    stopped_run,
)  # fmt: skip


@pytest.fixture(scope="module")
def stopped(photo_folder, tmp_path_factory):
    """Configuration, its plain values and the checkpoint of a run of two steps."""
    return stopped_run(photo_folder, tmp_path_factory.mktemp("stopped") / "run")


@pytest.fixture(scope="module")
def require(stopped):
    """`require(content)` checks the content of a checkpoint."""
    cfg, config, _ = stopped
    parts = new_run(cfg, config)
    return lambda content: require_run_state(*parts(), content, "last.ckpt")


def replaced(content, path, value):
    """Return a copy of nested containers with another value at a path of keys; `...` deletes."""
    *first, last = path
    copy = changed(content, [])
    node = copy
    for key in first:
        node = node[key]
    if value is ...:
        del node[last]
    else:
        node[last] = value(node[last]) if callable(value) else value
    return copy


FIRST = ("optimizer_states", 0, "state", 0)
LOOPS = ("loops", "fit_loop")
ODD = {
    "smaller moment": ((*FIRST, "exp_avg"), lambda t: t.flatten()[:1].clone(), "parameter 0.exp_avg is float32 .1,"),
    "dtype": ((*FIRST, "exp_avg_sq"), lambda t: t.double(), "expected float32"),
    "expanded": ((*FIRST, "exp_avg"), lambda t: torch.zeros(1).expand(t.shape), "repeats its values"),
    "nan": ((*FIRST, "exp_avg"), lambda t: t * float("nan"), "exp_avg is not finite"),
    "negative square": ((*FIRST, "exp_avg_sq"), lambda t: t - 1, "exp_avg_sq is negative"),
    "negative step": ((*FIRST, "step"), torch.tensor(-1.0), "step is negative"),
    "step of another kind": ((*FIRST, "step"), 1, "step is a int, expected a tensor"),
    "unknown entry": ((*FIRST, "x"), 1, "has the unknown key 'x'"),
    "missing entry": ((*FIRST, "step"), ..., "lacks 'step'"),
    "unknown parameter": (("optimizer_states", 0, "state", 999), {}, "unknown parameter, '999'"),
    "no mapping": (FIRST, [], "is a list, expected a mapping"),
    "other parameters": (("optimizer_states", 0, "param_groups", 0, "params", 0), 1, "other parameters than"),
    "infinite rate": (("optimizer_states", 0, "param_groups", 0, "lr"), float("inf"), "lr is inf, expected a finite"),
    "huge integer": (("optimizer_states", 0, "param_groups", 0, "eps"), 2**80, "expected a finite number"),
    "text for a number": (("optimizer_states", 0, "param_groups", 0, "eps"), "x", "eps is 'x', expected a finite"),
    "impossible option": (("optimizer_states", 0, "param_groups", 0, "betas"), (2.0, 0.9), "impossible options"),
    "fewer groups": (("optimizer_states", 0, "param_groups"), [], "1 parameter groups"),
    "no group": (("optimizer_states", 0, "param_groups", 0), 3, "options is 3, expected a mapping"),
    "fewer states": (("optimizer_states", 1), ..., "it has 1 optimiser states for 2 optimisers"),
    "no states": (("optimizer_states",), None, "it has no list of optimiser states"),
    "empty states": (("optimizer_states",), lambda states: [one | {"state": {}} for one in states], "empty after"),
    "loops": (("loops",), [], "fit_loop is None, expected a mapping"),
    "a counter": ((*LOOPS, "epoch_progress", "total", "ready"), -2, "total.ready is -2, expected a count"),
    "a missing counter": ((*LOOPS, "epoch_progress"), ..., "lacks 'epoch_progress'"),
    "another step": (("global_step",), 5, "global_step is 5, but its loops counted 2"),
    "loader position": ((*LOOPS, "state_dict"), {}, "lacks 'combined_loader'"),
    "loader's epoch": ((*LOOPS, "state_dict", "combined_loader", 0, "epoch"), "x", "epoch is 'x', expected a count"),
    "callbacks": (("callbacks",), [], "callbacks is a list"),
    "losses": (("callbacks", "TrainingHealth", "recent", "l1"), "abc", "TrainingHealth: recent must hold lists"),
    "warnings": (("callbacks", "TrainingHealth", "warned"), [[]], "a list of names"),
    "best score": (("callbacks", "ValidationReport", "best"), {}, "best must be null or a score"),
    "file to delete": (("callbacks", "BestCheckpoint", "kth_best_model_path"), "/home/me/a.txt", "names files outside"),
    "files to delete": (("callbacks", "BestCheckpoint", "best_k_models"), {"/a": torch.ones(())}, "names files"),
    "score of the best": (("callbacks", "BestCheckpoint", "kth_value"), "x", "a score is not a number"),
    "time": (("callbacks", "Timer", "time_elapsed", "train"), float("nan"), "expected a finite number"),
    "average's weights": (("current_model_state",), {}, "current_model_state does not match the model: "),
    "average's count": (("averaging_state", "n_averaged"), torch.tensor(-4), "n_averaged is negative"),
    "no average": (("averaging_state",), ..., "averaging_state is None, expected a mapping"),
    "weights": (("state_dict", "network.up.0.weight"), "x", "state_dict does not match the model"),
    "gradients": (("gradients",), {"network.x": torch.ones(1)}, "gradients does not match the model: 1 unexpected"),
    "critics' values": (("critic_values",), {"x": "y"}, "critic_values.x is 'y', expected a finite number"),
    "logged rows": (("logged_rows",), "3", "logged_rows is '3', expected a count"),
    "schedules": (("lr_schedulers",), 3, "lr_schedulers is 3, expected a list"),
}  # fmt: skip


def test_unchanged_state_is_accepted(stopped, require):
    require(stopped[2])


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_odd_states_are_named(stopped, require, odd):
    path, value, message = odd
    with pytest.raises(InputError, match=message) as rejected:
        require(replaced(stopped[2], path, value))
    assert str(rejected.value).startswith("last.ckpt ") or "average" in message or "repeats" in message
    assert "\n" not in str(rejected.value)


def test_later_epoch_than_the_last_is_named(stopped):
    cfg, config, content = stopped
    trainer, module = new_run(cfg, config)()
    trainer.max_epochs = 3
    with pytest.raises(InputError, match=r"is at epoch 4 of 3 already: increase trainer\.max_epochs"):
        require_run_state(
            trainer, module, replaced(content, (*LOOPS, "epoch_progress", "current", "processed"), 4), "a"
        )


def test_run_with_a_smaller_moment_changes_nothing(stopped, tmp_path):
    """A fused step would write beyond the memory of the smaller one."""
    cfg, _, content = stopped
    cfg = cfg.copy()
    run = tmp_path / "run"
    shutil.copytree(cfg.output_dir, run)
    path = run / "checkpoints" / "last.ckpt"
    torch.save(replaced(content, (*FIRST, "exp_avg"), torch.zeros(1)), path)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    cfg.output_dir, cfg.resume, cfg.trainer.max_steps = str(run), str(path), 4
    with pytest.raises(InputError, match=r"last\.ckpt can't be resumed: optimiser state 0, parameter 0\.exp_avg is"):
        train(cfg)
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_optimizers_reject_states_before_loading(tmp_path, kind):
    require_optimizer_state(optimizer_of(kind), saved_state(kind), "a")
    require_optimizer_state(optimizer_of(kind), optimizer_of(kind).state_dict(), "a")  # of a stage that has not begun
    (tmp_path / "recipe").write_bytes(recipe(b"", Random(3)))
    for _ in range(20):
        try:
            load_optimizer_state(tmp_path / "recipe", Random(kind))
        except InputError:
            return
        (tmp_path / "recipe").write_bytes(recipe(b"", Random(kind)))
