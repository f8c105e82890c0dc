"""Training and testing rows of the papers' tables, by Hydra's launchers, going on where a command was stopped."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra import compose

# Its launchers take them, and Hydra has no public name for having none.
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from src.data.mask_bank import MaskBank, bins_within
from src.errors import InputError
from src.evaluate import evaluate
from src.reporting.files import written_whole
from src.reporting.papers import PaperFigure, PaperTable
from src.train import train

OURS_TO_SET = {"experiments", "output_dir", "resume", "start_from", "row"}
"""Keys that the command gives every row."""

STAND_INS = {"data": "photos", "mask": "random_shapes"}
"""Below paper scale, where nothing else is typed: for a table's data, and for masks that are files."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One training run of a row.

    Attributes:
        row: with its table, as experiments/ has it: ``lbam/table2/full``.
        overrides: on conf/reproduce.yaml.
        folder: where it is kept; its table's is two higher.
    """

    row: str
    seed: int
    overrides: tuple[str, ...]
    folder: Path

    @property
    def name(self) -> str:
        """Its row's, without the table: ``full``."""
        return self.row.rpartition("/")[2]

    @property
    def records(self) -> Path:
        """Its scores; there once it is finished."""
        return self.folder / "records.parquet"

    @cached_property
    def config(self) -> DictConfig:
        """Its configuration, with the keys of conf/reproduce.yaml."""
        return compose("reproduce", list(self.overrides))

    @property
    def bank(self) -> Path:
        """The masks that its table is tested on."""
        return self.folder.parents[1] / "bank.npz"


def run_row(cfg: DictConfig) -> str | None:
    """Train and test a row with a seed, as conf/reproduce.yaml composes; a job of Hydra's launchers.

    Returns:
        What went wrong, in a line; None if all went well. The traceback is in the run's log.txt.
    """
    folder = Path(cfg.output_dir)
    try:
        # A launcher's processes may outlive the command that began them, and it is typed again.
        with FileLock(folder / "lock", timeout=0):
            _train_and_test(cfg, folder)
    except Timeout:
        return f"another process is at work in {folder}"
    except Exception as error:  # whatever it is: the other rows go on, and the report says it
        log.exception("%s, seed %d failed", cfg.row, cfg.seed)
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def _train_and_test(cfg: DictConfig, folder: Path) -> None:
    if given_checkpoint(cfg, cfg.row) is None:
        _train(cfg, folder)
    log.info("%s, seed %d: testing", cfg.row, cfg.seed)
    scoring = compose("evaluate")
    scoring.ckpt, scoring.output_dir = str(checkpoint_of(cfg, folder)), str(folder)
    scoring.bank = str(folder.parents[1] / "bank.npz")
    scoring.data = OmegaConf.to_container(cfg.data, resolve=True)
    scoring.trainer.accelerator = cfg.trainer.accelerator
    evaluate(scoring)


def _train(cfg: DictConfig, folder: Path) -> None:
    """Train to the end; a run that was stopped goes on from its last validation."""
    finished, last = folder / "finished", folder / "checkpoints" / "last.ckpt"
    if finished.is_file():
        return
    log.info("%s, seed %d: %s", cfg.row, cfg.seed, "going on with training" if last.is_file() else "training")
    with open_dict(cfg):
        cfg.resume = str(last) if last.is_file() else None
    train(cfg)
    finished.touch()  # the checkpoint does not tell: the limit may be of steps, of epochs or of time


def checkpoint_of(cfg: DictConfig, folder: Path) -> Path:
    """What is tested of a run: the checkpoint that was given, or the last of its training, or the best."""
    given = given_checkpoint(cfg, cfg.row)
    return folder / "checkpoints" / f"{cfg.evaluated}.ckpt" if given is None else Path(given).expanduser()


def given_checkpoint(cfg: DictConfig, row: str) -> str | None:
    """The checkpoint that the command was given for a row."""
    return next((path for name, path in (cfg.checkpoints or {}).items() if name in _names(cfg, row)), None)


def _names(cfg: DictConfig, row: str) -> set[str]:
    """What a row is called by: ``full`` for its own table; for the figures of its paper, ``table2/full``."""
    return {row.removeprefix(f"{cfg.table}/"), row.partition("/")[2]}


def runs_of(cfg: DictConfig, rows: Sequence[str]) -> list[Run]:
    """What the command is to train and test: every row, `seeds` times; rows with a checkpoint once.

    Raises:
        InputError: a key was typed that is the command's to set, or does not fit it.
    """
    if cfg.trainer.devices != 1 or cfg.trainer.num_nodes != 1:
        raise InputError(
            "a row is trained by one process on one device; several rows at once by a launcher, such as "
            "hydra/launcher=joblib. To train a row on several devices: python -m src.train experiments=<table>/<row>, "
            "then give its checkpoint as checkpoints={<row>:<file>}"
        )
    if unknown := set(cfg.checkpoints or ()) - {name for row in rows for name in _names(cfg, row)}:
        raise InputError(f"checkpoints: there are no rows {', '.join(sorted(unknown))}")
    typed = list(HydraConfig.get().overrides.task)
    keys = {override.key_or_group for override in OverridesParser.create().parse_overrides(typed)}
    if refused := keys & OURS_TO_SET:
        raise InputError(f"{', '.join(sorted(refused))}: the command itself sets this for every row, so leave it out")
    chosen = {row: (*typed, f"row={row}", f"experiments={row}") for row in rows}
    if cfg.scale.name != "paper":
        groups = {key.partition(".")[0] for key in keys}
        chosen = {row: (*overrides, *_stand_ins(overrides, groups)) for row, overrides in chosen.items()}
    return [  # one seed of all rows before the next: a study that is stopped has whole tables
        Run(row, seed, (*chosen[row], f"seed={seed}"), Path(cfg.study) / row / f"seed_{seed}")
        for seed in range(cfg.seed, cfg.seed + cfg.seeds)
        for row in rows
        if seed == cfg.seed or given_checkpoint(cfg, row) is None
    ]


def _stand_ins(overrides: Sequence[str], typed: set[str]) -> list[str]:
    data = [] if "data" in typed else [f"data={STAND_INS['data']}"]
    masks_are_files = "mask" not in typed and "root" in compose("reproduce", list(overrides)).mask
    return [*data, *([f"mask={STAND_INS['mask']}"] if masks_are_files else [])]


def run_all(cfg: DictConfig, runs: Sequence[Run]) -> dict[Run, str]:
    """Train and test what is not finished, by the launcher that was chosen.

    Returns:
        What went wrong, by run.
    Raises:
        InputError: a run, or a bank of masks, is there already that these settings do not make.
    """
    for run in runs:
        _keep_identity(run)
    for run in {run.bank: run for run in runs}.values():
        _keep_bank(run)
    waiting = [run for run in runs if not run.records.is_file()]
    log.info("%d runs: %d finished, %d to go", len(runs), len(runs) - len(waiting), len(waiting))
    if not waiting:
        return {}
    overrides = [[*run.overrides, "hydra/job_logging=row"] for run in waiting]
    try:
        returned = [job.return_value for job in _launch(cfg, overrides)]
    except Exception as error:  # the launcher's own: a process of it was killed, or the cluster's queue was
        log.exception("the launcher failed")
        lost = f"the launcher failed: {type(error).__name__}"
        return {run: lost for run in waiting if not run.records.is_file()}
    return {run: error for run, error in zip(waiting, returned, strict=True) if error is not None}


def _launch(cfg: DictConfig, overrides: Sequence[Sequence[str]]) -> Sequence[JobReturn]:
    """`run_row` on each, by the launcher of hydra/launcher: one by one, several at once, or on a cluster."""
    master = cfg.copy()
    with open_dict(master):
        master.hydra = HydraConfig.get()
    launcher = Plugins.instance().instantiate_launcher(
        HydraContext(GlobalHydra.instance().config_loader(), Callbacks()), task_function=run_row, config=master
    )
    return launcher.launch(overrides, initial_job_idx=0)


def _keep_identity(run: Run) -> None:
    """Write what a run is beside it, or refuse to go on with another one."""
    kept, identity = run.folder / "config.yaml", _identity(run.config)
    if not kept.is_file():
        with written_whole(kept) as temporary:
            OmegaConf.save(OmegaConf.create(identity), temporary)
    if changed := _differing(OmegaConf.to_container(OmegaConf.load(kept)), identity):
        raise InputError(
            f"{run.folder} holds a run that differs in {', '.join(changed)}: give study=<another folder> or remove it"
        )


def _keep_bank(run: Run) -> None:
    """Draw the masks that a table is tested on, or refuse those that are there and are others."""
    cfg = run.config
    size = (cfg.scale.image_size, cfg.scale.image_size)
    bins = bins_within(tuple(cfg.mask.hole_share))
    # Not cfg.seed: runs with different seeds share one test.
    bank = MaskBank.draw(instantiate(cfg.mask.generator), size, cfg.test_masks_per_bin, 0, bins)
    if not run.bank.is_file():
        bank.save(run.bank)
    if MaskBank.load(run.bank).hash != bank.hash:
        raise InputError(f"{run.bank} holds other masks than mask= draws: give study=<another folder> or remove it")


def _identity(cfg: DictConfig) -> dict[str, Any]:
    """What decides a run's scores: two runs that agree in it may stand in for each other."""
    parts = ("model", "loss", "data", "mask", "scale", "trainer", "batch_size", "accumulate", "clip_norm", "seed")
    identity: dict[str, Any] = {
        part: OmegaConf.to_container(cfg[part], resolve=True) if isinstance(cfg[part], DictConfig) else cfg[part]
        for part in parts
    }
    identity["data"] = {key: value for key, value in identity["data"].items() if key not in ("workers", "cache_images")}
    trainer = ("max_steps", "max_epochs", "max_time", "precision", "limit_train_batches")
    identity["trainer"] = {key: identity["trainer"][key] for key in trainer}
    identity["callbacks"] = sorted(set(cfg.callbacks) - {"progress", "pictures"})  # averaged weights are others
    identity["tested"] = given_checkpoint(cfg, cfg.row) or cfg.evaluated
    return identity


def _differing(one: Any, other: Any, prefix: str = "") -> list[str]:
    """Keys in which two plain configurations differ, dotted."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other else [prefix]
    return [
        found
        for key in sorted(one.keys() | other.keys())
        for found in _differing(one.get(key), other.get(key), f"{prefix}.{key}".lstrip("."))
    ]


def rows_of(made: PaperTable | PaperFigure, name: str, only: Sequence[str] | None) -> list[str]:
    """The rows that are built here, with their tables: those of a table, or those that a figure shows.

    Raises:
        InputError: `only` names a row that there is not, or there is none.
    """
    folder = name if isinstance(made, PaperTable) else name.partition("/")[0]
    built = [row.row for row in made.rows if row.row]
    if unknown := set(only or ()) - set(built):
        raise InputError(f"rows={','.join(sorted(unknown))}: {name} has {', '.join(built)}")
    return [f"{folder}/{row}" for row in built if only is None or row in only]
