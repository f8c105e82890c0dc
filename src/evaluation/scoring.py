"""Scoring a method on a mask bank: per-image records, their provenance, and the table of them."""

import logging
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
from src.checkpoints.reading import Checkpoint, load_checkpoint
from src.checkpoints.weights import load_weights
from src.common.errors import InputError
from src.common.options import check_options
from src.common.pretrained import MissingWeightsError
from src.common.provenance import Provenance
from src.common.schemas import EvaluateOptions
from src.data.datamodule import InpaintingData
from src.evaluation.bootstrap import Bootstrap
from src.evaluation.formats import mean_by_name, text_table, to_frame
from src.evaluation.protocols import Protocol, protocol_note
from src.evaluation.records import SAMPLES, read_records, read_set_scores, score_column, write_records
from src.evaluation.same_test import CONTENTS, hash_contents
from src.evaluation.set_scores import estimate_set_scores, set_score_groups, set_score_notes
from src.evaluation.tables import ScoreTable, comparison_table, split_samples
from src.loggers.setup import closing, log_artifact, log_results, make_loggers
from src.masks.bank import MaskBank, bins_within, height_and_width
from src.masks.paired import PairedMasks
from src.metrics.deep import DEEP_SCORES
from src.metrics.inception import EXTRACTORS, FeatureExtractor
from src.metrics.scores import METRICS, STANDARD, VARIANTS, Score
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
    _reduce_config(cfg, checkpoint)
    if (protocol := Protocol.of_config(cfg)) is not None:
        protocol.apply(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    name, network = _named_network(cfg, checkpoint)
    if cfg.samples is not None:
        require_stochastic({name: network}, cfg.samples)
    data, bank = _data_and_bank(cfg)
    extra, absent = _extra_scores(cfg)
    extract = _feature_extractor(cfg, absent)
    seeds = None if cfg.samples is None else partial(sample_seeds, cfg.seed, cfg.samples)
    module = InpaintingModule(network, extra_scores=extra, extract=extract, sample_seeds=seeds)
    trainer = make_trainer(cfg.trainer)
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    if checkpoint is not None:
        config["model"] = checkpoint.config["model"]
    path = Path(cfg.output_dir) / "records.parquet"
    loggers = make_loggers(cfg, "evaluate", (name, cfg.data.name, cfg.scale.name))
    with closing(loggers):
        for logger in loggers:
            logger.log_hyperparams(config)
        trainer.test(module, datamodule=data, verbose=False)
        if not trainer.is_global_zero:
            return path
        contents = hash_contents(data.files.directory, [row["path"] for row in module.rows])
        provenance = Provenance.collect(
            config=config,
            seed=cfg.seed,
            # test_size also decides how an image is resized, and so its pixels, even if the bank is the same
            data={
                **data.provenance("test"),
                CONTENTS: contents,
                **({} if cfg.test_size is None else {"test_size": list(crop_size(cfg))}),
            },
            mask_bank_hash=data.matched_masks("test").hash if bank is None else bank.hash,
            checkpoint=None if checkpoint is None else checkpoint.path,
            device=trainer.strategy.root_device,
            started=started,
            absent_scores=absent,
        )
        set_scores = []
        if extract is not None:
            features = np.stack([row.pop("features") for row in module.rows])
            set_scores = estimate_set_scores(features, [row["bin"] for row in module.rows])
        records = pd.DataFrame(module.rows)
        records.insert(0, "method", name)
        records.insert(1, "data", cfg.data.name)
        if cfg.samples is not None:
            records.insert(2, SAMPLES, cfg.samples)
        if bank is not None:
            bank.save(path.with_name("bank.npz"))
        write_records(records, path, provenance, set_scores)
        if loggers:
            table, step = evaluation_table(cfg, path), 0 if checkpoint is None else checkpoint.step
            log_results(loggers, mean_by_name(table), text_table(table), to_frame(table), step)
            banks = {} if bank is None else {"bank.npz": path.with_name("bank.npz")}
            log_artifact(loggers, "results", {path.name: path, **banks})
    return path


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


def _reduce_config(cfg: DictConfig, checkpoint: Checkpoint | None) -> None:
    """Fill in the scale of the checkpoint or of the paper, and drop options that only training uses.

    At paper scale those options refer to a recipe that not every model has.
    """
    with open_dict(cfg):
        if cfg.scale.name is None:
            paper: Any = OmegaConf.load(PAPER_SCALE)
            overridden = {key: cfg.scale[key] for key in SCALE_KEYS[1:] if cfg.scale[key] != paper[key]}
            trained_at = {} if checkpoint is None else checkpoint.config.get("scale", {})
            if (
                checkpoint is not None
                and trained_at
                and (missing := {"name", "image_size", "shorter_side_px"} - trained_at.keys())
            ):
                raise InputError(
                    f"{checkpoint.path}: scale in the config lacks {', '.join(sorted(missing))}: set scale="
                )
            cfg.scale = OmegaConf.merge(trained_at or paper, {"test_batches": 1.0}, overridden)
        cfg.scale = OmegaConf.masked_copy(cfg.scale, list(SCALE_KEYS))
        if "model" in cfg:
            # Resolved first, as it may refer to dropped options.
            network = OmegaConf.to_container(cfg.model.network, resolve=True)
            cfg.model = {"name": cfg.model.name, "network": network}


def _named_network(cfg: DictConfig, checkpoint: Checkpoint | None) -> tuple[str, InpaintingNetwork]:
    if checkpoint is not None:
        return checkpoint.model, checkpoint.network
    network: InpaintingNetwork = instantiate(cfg.model.network)
    if not any(True for _ in network.parameters()):
        return cfg.model.name, network
    log.warning("model=%s without ckpt= or weights=: scoring its initial weights", cfg.model.name)
    return f"{cfg.model.name} (untrained)", network


def evaluation_table(cfg: DictConfig, path: Path) -> ScoreTable:
    """Return the table of one evaluation's records."""
    return scores_table([path], caption=f"{cfg.data.name}, {'x'.join(dict.fromkeys(map(str, crop_size(cfg))))} px")


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
    notes = (*table.notes, *best_note, *set_score_notes(of_sets), *dict.fromkeys(filter(None, protocols)))
    return replace(table, groups=groups, notes=notes)


def crop_size(cfg: DictConfig) -> tuple[int, int]:
    """Return (H, W) of test crops: `test_size`, or the training crops' size if that is null."""
    if cfg.test_size is None:
        return height_and_width("scale.image_size", cfg.scale.image_size)
    return height_and_width("test_size", cfg.test_size)


def with_test_size(data: DictConfig, size: tuple[int, int]) -> DictConfig:
    """Return a dataset's config with other evaluation crops; images are resized to the smallest size that covers them.

    Raises:
        InputError: the dataset's evaluation transform has no `image_size`.
    """
    evaluation = data.transforms.evaluation
    if "image_size" not in evaluation:
        raise InputError(
            f"test_size={list(size)} needs an evaluation transform with image_size, but data.transforms.evaluation has "
            f"{', '.join(map(str, evaluation))}: leave test_size= out, or set the crop's size in that transform"
        )
    changed = {"image_size": list(size), **({"shorter_side_px": None} if "shorter_side_px" in evaluation else {})}
    return OmegaConf.merge(data, {"transforms": {"evaluation": changed}})  # type: ignore[return-value]


def _data_and_bank(cfg: DictConfig) -> tuple[InpaintingData, MaskBank | None]:
    """Return the test images with their masks, and the bank of these; no bank if each image has its own masks."""
    size, protocol = crop_size(cfg), Protocol.of_config(cfg)
    if protocol is not None:
        data = instantiate(cfg.data.datamodule)
        bank = protocol.bank(len(data.files.paths("test")))
        return data.with_masks(test_bank=bank), bank
    generator = None if cfg.bank is not None else instantiate(cfg.mask.generator)
    if cfg.test_size is not None:
        cfg.data = with_test_size(cfg.data, size)
    data = instantiate(cfg.data.datamodule)
    if isinstance(generator, PairedMasks):
        return data.with_masks(paired=generator), None
    bank = _bank(cfg, size)
    return data.with_masks(test_bank=bank), bank


def _bank(cfg: DictConfig, size: tuple[int, int]) -> MaskBank:
    if cfg.bank is None:
        bins = bins_within(tuple(cfg.mask.hole_ratio))
        return MaskBank.draw(instantiate(cfg.mask.generator), size, cfg.bank_masks_per_bin, cfg.seed, bins)
    bank = MaskBank.load(Path(cfg.bank))
    if bank.size != size:
        raise InputError(
            f"bank={cfg.bank} holds masks of {bank.size[0]}x{bank.size[1]} px, but images are cropped to "
            f"{size[0]}x{size[1]}: draw another bank, or set test_size=[{bank.size[0]},{bank.size[1]}]"
        )
    return bank


def _extra_scores(cfg: DictConfig) -> tuple[list[Score], dict[str, str]]:
    """Return the scores to compute in addition to `SCORES`, and why others can't be computed."""
    wanted = [*(["lpips"] if cfg.lpips else []), *cfg.extra_scores]
    if (protocol := Protocol.of_config(cfg)) is not None:
        wanted += [protocol.ssim, *([protocol.lpips] if cfg.lpips else [])]
    extra, absent = [], {} if cfg.lpips else {"lpips": "turned off (lpips=false)"}
    variants = {score.name: score for score in VARIANTS}
    for name in dict.fromkeys(wanted):
        if name in variants:
            extra.append(variants[name])
        elif name in DEEP_SCORES:
            try:
                extra.append(DEEP_SCORES[name]())
            except MissingWeightsError as error:
                log.info("%s is left out, its weights are missing: see the notes below the table", METRICS[name].label)
                absent[name] = str(error)
        elif name not in METRICS:
            raise InputError(f"unknown score {name} in extra_scores; available: {', '.join([*variants, *DEEP_SCORES])}")
    return extra, absent


def _feature_extractor(cfg: DictConfig, absent: dict[str, str]) -> FeatureExtractor | None:
    """Return the features' extractor of set scores, None without one; add the reason to `absent` if it is missing."""
    name = cfg.features or (cfg.protocol.features if "protocol" in cfg else None)
    if name is None or not cfg.set_scores:
        return None
    if name not in EXTRACTORS:
        raise InputError(f"unknown features {name}; available: {', '.join(EXTRACTORS)}")
    try:
        return EXTRACTORS[name]()
    except MissingWeightsError as error:
        log.info("FID, KID, U-IDS and P-IDS are left out, their weights are missing: see the notes below the table")
        absent["FID (with KID, U-IDS and P-IDS)"] = str(error)
        return None
