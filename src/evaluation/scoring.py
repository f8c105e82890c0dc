"""Scoring a method on a mask bank: per-image records, their provenance, and the table of them."""

import logging
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.utils import instantiate
from lightning.pytorch import seed_everything
from omegaconf import DictConfig, OmegaConf, open_dict

import src.common.run_dir  # noqa: F401  # ${run_dir:}
from src.checkpoints.reading import Checkpoint, load_checkpoint
from src.common.errors import InputError
from src.common.options import check_options
from src.common.pretrained import MissingWeightsError
from src.common.provenance import Provenance
from src.common.schemas import EvaluateOptions
from src.evaluation.bootstrap import Bootstrap
from src.evaluation.formats import mean_by_name, text_table, to_frame
from src.evaluation.records import read_records, write_records
from src.evaluation.tables import ScoreTable, comparison_table
from src.loggers.setup import closing, log_artifact, log_results, make_loggers
from src.masks.bank import MaskBank, bins_within, height_and_width
from src.masks.paired import PairedMasks
from src.metrics.lpips import lpips_score
from src.metrics.scores import METRICS, Score
from src.networks.interface import InpaintingNetwork
from src.training.module import InpaintingModule
from src.training.trainer import make_trainer

SCALE_KEYS = (
    "name", "image_size", "shorter_side_px", "width", "levels", "attention_downscale", "dilations", "edge_scales",
    "test_batches",
)  # fmt: skip
"""Keys of conf/scale that an evaluation uses; the others are for training."""

PAPER_SCALE = Path(__file__).parents[2] / "conf" / "scale" / "paper.yaml"

log = logging.getLogger(__name__)


def evaluate(cfg: DictConfig) -> Path:
    """Score a method as conf/evaluate.yaml composes; write `records.parquet` and the mask bank into `output_dir`.

    A model without a checkpoint is scored with its initial weights, the lower bound of what training can reach.
    Each of several processes scores a part of the images; the first process writes the records of all.

    Returns:
        The path of the records.
    Raises:
        InputError: neither or both of ckpt and model are set, or a file, the dataset or the bank is invalid.
    """
    check_options(cfg, EvaluateOptions)
    started = datetime.now(timezone.utc)
    if (cfg.ckpt is None) == ("model" not in cfg):
        raise InputError("set exactly one of ckpt=<a checkpoint of src.train> and model=<a method>")
    checkpoint = None if cfg.ckpt is None else load_checkpoint(cfg.ckpt)
    _reduce_config(cfg, checkpoint)
    seed_everything(cfg.seed, workers=True, verbose=False)
    name, network = _named_network(cfg, checkpoint)
    size = crop_size(cfg)
    generator = None if cfg.bank is not None else instantiate(cfg.mask.generator)
    bank = None if isinstance(generator, PairedMasks) else _bank(cfg, size)
    if cfg.test_size is not None:
        cfg.data = with_test_size(cfg.data, size)
    masks = {"paired": generator} if bank is None else {"test_bank": bank}
    data = instantiate(cfg.data.datamodule).with_masks(**masks)
    lpips, absent = _lpips_or_reason(cfg.lpips)
    module = InpaintingModule(network, extra_scores=lpips)
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
        provenance = Provenance.collect(
            config=config,
            seed=cfg.seed,
            # test_size also decides how an image is resized, and so its pixels, even if the bank is the same
            data={**data.provenance("test"), **({} if cfg.test_size is None else {"test_size": list(size)})},
            mask_bank_hash=data.matched_masks("test").hash if bank is None else bank.hash,
            checkpoint=None if checkpoint is None else checkpoint.path,
            device=trainer.strategy.root_device,
            started=started,
            absent_scores=absent,
        )
        records = pd.DataFrame(module.rows)
        records.insert(0, "method", name)
        records.insert(1, "data", cfg.data.name)
        if bank is not None:
            bank.save(path.with_name("bank.npz"))
        write_records(records, path, provenance)
        if loggers:
            table, step = evaluation_table(cfg, path), 0 if checkpoint is None else checkpoint.step
            log_results(loggers, mean_by_name(table), text_table(table), to_frame(table), step)
            banks = {} if bank is None else {"bank.npz": path.with_name("bank.npz")}
            log_artifact(loggers, "results", {path.name: path, **banks})
    return path


def _reduce_config(cfg: DictConfig, checkpoint: Checkpoint | None) -> None:
    """Fill in the scale of the checkpoint or of the paper, and drop options that only training uses.

    At paper scale those options refer to a recipe that not every model has.
    """
    with open_dict(cfg):
        if cfg.scale.name is None:
            paper: Any = OmegaConf.load(PAPER_SCALE)
            overridden = {key: cfg.scale[key] for key in SCALE_KEYS[1:] if cfg.scale[key] != paper[key]}
            trained_at = {} if checkpoint is None else checkpoint.config.get("scale", {})
            if trained_at and (missing := {"name", "image_size", "shorter_side_px"} - trained_at.keys()):
                raise InputError(f"{cfg.ckpt}: scale in the config lacks {', '.join(sorted(missing))}: set scale=")
            cfg.scale = OmegaConf.merge(trained_at or paper, {"test_batches": 1.0}, overridden)
        cfg.scale = OmegaConf.masked_copy(cfg.scale, list(SCALE_KEYS))
        if "model" in cfg:
            # Resolved first, as it may refer to dropped options.
            network = OmegaConf.to_container(cfg.model.network, resolve=True)
            cfg.model = {"name": cfg.model.name, "network": network}


def _named_network(cfg: DictConfig, checkpoint: Checkpoint | None) -> tuple[str, InpaintingNetwork]:
    if checkpoint is not None:
        name = checkpoint.config["model"].get("name", type(checkpoint.network).__name__)
        return name, checkpoint.network
    network: InpaintingNetwork = instantiate(cfg.model.network)
    if not any(True for _ in network.parameters()):
        return cfg.model.name, network
    log.warning("model=%s without ckpt=: scoring its initial weights", cfg.model.name)
    return f"{cfg.model.name} (untrained)", network


def evaluation_table(cfg: DictConfig, path: Path) -> ScoreTable:
    """Return the table of one evaluation's records."""
    return scores_table([path], caption=f"{cfg.data.name}, {'x'.join(dict.fromkeys(map(str, crop_size(cfg))))} px")


def scores_table(paths: list[Path], *, caption: str, names: tuple[str, ...] | None = None) -> ScoreTable:
    """Return the table of the composites' scores, or those of `names`, with 95% intervals; one file per method."""
    read = [read_records(path) for path in paths]
    metrics = [metric for name, metric in METRICS.items() if names is None or name in names]
    absent = {score: reason for _, made in read for score, reason in made.absent_scores.items()}
    records = pd.concat([frame for frame, _ in read], ignore_index=True)
    return comparison_table(records, metrics, caption=caption, bootstrap=Bootstrap(), absent=absent)


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


def _lpips_or_reason(wanted: bool) -> tuple[list[Score], dict[str, str]]:
    if not wanted:
        return [], {"lpips": "turned off (lpips=false)"}
    try:
        return [lpips_score()], {}
    except MissingWeightsError as error:
        log.info("LPIPS is left out, its weights are missing: see the notes below the table")
        return [], {"lpips": str(error)}
