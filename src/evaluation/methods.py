"""Several methods scored on one test, with one table; methods that are scored already are kept."""

import json
from collections.abc import Mapping, Sequence
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

SCORED_OPTIONS = ("model", "seed", "samples", "lpips", "extra_scores", "features", "set_scores", "protocol")
"""Options that decide the scores, besides those of the crops, masks, weights and images of other programs, which are
compared by their hashes and by the evaluation transform."""


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
    command can be repeated and methods can be added. Why another is scored again is printed.

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
    is_sized = cfg.test_size is not None or "protocol" in cfg
    reduce_config(cfg, [] if is_sized else [one.checkpoint for one in methods if one.checkpoint is not None])
    apply_protocol(cfg)
    test = FrozenTest.of_config(cfg)
    samples = test.sample_names(test.loader(make_trainer(cfg.trainer)))
    for name, directory in directories:
        methods.append(Method(name, StoredResults.find(name, directory, samples, crop_size(cfg)), None))
    root = Path(cfg.output_dir)
    paths = {method.name: root / method.name / "records.parquet" for method in methods}
    # All before the first is scored, so that several processes agree.
    changes = {method.name: _find_change(cfg, method, test, len(samples), paths[method.name]) for method in methods}
    for method in methods:
        if (change := changes[method.name]) is None:
            _report(f"{method.name}: kept, its records are of the same data, masks, method and options")
            continue
        _report(f"{method.name}: scoring{f' again, as {change}' if change else ''}")
        score_method(cfg, method, test, root / method.name, started=datetime.now(timezone.utc), save_bank=False)
    if test.bank is not None and rank_zero_only.rank == 0:  # type: ignore[attr-defined]  # Lightning sets it
        test.bank.save(root / "bank.npz")
    return ScoredMethods(methods, list(paths.values()), test)


def _find_change(cfg: DictConfig, method: Method, test: FrozenTest, samples: int, path: Path) -> str | None:
    """Return why a method has to be scored, or None if its records can be kept; empty if there are none."""
    if not path.is_file():
        return ""
    try:
        frame, made = read_records(path)
    except InputError as error:
        return str(error)
    checkpoint = None if method.checkpoint is None else HashedFile.of(method.checkpoint.path).sha256
    results = method.network.sha256 if isinstance(method.network, StoredResults) else None
    before, now = _scored_options(made.config), _scored_options(method_config(cfg, method))
    changed_options = [key for key in now if before[key] != now[key]]
    paths = set(frame["path"])
    if len(frame) != samples or not paths <= set(map(str, test.data.files.paths("test"))):
        return "the data has changed"
    before_facts, facts = ({**known, "root": None} for known in (made.data, test.facts_of(sorted(paths))))
    changes = {
        "the data has changed": before_facts != facts,
        "the masks have changed": made.mask_bank_hash != test.mask_hash,
        "its weights have changed": (None if made.checkpoint is None else made.checkpoint.sha256) != checkpoint,
        "its images have changed": (None if made.results is None else made.results.sha256) != results,
        "other scores can be computed now": made.absent_scores.keys() != test.absent.keys(),
        f"these options have changed: {', '.join(changed_options)}": bool(changed_options),
    }
    return next((change for change, applies in changes.items() if applies), None)


def _scored_options(config: Mapping[str, Any]) -> dict[str, Any]:
    transforms = (config.get("data") or {}).get("transforms") or {}
    options = {key: config.get(key) for key in SCORED_OPTIONS}
    # As in JSON, which records store.
    return json.loads(json.dumps({**options, "data.transforms.evaluation": transforms.get("evaluation")}))  # type: ignore[no-any-return]


def _report(message: str) -> None:
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        print(message, flush=True)
