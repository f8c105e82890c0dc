"""Types and ranges of every command's options, whose defaults and descriptions are in conf/<command>.yaml.

Options that may be one value or several (`ckpt`, `sizes`), and groups that name a class (`model`, `loss`), are checked
where they are used.
"""

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from src.common.options import option

_LARGEST_SEED, _LARGEST_PORT = 2**32 - 1, 2**16 - 1


@dataclass
class Group:
    """A nested config whose options are checked where they are used."""


@dataclass
class DatasetOptions:
    """Options of conf/data."""

    root: str | None = option("a directory")
    split: Group = MISSING
    transforms: Group = MISSING
    datamodule: Group = MISSING


@dataclass
class MaskOptions:
    """Options of conf/mask."""

    root: str | None = option("a directory")
    hole_ratio: list[float] = option("[low, high]")
    generator: Group = MISSING


@dataclass
class ModelOptions:
    """Options of conf/model."""

    network: Group = MISSING
    training: Group = MISSING


@dataclass
class TrainerOptions:
    """Options of conf/trainer that Lightning does not check itself."""

    max_steps: int = option(at_least=-1)


@dataclass
class DataOptions:
    """Options of every command that reads a dataset with masks."""

    data: DatasetOptions = MISSING
    mask: MaskOptions = MISSING
    model: ModelOptions = MISSING
    scale: Group = MISSING
    workers: int = option(at_least=0)
    seed: int = option(at_least=0, at_most=_LARGEST_SEED)


@dataclass
class TrainScaleOptions(Group):
    """Options of conf/scale that training uses itself; classes that get the others check them."""

    image_size: int = option(at_least=1)


@dataclass
class TrainOptions(DataOptions):
    """Options of `python -m src.train`."""

    init_seed: int = option(at_least=0, at_most=_LARGEST_SEED)
    mask_seed: int = option(at_least=0, at_most=_LARGEST_SEED)
    noise_seed: int = option(at_least=0, at_most=_LARGEST_SEED)
    batch_size: int = option(at_least=1)
    accumulate: int = option(at_least=1)
    clip_norm: float = option("a number > 0, or .inf for no clipping", above=0)
    compile: bool = option()
    gradient_checkpointing: bool = option()
    bank_masks_per_bin: int = option(at_least=1)
    resume: str | None = option("auto, null or a checkpoint's path")
    start_from: str | None = option("a checkpoint's path or null")
    weights: str | None = option("a shipped size, a path, hf://user/name or null")
    output_dir: str = option("a directory")
    scale: TrainScaleOptions = MISSING
    trainer: TrainerOptions = MISSING


@dataclass
class ProtocolMaskOptions:
    """Options of `masks` in conf/protocol."""

    root: str | None = option("a directory")
    hole: str = option(choices=("white", "black", "transparent"))
    per_image: int = option(at_least=1)
    count: int | None = option(at_least=1)
    seed: int = option(at_least=0, at_most=_LARGEST_SEED)


@dataclass
class ProtocolOptions:
    """Options of conf/protocol."""

    name: str = option()
    images: int | None = option(at_least=1)
    masks: ProtocolMaskOptions = MISSING
    ssim: str = option("the name of a score")
    lpips: str = option("the name of a score")
    features: str = option()


@dataclass
class EvaluateOptions(DataOptions):
    """Options of `python -m src.evaluate`."""

    ckpt: Any = option("a checkpoint's or run directory's path, or several as [a,b] or {ours: a, theirs: b}")
    methods: Any = option("methods as [a,b]")
    results: Any = option("a directory, or several as {name: a, other: b}")
    export_inputs: str | None = option("a directory or null")
    weights: str | None = option("a shipped size, a path, hf://user/name or null")
    batch_size: int = option(at_least=1)
    bank: str | None = option("a mask bank's path or null")
    bank_masks_per_bin: int = option(at_least=1)
    lpips: bool = option()
    features: str | None = option("pytorch_fid, nvidia or null")
    set_scores: bool = option()
    extra_scores: list[str] = option("a list of scores, such as extra_scores=[seam_percent]")
    samples: int | None = option(at_least=1)
    pictures: int = option(at_least=1)
    records: Any = option("a file of records, or several as [a,b] or {name: a, other: b}")
    merged: str | None = option("a path ending in .parquet or null")
    output_dir: str = option("a directory")


@dataclass
class ReproduceOptions:
    """Options of `python -m src.reproduce` in addition to those of training, which every row checks."""

    table: str = option("a file of experiments/, such as lbam/table2")
    seeds: int = option(at_least=1)
    evaluated: str = option(choices=("last", "best"))
    test_masks_per_bin: int = option(at_least=1)
    test_mask: str | None = option("a file of conf/mask or null")
    images: int | None = option(at_least=1)
    study: str = option("a directory")


@dataclass
class PredictOptions:
    """Options of `python -m src.predict`."""

    ckpt: Any = option("a checkpoint's path, or several as [a,b] or {name: a, other: b}")
    model: str | None = option("a method (several: methods=[a,b]) or null")
    methods: Any = option("methods as [a,b]")
    weights: str | None = option("a shipped size, a path, hf://user/name or null")
    image: str = option("a file, a directory or a pattern")
    mask: str = option("a file, a directory or a pattern")
    hole: str = option(choices=("white", "black", "transparent"))
    one_mask_for_all: bool = option()
    edges: str | None = option("a file, a directory, a pattern or null")
    lines: str = option(choices=("white", "black"))
    output: str = option("a file or a directory")
    format: str | None = option()
    sheet: str | None = option("a file, a directory or null")
    sheet_side_px: int = option(at_least=1)
    blend: str = option(choices=("paste", "poisson"))
    samples: int | None = option(at_least=1)
    seed: int = option(at_least=0, at_most=_LARGEST_SEED)
    max_megapixels: float = option(above=0)
    figures: str | None = option("a directory or null")
    device: str = option()


@dataclass
class ExportOptions:
    """Options of `python -m src.export`."""

    ckpt: str | None = option("a checkpoint's path or null")
    weights: str | None = option("a shipped size, a path, hf://user/name or null")
    output: str = option("a directory")
    edges: str = option(choices=("known", "given"))
    half: bool = option()
    license: str = option()
    records: Any = option("a file of records, several as [a,b] or {name: a, other: b}, or null")
    push: str | None = option("a repository's name, user/name, or null")
    private: bool = option()


@dataclass
class ImportCheckpointOptions:
    """Options of `python -m src.import_checkpoint`."""

    name: str = option()
    path: str = option("a path")
    completion: str | None = option("a path or null")
    mean_pixel: str | None = option("a path or null")
    output: str = option("a path")


@dataclass
class BenchmarkOptions:
    """Options of `python -m src.benchmark`."""

    table: str | None = option("a file of experiments/, such as mpga_gla/table4, or null")
    loading_batch_size: int = option(at_least=1)
    data_root: str | None = option("a directory or null")
    compile: bool = option()
    literal: bool = option()
    device: str = option()
    threads: int | None = option(at_least=1)
    min_runs: int = option(at_least=1)
    min_seconds: float = option(at_least=0)
    min_steps: int = option(at_least=1)
    output_dir: str = option("a directory")


@dataclass
class AppOptions:
    """Options of `python -m src.app`."""

    ckpt: list[str] = option()
    weights: str | None = option("a shipped size, a path, hf://user/name or null")
    folders: list[str] = option()
    preselected: list[str] = option()
    figure_side_px: int = option(at_least=1)
    max_megabytes: float = option(above=0)
    max_megapixels: float = option(above=0)
    max_hole_megapixels: float = option(above=0)
    cached_networks: int = option(at_least=1)
    device: str = option()
    host: str = option()
    port: int = option(at_least=0, at_most=_LARGEST_PORT)
    share: bool = option()


@dataclass
class UserStudyOptions:
    """Options of `python -m src.user_study`."""

    images: str | None = option("a directory or null")
    questions: int | None = option(at_least=1)
    seed: int = option(at_least=0, at_most=_LARGEST_SEED)
    results: str = option("a path")
    table: str | None = option("a file of experiments/, such as lbam/user_study, or null")
    records: Any = option("a file of records, or several as [a,b] or {name: a, other: b}")
    host: str = option()
    port: int = option(at_least=0, at_most=_LARGEST_PORT)
    share: bool = option()
    voters_per_minute: int = option(at_least=1)
    shared_device: bool = option()


@dataclass
class PrepareOptions:
    """Options of `python -m src.prepare`."""

    workers: int = option(at_least=0)
    corrupt: str = option(choices=("stop", "skip"))
    moved: str = option(choices=("stop", "keep", "redraw"))
    verify: str = option(choices=("changed", "all"))
    data: DatasetOptions = MISSING


@dataclass
class MakeMasksOptions:
    """Options of `python -m src.make_masks`."""

    per_bin: int = option(at_least=1)
    seed: int = option(at_least=0, at_most=_LARGEST_SEED)
    output: str | None = option("a path or null")
    mask: MaskOptions = MISSING


@dataclass
class DashboardOptions:
    """Options of `python -m src.dashboard`."""

    project: str = option()
    entity: str | None = option()
    name: str = option()
    output: str | None = option("a path or null")


@dataclass
class DemoLengthOptions:
    """Options of `demo` in conf/demo.yaml."""

    methods: Group = MISSING
    steps: int = option(at_least=1)
    crops: int = option(at_least=1)
    bank_masks_per_bin: int = option(at_least=1)
    workers: int = option(at_least=0)


@dataclass
class DemoOptions:
    """Options of `python -m src.demo`."""

    demo: DemoLengthOptions = MISSING
    seed: int = option(at_least=0, at_most=_LARGEST_SEED)
    output_dir: str = option("a directory")
