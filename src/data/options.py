"""Options of `InpaintingData`: crops, masks and loaders. Each class raises InputError for invalid values."""

from collections.abc import Mapping
from dataclasses import dataclass

import albumentations as A

from src.common.errors import InputError
from src.masks.bank import MaskBank
from src.masks.generators import MaskGenerator
from src.masks.paired import PairedMasks
from src.networks.layers.canny import Canny


@dataclass(frozen=True)
class CropOptions:
    """How images become crops.

    Attributes:
        transforms: pipelines for "train" and "evaluation".
        samples_per_image: crops of each image, by split.
        seed: seed of the order and the crops of training.
        evaluation_seed: seed of random evaluation crops; separate, so that runs with other seeds share one test.
        reduced_decode: decode training JPEGs at 1/2, 1/4 or 1/8 of their size if that is enough for the first resize.
        edges: edge detector whose results are added to the samples, for models that learn edges; None for none.
    """

    transforms: Mapping[str, A.Compose]
    samples_per_image: Mapping[str, int]
    seed: int
    evaluation_seed: int = 0
    reduced_decode: bool = False
    edges: Canny | None = None

    def __post_init__(self) -> None:
        if missing := [
            name for name in ("train", "evaluation") if not isinstance(self.transforms.get(name), A.Compose)
        ]:
            raise InputError(f"data.transforms.{missing[0]} must be an albumentations pipeline (A.Compose)")
        for split, count in self.samples_per_image.items():
            _require_integer(f"data.samples_per_image.{split}", count, 1)
        _require_integer("data.seed", self.seed, 0)
        _require_integer("data.evaluation_seed", self.evaluation_seed, 0)
        if not isinstance(self.reduced_decode, bool):
            raise InputError(f"data.reduced_decode must be true or false, got {self.reduced_decode!r}")
        if self.edges is not None and not isinstance(self.edges, Canny):
            raise InputError(f"data.edges must be null or a Canny (src.networks.layers.canny), got {self.edges!r}")


@dataclass(frozen=True)
class MaskOptions:
    """Masks to train on and to evaluate on. A command sets the ones it needs with `InpaintingData.with_masks`.

    Attributes:
        generator, hole_ratio, seed: of training masks; the ratios are (low, high], seed None uses that of the crops.
        validation_bank, test_bank: masks for evaluation.
        paired: each image's own masks, which replace the generator and the banks.
        per_bin: masks of each bin of the bank that are applied to each evaluation crop.
    """

    generator: MaskGenerator | None = None
    hole_ratio: tuple[float, float] = (0.0, 1.0)
    validation_bank: MaskBank | None = None
    test_bank: MaskBank | None = None
    paired: PairedMasks | None = None
    per_bin: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        low, high = self.hole_ratio
        if not 0 <= low < high <= 1:
            raise InputError(f"mask.hole_ratio must be [low, high] with 0 <= low < high <= 1, got [{low}, {high}]")
        _require_integer("data.masks_per_bin", self.per_bin, 1)
        if self.seed is not None:
            _require_integer("data.mask_seed", self.seed, 0)


@dataclass(frozen=True)
class LoaderOptions:
    """How samples are loaded; none of this changes a sample. Batch sizes are per process, cache sizes per worker."""

    batch_size: int
    eval_batch_size: int
    workers: int = 0
    cache_mib: int = 0

    def __post_init__(self) -> None:
        for key, minimum in {"batch_size": 1, "eval_batch_size": 1, "workers": 0, "cache_mib": 0}.items():
            _require_integer(f"data.{key}", getattr(self, key), minimum)


def _require_integer(key: str, value: object, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise InputError(f"{key} must be an integer >= {minimum}, got {value!r}")
