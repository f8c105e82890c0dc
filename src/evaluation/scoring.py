"""Scoring a method on a mask bank: per-image records, their provenance, and the table of them."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra.utils import instantiate
from lightning.pytorch import seed_everything
from omegaconf import DictConfig, OmegaConf, open_dict

import src.common.run_dir  # noqa: F401  # ${run_dir:}
from src.checkpoints.methods import Method
from src.checkpoints.reading import Checkpoint, load_checkpoint
from src.checkpoints.weights import load_weights
from src.common.errors import InputError
from src.common.options import check_options
from src.common.provenance import Provenance
from src.common.schemas import EvaluateOptions
from src.evaluation.bootstrap import Bootstrap
from src.evaluation.formats import mean_by_name, text_table, to_frame
from src.evaluation.frozen_test import FrozenTest, crop_size
from src.evaluation.protocols import Protocol, protocol_note
from src.evaluation.records import SAMPLES, read_records, read_set_scores, score_column, write_records
from src.evaluation.results_of_programs import ResultsModule, StoredResults, results_note
from src.evaluation.set_scores import estimate_set_scores, set_score_groups, set_score_notes
from src.evaluation.tables import ScoreTable, comparison_table, split_samples
from src.loggers.setup import closing, log_artifact, log_results, make_loggers
from src.metrics.scores import METRICS, STANDARD
from src.networks.interface import InpaintingNetwork, require_stochastic
from src.training.module import InpaintingModule
from src.training.trainer import make_trainer

SCALE_KEYS = (
    "name", "image_size", "shorter_side_px", "width", "levels", "attention_downscale", "dilations", "edge_scales",
    "test_batches",
)  # fmt: skip
"""Keys of conf/scale that an evaluation uses; the others are for training."""

PAPER_SCALE = Path(__file__).parents[2] / "conf" / "scale" / "paper.yaml"

BEST_NOTE = (
    "Best of n: for each image, mask and metric the best of n samples of a stochastic method, which is chosen with the "
    "true image. It grows with n and can't be compared with the mean of another method."
)

log = logging.getLogger(__name__)


def evaluate(cfg: DictConfig) -> Path:
    """Score a method as conf/evaluate.yaml composes; write `records.parquet` and the mask bank into `output_dir`.

    A model without a checkpoint is scored with its initial weights, the lower bound of what training can reach.
    Each of several processes scores a part of the images; the first process writes the records of all.

    Returns:
        The path of the records.
    Raises:
        InputError: neither or both of ckpt and model are set without weights, or a file, the dataset or the bank is
            invalid.
    """
    check_options(cfg, EvaluateOptions)
    started = datetime.now(timezone.utc)
    checkpoint = _load_checkpoint(cfg)
    reduce_config(cfg, [] if checkpoint is None else [checkpoint])
    apply_protocol(cfg)
    name, network = _named_network(cfg, checkpoint)
    if cfg.samples is not None:
        require_stochastic({name: network}, cfg.samples)
    test = FrozenTest.of_config(cfg)
    model = OmegaConf.to_container(cfg.model, resolve=True) if checkpoint is None else checkpoint.config["model"]
    method = Method(name, network, model, checkpoint)  # type: ignore[arg-type]
    return score_method(cfg, method, test, Path(cfg.output_dir), started=started)


def apply_protocol(cfg: DictConfig) -> None:
    """Set what `protocol=` fixes, and seed the random numbers, with which initial weights are drawn."""
    if (protocol := Protocol.of_config(cfg)) is not None:
        protocol.apply(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)


def score_method(
    cfg: DictConfig, method: Method, test: FrozenTest, directory: Path, *, started: datetime, save_bank: bool = True
) -> Path:
    """Score one method, and write `records.parquet` and the mask bank into a directory; return the records' path.

    Args:
        cfg: a config of conf/evaluate after `reduce_config` and `apply_protocol`.
        started: when the work on this method began.
    """
    samples = cfg.samples if method.network.stochastic else None
    module = _test_module(method, test, None if samples is None else partial(sample_seeds, cfg.seed, samples))
    trainer = make_trainer(cfg.trainer)
    config = method_config(cfg, method)
    path = directory / "records.parquet"
    loggers = make_loggers(cfg, "evaluate", (method.name, cfg.data.name, cfg.scale.name))
    with closing(loggers):
        for logger in loggers:
            logger.log_hyperparams(config)
        trainer.test(module, datamodule=test.data, verbose=False)
        if not trainer.is_global_zero:
            return path
        provenance = Provenance.collect(
            config=config,
            seed=cfg.seed,
            data=test.facts_of([row["path"] for row in module.rows]),
            mask_bank_hash=test.mask_hash,
            checkpoint=None if method.checkpoint is None else method.checkpoint.path,
            results=method.network.facts(module.rows) if isinstance(method.network, StoredResults) else None,
            device=trainer.strategy.root_device,
            started=started,
            absent_scores=test.absent,
        )
        set_scores = []
        if test.extract is not None:
            features = np.stack([row.pop("features") for row in module.rows])
            set_scores = estimate_set_scores(features, [row["bin"] for row in module.rows])
        records = pd.DataFrame(module.rows)
        records.insert(0, "method", method.name)
        records.insert(1, "data", cfg.data.name)
        if samples is not None:
            records.insert(2, SAMPLES, samples)
        banks = {}
        if test.bank is not None and save_bank:
            banks = {"bank.npz": path.with_name("bank.npz")}
            test.bank.save(banks["bank.npz"])
        write_records(records, path, provenance, set_scores)
        if loggers:
            table, step = evaluation_table(cfg, path), 0 if method.checkpoint is None else method.checkpoint.step
            log_results(loggers, mean_by_name(table), text_table(table), to_frame(table), step)
            log_artifact(loggers, "results", {path.name: path, **banks})
    return path


def method_config(cfg: DictConfig, method: Method) -> dict[str, Any]:
    """Return the config that a method's records have in their provenance."""
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    return config if method.model is None else {**config, "model": method.model}


def _test_module(
    method: Method, test: FrozenTest, sample_seeds: Callable[[int], Sequence[int]] | None
) -> InpaintingModule:
    if isinstance(method.network, StoredResults):
        return ResultsModule(method.network, test.scores, test.extract)
    return InpaintingModule(method.network, test.scores, test.extract, sample_seeds)


def sample_seeds(seed: int, samples: int, index: int) -> list[int]:
    """Return the seeds of an image's samples, which depend on the evaluation's seed and the image's index only."""
    sequences = (np.random.SeedSequence((seed, index, number)) for number in range(samples))
    return [int(sequence.generate_state(1)[0]) for sequence in sequences]


def _load_checkpoint(cfg: DictConfig) -> Checkpoint | None:
    """Return the checkpoint of `ckpt` or `weights`, whose config replaces `model`; None for a method without either."""
    if cfg.weights is not None:
        checkpoint = load_weights(cfg.weights, cfg.model.name if "model" in cfg else None, ckpt=cfg.ckpt)
        with open_dict(cfg):
            cfg.pop("model", None)
        return checkpoint
    if (cfg.ckpt is None) == ("model" not in cfg):
        raise InputError(
            "set exactly one of ckpt=<a checkpoint of src.train> and model=<a method>, or model= and weights="
        )
    return None if cfg.ckpt is None else load_checkpoint(cfg.ckpt)


def reduce_config(cfg: DictConfig, checkpoints: Sequence[Checkpoint]) -> None:
    """Fill in the scale of the checkpoints or of the paper, and drop options that only training uses.

    At paper scale those options refer to a recipe that not every model has.

    Raises:
        InputError: the size of the crops is not set, and the checkpoints were trained at several.
    """
    with open_dict(cfg):
        if cfg.scale.name is None:
            paper: Any = OmegaConf.load(PAPER_SCALE)
            overridden = {key: cfg.scale[key] for key in SCALE_KEYS[1:] if cfg.scale[key] != paper[key]}
            trained_at = _common_scale(checkpoints)
            cfg.scale = OmegaConf.merge(trained_at or paper, {"test_batches": 1.0}, overridden)
        cfg.scale = OmegaConf.masked_copy(cfg.scale, list(SCALE_KEYS))
        if "model" in cfg:
            # Resolved first, as it may refer to dropped options.
            network = OmegaConf.to_container(cfg.model.network, resolve=True)
            cfg.model = {"name": cfg.model.name, "network": network}


def _common_scale(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Return the scale that checkpoints were trained at; empty if none tells its own."""
    scales: dict[tuple[str, str], dict[str, Any]] = {}
    for checkpoint in checkpoints:
        scale: dict[str, Any] = checkpoint.config.get("scale", {})
        if scale and (missing := {"name", "image_size", "shorter_side_px"} - scale.keys()):
            raise InputError(f"{checkpoint.path}: scale in the config lacks {', '.join(sorted(missing))}: set scale=")
        if scale:
            scales[str(scale["image_size"]), str(scale["shorter_side_px"])] = scale
    if len(scales) > 1:
        sizes = " and ".join(f"{size} (shorter side {shorter})" for size, shorter in scales)
        raise InputError(
            f"the checkpoints were trained on crops of {sizes} px: set the test's with test_size=, scale= or protocol="
        )
    return next(iter(scales.values()), {})


def _named_network(cfg: DictConfig, checkpoint: Checkpoint | None) -> tuple[str, InpaintingNetwork]:
    if checkpoint is not None:
        return checkpoint.model, checkpoint.network
    network: InpaintingNetwork = instantiate(cfg.model.network)
    if not any(True for _ in network.parameters()):
        return cfg.model.name, network
    log.warning("model=%s without ckpt= or weights=: scoring its initial weights", cfg.model.name)
    return f"{cfg.model.name} (untrained)", network


def evaluation_table(cfg: DictConfig, *paths: Path, names: tuple[str, ...] | None = None) -> ScoreTable:
    """Return the table of an evaluation's records, one file per method; `names` as in `scores_table`."""
    caption = f"{cfg.data.name}, {'x'.join(dict.fromkeys(map(str, crop_size(cfg))))} px"
    return scores_table(list(paths), caption=caption, names=names)


def scores_table(paths: list[Path], *, caption: str, names: tuple[str, ...] | None = None) -> ScoreTable:
    """Return the table of the composites' scores, or those of `names`, with 95% intervals; one file per method."""
    read = [read_records(path) for path in paths]
    absent = {score: reason for _, made in read for score, reason in made.absent_scores.items()}
    frames = [part for frame, _ in read for part in split_samples(frame)]
    records = pd.concat(frames, ignore_index=True)
    if names is None:
        requested = (name for name in METRICS if score_column("composite", name) in records)
        names = (*(metric.name for metric in STANDARD), *requested)
    metrics = [metric for name, metric in METRICS.items() if name in names]
    table = comparison_table(records, metrics, caption=caption, bootstrap=Bootstrap(), absent=absent)
    protocols = (protocol_note(made.config, frame["path"].nunique()) for frame, made in read)
    methods = [str(frame["method"].iloc[0]) for frame, _ in read]
    of_sets = {method: read_set_scores(path) for method, path in zip(methods, paths, strict=True)}
    groups = (*table.groups, *set_score_groups(of_sets, table.columns))
    best_note = [BEST_NOTE] if len(frames) > len(read) else []
    results = (results_note(name, made.results) for name, (_, made) in zip(methods, read, strict=True) if made.results)
    notes = (*table.notes, *best_note, *set_score_notes(of_sets), *results, *dict.fromkeys(filter(None, protocols)))
    return replace(table, groups=groups, notes=notes)
