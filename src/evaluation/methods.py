"""Several methods scored on one test, with one table; methods that are scored already are kept."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from src.checkpoints.methods import Method, find_methods, parse_values, require_unique
from src.common.errors import InputError
from src.common.options import check_options
from src.common.provenance import HashedFile
from src.common.schemas import EvaluateOptions
from src.evaluation.frozen_test import FrozenTest, crop_size
from src.evaluation.records import read_records
from src.evaluation.results_of_programs import StoredResults
from src.evaluation.scoring import apply_protocol, method_config, reduce_config, score_method
from src.training.trainer import make_trainer

UNSCORED_OPTIONS = (
    "output_dir", "methods", "ckpt", "weights", "results", "export_inputs", "bank", "batch_size", "workers", "trainer",
    "logger",
)  # fmt: skip
"""Options that do not change a method's scores, or whose effect is compared by a hash."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoredMethods:
    """Methods with the files of their records, and the test that they were scored on."""

    methods: Sequence[Method]
    records: Sequence[Path]
    test: FrozenTest


def compares_methods(cfg: DictConfig) -> bool:
    """Return whether a config of conf/evaluate names several methods, or images of another program."""
    several_checkpoints = not isinstance(cfg.ckpt, str | None)
    return several_checkpoints or cfg.methods is not None or cfg.results is not None


def evaluate_methods(cfg: DictConfig) -> ScoredMethods:
    """Score the methods of `methods`, `ckpt` and `results` on one test, each in a subdirectory of `output_dir`.

    A method is kept if its records are of the same data, masks, weights or images, and options, so that an interrupted
    command can be repeated and methods can be added. Why another is scored again is logged.

    Raises:
        InputError: there are no methods or two of one name, or as in `evaluate` and `StoredResults.find`.
    """
    check_options(cfg, EvaluateOptions)
    if "model" in cfg:
        raise InputError(
            f"model={cfg.model.name} names the only method of an evaluation: with methods=, several ckpt= or results=, "
            f"add it to methods=[{cfg.model.name},...]"
        )
    options: Any = OmegaConf.to_container(
        OmegaConf.masked_copy(cfg, ["methods", "ckpt", "weights", "results"]), resolve=True
    )
    directories = [
        (name or Path(value).resolve().name, value) for name, value in parse_values("results", options.pop("results"))
    ]
    methods = find_methods(**options) if any(value is not None for value in options.values()) else []
    require_unique([*(method.name for method in methods), *(name for name, _ in directories)])
    stochastic = [method.name for method in methods if method.network.stochastic]
    if cfg.samples is not None and not stochastic:
        raise InputError(f"samples={cfg.samples}: all methods are deterministic: omit samples=")
    reduce_config(cfg, [method.checkpoint for method in methods if method.checkpoint is not None])
    apply_protocol(cfg)
    test = FrozenTest.of_config(cfg)
    if directories:
        samples = test.sample_names(test.loader(make_trainer(cfg.trainer)))
        for name, directory in directories:
            methods.append(Method(name, StoredResults.find(name, directory, samples, crop_size(cfg)), None))
    root = Path(cfg.output_dir)
    paths = {method.name: root / method.name / "records.parquet" for method in methods}
    # All before the first is scored, so that several processes agree.
    changes = {method.name: _find_change(cfg, method, test, paths[method.name]) for method in methods}
    for method in methods:
        if (change := changes[method.name]) is None:
            _report(f"{method.name}: kept, its records are of the same data, masks, method and options")
            continue
        _report(f"{method.name}: scoring{f' again, as {change}' if change else ''}")
        score_method(cfg, method, test, root / method.name, started=datetime.now(timezone.utc), save_bank=False)
    if test.bank is not None and rank_zero_only.rank == 0:  # type: ignore[attr-defined]  # Lightning sets it
        test.bank.save(root / "bank.npz")
    return ScoredMethods(methods, list(paths.values()), test)


def _find_change(cfg: DictConfig, method: Method, test: FrozenTest, path: Path) -> str | None:
    """Return why a method has to be scored, or None if its records can be kept; empty if there are none."""
    if not path.is_file():
        return ""
    try:
        frame, made = read_records(path)
    except InputError as error:
        return str(error)
    checkpoint = None if method.checkpoint is None else HashedFile.of(method.checkpoint.path).sha256
    results = method.network.sha256 if isinstance(method.network, StoredResults) else None
    before, now = ({**_scored_options(config)} for config in (made.config, method_config(cfg, method)))
    changed_options = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    changes = {
        "the data has changed": made.data != test.facts_of(frame["path"].tolist()),
        "the masks have changed": made.mask_bank_hash != test.mask_hash,
        "its weights have changed": (None if made.checkpoint is None else made.checkpoint.sha256) != checkpoint,
        "its images have changed": (None if made.results is None else made.results.sha256) != results,
        "other scores can be computed now": made.absent_scores.keys() != test.absent.keys(),
        f"these options have changed: {', '.join(changed_options)}": bool(changed_options),
    }
    return next((change for change, applies in changes.items() if applies), None)


def _scored_options(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in UNSCORED_OPTIONS}


def _report(message: str) -> None:
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        print(message, flush=True)
