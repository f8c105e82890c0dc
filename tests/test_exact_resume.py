"""A run that is killed, and started again by the same command, ends with the very bits of one that was not."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.commands import Commands, Ended

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
    "contextual_attention_accumulating": ["model=contextual_attention", "accumulate=2", "trainer.max_steps=2"],
    "mpga_gla": ["model=mpga_gla", "trainer.max_steps=5", "clip_norm=1"],
}
"""What is typed, by name. An epoch has four batches: kills fall into epochs, rounds of critics, windows, stages."""

KILLED = -9


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    with Commands() as running:
        yield running


@pytest.fixture
def train(commands, photo_folder, tmp_path) -> Callable[..., Ended]:
    """`train(folder, *overrides)` -> how `python -m src.train` ended."""
    common = [
        "scale=smoke", "data=folder", f"data.root={photo_folder}", "trainer=cpu", "workers=0", "bank_masks_per_bin=2",
        "trainer.max_steps=6", "trainer.val_check_interval=2", "trainer.log_every_n_steps=1",
        "trainer.enable_progress_bar=false", "callbacks.progress=null",
    ]  # fmt: skip
    return lambda folder, *overrides, **how: commands(
        "train", *common, f"output_dir={folder}", *overrides, cwd=tmp_path, **how
    )


def contents(folder: Path) -> dict[str, Any]:
    """All that a run leaves, by name; where it lies is left out."""
    files: dict[str, Any] = {"log": (folder / "csv" / "metrics.csv").read_text()}
    files |= {path.name: path.read_bytes() for path in (folder / "samples").glob("*.png")}
    for name in ("last", "best"):
        whole = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        # Of the loops Lightning counts validations it has gone back to; the latest score it does not restore. Nothing
        # reads either.
        kept = {key: value for key, value in whole.items() if key not in ("config", "loops")}
        values = leaves(kept, str(folder))
        files |= {f"{name}: {key}": value for key, value in values if not key.endswith(".current_score")}
    return files


def leaves(node: Any, folder: str, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values in nested mappings and lists, by their dotted keys."""
    if isinstance(node, dict | list | tuple):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, folder, f"{path}.{key}".replace(folder, ""))
    else:
        yield path, node.replace(folder, "") if isinstance(node, str) else node


def differences(one: Path, other: Path) -> list[str]:
    """Names of what two runs left and is not the same, bit for bit."""
    a, b = contents(one), contents(other)

    def same(x: Any, y: Any) -> bool:
        return torch.equal(x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) else bool(x == y)

    return [name for name in a.keys() | b.keys() if name not in a or name not in b or not same(a[name], b[name])]


@pytest.mark.parametrize("name", PROCEDURES)
def test_a_run_killed_at_random_moments_ends_like_one_that_was_not(train, tmp_path, name):
    whole = train(tmp_path / "whole", *PROCEDURES[name])
    assert whole.code == 0, whole.err
    rng = np.random.default_rng(sum(map(ord, name)))
    kills = 0
    for _ in range(3):
        moment, count = rng.choice(MOMENTS), rng.integers(1, 4)
        kill = f"+callbacks.kill={{_target_:tests.killing.Kill,moment:{moment},count:{count}}}"
        # A checkpoint before every batch, or at validations alone.
        ended = train(tmp_path / "killed", *PROCEDURES[name], f"callbacks.last.minutes={rng.choice([0, 9])}", kill)
        assert ended.code in (KILLED, 0), ended.err
        kills += ended.code == KILLED
    assert kills > 0
    last = train(tmp_path / "killed", *PROCEDURES[name])
    assert last.code == 0, last.err
    assert differences(tmp_path / "whole", tmp_path / "killed") == []
