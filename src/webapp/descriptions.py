"""Describe the networks of the page's list: model, size, steps and validation score."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from src.checkpoints.export_directory import CARD, WEIGHTS
from src.checkpoints.reading import TrainedOn, find_checkpoint, read_checkpoint
from src.common.errors import InputError
from src.common.untrusted_files import parse_yaml, read_text
from src.training.resume.run_dirs import BEST, read_finished

PRESELECTED = 2
"""Number of the user's newest networks that are selected initially."""

MIN_STEPS = 1000
"""Networks with fewer generator steps are not selected initially, as their results show little of the method."""


@dataclass(frozen=True)
class Description:
    """Facts about a trained network; `psnr` is that of its validation in dB, None if unknown."""

    model: str
    side_px: int | None
    steps: int
    psnr: float | None

    def __str__(self) -> str:
        score = "no validation score" if self.psnr is None else f"validation {self.psnr:.2f} dB"
        size = "unknown size" if self.side_px is None else f"{self.side_px} px"
        return f"{self.model}, {size}, {self.steps:,} steps, {score}"


def describe(source: Path) -> Description | None:
    """Describe a checkpoint or export directory from its config; None if it can't be read.

    The score of a checkpoint is that of its finished run, and of an export, that of its model card.
    """
    path = find_checkpoint(source)
    try:
        content = read_checkpoint(path, mapped=True)
    except InputError:
        return None
    config = content["config"]
    name = str(config["model"].get("name") or config["model"]["network"]["_target_"].rpartition(".")[2])
    directory = path.parent if path.name == WEIGHTS else path
    psnr = _card_psnr(directory / CARD) if directory.is_dir() else _run_psnr(path)
    return Description(name, TrainedOn.of_config(config).side_px, content["global_step"], psnr)


def preselect(described: Mapping[str, Description | None], always: int) -> set[str]:
    """Return the names that are selected initially: the first `always` ones, and `PRESELECTED` trained ones."""
    names = list(described)
    trained = [name for name, facts in described.items() if facts is not None and facts.steps >= MIN_STEPS]
    return {*names[:always], *[name for name in trained if name not in names[:always]][:PRESELECTED]}


def _run_psnr(checkpoint: Path) -> float | None:
    run = read_finished(checkpoint.parent.parent) if checkpoint.name == "best.ckpt" else None
    score = (run or {}).get(BEST[0])
    return None if score is None else float(score)


def _card_psnr(card: Path) -> float | None:
    """Return the validation PSNR in the `model-index` of a model card, which anyone may have written."""
    try:
        metrics = parse_yaml(read_text(card).split("---\n")[1])["model-index"][0]["results"][0]["metrics"]
        return next(float(one["value"]) for one in metrics if one["type"] == "psnr")
    except (InputError, LookupError, RecursionError, StopIteration, TypeError, ValueError, yaml.YAMLError):
        return None
