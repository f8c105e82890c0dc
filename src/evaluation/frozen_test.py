"""The test of an evaluation, the same for every method: crops with their masks, and the scores to compute."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf

from src.common.errors import InputError
from src.common.pretrained import MissingWeightsError
from src.data.datamodule import InpaintingData
from src.data.loaders import SampleLoader
from src.evaluation.protocols import Protocol
from src.evaluation.same_test import CONTENTS, hash_contents
from src.image_files.matching import plain_stem
from src.masks.bank import MaskBank, bins_within, height_and_width
from src.masks.paired import PairedMasks
from src.metrics.deep import DEEP_SCORES
from src.metrics.inception import EXTRACTORS, FeatureExtractor
from src.metrics.scores import METRICS, VARIANTS, Score

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrozenTest:
    """Test crops with their masks, and the scores to compute.

    Attributes:
        bank: the masks; None if each image has masks of its own.
        facts: what identifies the crops in results.
        mask_hash: hash of the masks.
        scores: further scores, in addition to those that every test computes.
        extract: computes the features of set scores; None without them.
        absent: why other scores can't be computed, by name.
    """

    data: InpaintingData
    bank: MaskBank | None
    facts: dict[str, Any]
    mask_hash: str
    scores: Sequence[Score]
    extract: FeatureExtractor | None
    absent: dict[str, str]

    @classmethod
    def of_config(cls, cfg: DictConfig) -> "FrozenTest":
        """Return the test that a config of conf/evaluate defines, after `Protocol.apply`.

        Raises:
            InputError: the dataset, the bank or a mask file is invalid, or a score is unknown.
        """
        data, bank = _data_and_bank(cfg)
        # test_size also decides how an image is resized, and so its pixels, even if the bank is the same
        size = {} if cfg.test_size is None else {"test_size": list(crop_size(cfg))}
        mask_hash = data.matched_masks("test").hash if bank is None else bank.hash
        scores, absent = _extra_scores(cfg)
        extract = _feature_extractor(cfg, absent)
        return cls(data, bank, {**data.provenance("test"), **size}, mask_hash, scores, extract, absent)

    @property
    def identity(self) -> str:
        """SHA-256 of what identifies the crops, but for the directory they are in, and of the hash of the masks."""
        facts = {name: fact for name, fact in self.facts.items() if name != "root"}
        return sha256(json.dumps([facts, self.mask_hash], sort_keys=True).encode()).hexdigest()

    def facts_of(self, paths: Sequence[str]) -> dict[str, Any]:
        """Return `facts` with the hash of the contents of the images that were scored."""
        return {**self.facts, CONTENTS: _hash_contents(self.data.files.directory, tuple(sorted(set(paths))))}

    def loader(self, trainer: Trainer) -> SampleLoader:
        """Return the batches that a Trainer tests a method with."""
        self.data.trainer = trainer  # its limit of the number of batches
        return self.data.test_dataloader()

    def sample_names(self, loader: SampleLoader) -> list[str]:
        """Return a file name without suffix for each sample of `loader`, in order.

        It is the image's name, with _1, _2, ... if an image has several samples. If such names are not unique, or
        contain "mask", which would make them ambiguous, images are numbered instead: 000000, 000001, ...
        """
        dataset: Any = loader.dataset
        sampler: Any = loader.sampler
        per_image, count = dataset.samples_per_image * dataset.masks.per_crop, sampler.sample_count
        stems = [plain_stem(path) for path in self.data.files.paths("test")]
        return _name_samples(stems, per_image, count) or _name_samples(
            [f"{number:06d}" for number in range(len(stems))], per_image, count
        )


@lru_cache(maxsize=1)  # all methods of a command score the same images
def _hash_contents(root: Path, paths: tuple[str, ...]) -> str:
    return hash_contents(root, paths)


def _name_samples(images: Sequence[str], per_image: int, count: int) -> list[str]:
    """Return names of the first `count` samples; none if they would be ambiguous."""
    digits = len(str(per_image))
    numbers = [f"_{k + 1:0{digits}d}" for k in range(per_image)] if per_image > 1 else [""]
    names = [images[index // per_image] + numbers[index % per_image] for index in range(count)]
    unique = len({name.casefold() for name in names}) == count
    return names if unique and not any("mask" in name.casefold() for name in names) else []


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
