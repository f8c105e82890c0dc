"""Training and testing rows of the papers' tables, by Hydra's launchers, going on where a command was stopped."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import compose

# Its launchers take them, and Hydra has no public name for having none.
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from src.checkpoints.export_directory import find_exported_weights
from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.common.options import check_options
from src.common.provenance import HashedFile
from src.common.schemas import ReproduceOptions
from src.evaluation.scoring import SCALE_KEYS, crop_size, evaluate
from src.reproduction.papers import PaperFigure, PaperTable
from src.reproduction.row_tests import keep_test_bank, mask_of_test, protocol_overrides, tested_data
from src.training.resume.checkpoints import latest_checkpoint
from src.training.resume.identity import composed_identity, differing_keys
from src.training.resume.run_dirs import RunDirInUseError, read_finished, run_dir_lock
from src.training.run import train

OURS_TO_SET = {"experiments", "output_dir", "resume", "start_from", "row"}
"""Keys that the command gives every row."""

_TEST_OPTIONS = ("test_masks_per_bin", "test_mask", "test_size", "tested")
"""Parts of a `Run.identity` beside the training run's own."""

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
    def is_begun(self) -> bool:
        """Whether there is anything of it."""
        return self.records.is_file() or (self.folder / "checkpoints").is_dir()

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides its scores: the identity of its training run, and its test."""
        cfg = self.config
        test = {"test_masks_per_bin": cfg.test_masks_per_bin, **_own_test(cfg), "tested": _weights(cfg, self.row)}
        return composed_identity(cfg) | test

    @property
    def changed(self) -> list[str]:
        """Keys in which it differs from the run in its folder; empty if that has no saved identity."""
        path = self.folder / "config.yaml"
        if not path.is_file():
            return []
        before = OmegaConf.load(path)
        assert isinstance(before, DictConfig)
        test = OmegaConf.to_container(OmegaConf.masked_copy(before, list(_TEST_OPTIONS)))
        assert isinstance(test, dict)
        # Not the saved identity as it is: earlier versions saved interpolations, and other options.
        return differing_keys(composed_identity(before) | test, self.identity)

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
        # A launcher's processes may outlive the command that started them, and the command may be run again.
        with run_dir_lock(folder):
            _train_and_test(cfg, folder)
    except RunDirInUseError as error:
        return str(error)
    except Exception as error:  # whatever it is: the other rows continue, and the report shows it
        log.exception("%s, seed %d failed", cfg.row, cfg.seed)
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def _train_and_test(cfg: DictConfig, folder: Path) -> None:
    if given_checkpoint(cfg, cfg.row) is None:
        _train(cfg, folder)
    log.info("%s, seed %d: testing", cfg.row, cfg.seed)
    scoring = compose("evaluate")
    scoring.ckpt, scoring.output_dir = str(checkpoint_of(cfg, folder)), str(folder)
    scoring.bank, scoring.test_size = str(folder.parents[1] / "bank.npz"), cfg.test_size
    scoring.data = OmegaConf.to_container(tested_data(cfg), resolve=True)
    scoring.trainer.accelerator = cfg.trainer.accelerator
    with open_dict(scoring):
        scoring.mask = OmegaConf.to_container(mask_of_test(cfg), resolve=True)  # what the bank was drawn with
        scoring.logger = tables_alone(cfg)
        # of the test, whatever a given checkpoint was trained at
        scoring.scale = {**{key: cfg.scale[key] for key in SCALE_KEYS}, "test_batches": 1.0}
    evaluate(scoring)


def _train(cfg: DictConfig, folder: Path) -> None:
    """Train to the last step, from the latest checkpoint if there is one."""
    if read_finished(folder) is not None:
        return
    action = "training" if latest_checkpoint(folder) is None else "resuming training"
    log.info("%s, seed %d: %s", cfg.row, cfg.seed, action)
    with open_dict(cfg):
        cfg.resume = "auto"
    train(cfg)


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
    devices = cfg.trainer.devices
    if (len(devices) if isinstance(devices, ListConfig) else devices) != 1 or cfg.trainer.num_nodes != 1:
        raise InputError(
            "a row is trained by one process on one device; several rows at once by a launcher, such as "
            "hydra/launcher=joblib. To train a row on several devices: python -m src.train experiments=<table>/<row>, "
            "then give its checkpoint as checkpoints={<row>:<file>}"
        )
    check_options(cfg, ReproduceOptions)
    if not isinstance(cfg.checkpoints, DictConfig | None):
        raise InputError(f"checkpoints must be as 'checkpoints={{full:lbam.ckpt}}', in quotes, got {cfg.checkpoints}")
    if unknown := set(cfg.checkpoints or ()) - {name for row in rows for name in _names(cfg, row)}:
        raise InputError(f"checkpoints: there are no rows {', '.join(sorted(unknown))}")
    # First, as one that is typed comes after it and holds.
    grouped = [f"logger.wandb.group={json.dumps(group_of(cfg))}"] if "wandb" in (cfg.get("logger") or {}) else []
    keys = typed_keys(cfg)
    if refused := keys & OURS_TO_SET:
        raise InputError(f"{', '.join(sorted(refused))}: the command itself sets this for every row, so leave it out")
    chosen = {row: (f"row={row}", f"experiments={row}", *grouped, *typed_overrides(cfg)) for row in rows}
    if cfg.scale.name != "paper":
        chosen = {row: (*overrides, *_stand_ins(overrides, keys)) for row, overrides in chosen.items()}
    chosen = {row: (*overrides, *protocol_overrides(cfg, row, keys)) for row, overrides in chosen.items()}
    return [  # one seed of all rows before the next: a study that is stopped has whole tables
        Run(row, seed, (*chosen[row], f"seed={seed}"), Path(cfg.study) / row / f"seed_{seed}")
        for seed in range(cfg.seed, cfg.seed + cfg.seeds)
        for row in rows
        if seed == cfg.seed or given_checkpoint(cfg, row) is None
    ]


def typed_overrides(cfg: DictConfig) -> list[str]:
    """What the user set: for the command, and with overrides= for its rows."""
    more = OmegaConf.to_container(cfg.overrides) if cfg.overrides else {}
    if not isinstance(more, dict):
        raise InputError(f"overrides must be as 'overrides={{mask.root:masks/}}', in quotes, got {cfg.overrides}")
    of_rows = [f"{key!s}={json.dumps(value)}" for key, value in more.items()]  # as Hydra's grammar has values, too
    return [*HydraConfig.get().overrides.task, *of_rows]


def typed_keys(cfg: DictConfig) -> set[str]:
    """The keys and groups among `typed_overrides`."""
    return {override.key_or_group for override in OverridesParser.create().parse_overrides(typed_overrides(cfg))}


def _stand_ins(overrides: Sequence[str], typed: set[str]) -> list[str]:
    data = [] if {"data", "data.root"} & typed else [f"data={STAND_INS['data']}"]
    masks_are_files = not {"mask", "mask.root"} & typed and "root" in compose("reproduce", list(overrides)).mask
    return [*data, *([f"mask={STAND_INS['mask']}"] if masks_are_files else [])]


def group_of(cfg: DictConfig) -> str:
    """The group that W&B has the runs of a table in."""
    return f"{cfg.study}/{cfg.table}"


def tables_alone(cfg: DictConfig) -> dict[str, Any]:
    """Of the configuration's loggers, resolved, those that show tables as such: W&B. Others have those of training."""
    chosen: dict[str, Any] = OmegaConf.to_container(cfg.get("logger") or DictConfig({}), resolve=True)  # type: ignore[assignment]
    return {name: one for name, one in chosen.items() if name == "wandb"}


def run_all(cfg: DictConfig, runs: Sequence[Run]) -> dict[Run, str]:
    """Train and test what is not finished, by the launcher that was chosen.

    Returns:
        What went wrong, by run.
    Raises:
        InputError: a run, or a bank of masks, is there already that these settings do not make.
    """
    if others := {run: changed for run in runs if run.is_begun and (changed := run.changed)}:
        raise InputError(
            "; ".join(f"{run.folder} holds a run that differs in {', '.join(keys)}" for run, keys in others.items())
            + ": give study=<another folder>, or remove what is there"
        )
    waiting = [run for run in runs if not run.records.is_file()]
    log.info("%d runs: %d finished, %d to go", len(runs), len(runs) - len(waiting), len(waiting))
    if not waiting:
        return {}
    for run in {run.bank: run for run in waiting}.values():
        keep_test_bank(run.config, run.bank)
    for run in waiting:
        with atomic_write(run.folder / "config.yaml") as temporary:
            OmegaConf.save(OmegaConf.create(run.identity), temporary)
    overrides = [[*run.overrides, "hydra/job_logging=row"] for run in waiting]
    try:
        returned = [job.return_value for job in _launch(cfg, overrides)]
    except Exception as error:  # the launcher's own: a process of it was killed, or the cluster's queue was
        log.exception("the launcher failed")
        lost = " ".join(f"the launcher failed: {type(error).__name__}: {error}".split())
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


def _own_test(cfg: DictConfig) -> dict[str, Any]:
    """What a run is tested on where that is not as it trains; nothing else, as runs from before this have none."""
    mask = {} if cfg.test_mask is None else {"test_mask": OmegaConf.to_container(mask_of_test(cfg), resolve=True)}
    return mask | ({} if cfg.test_size is None else {"test_size": list(crop_size(cfg))})


def _weights(cfg: DictConfig, row: str) -> str:
    """Which weights are tested: of a given checkpoint by its hash, as another may lie at its path some day."""
    given = given_checkpoint(cfg, row)
    if given is None:
        return str(cfg.evaluated)
    path = Path(given).expanduser()
    weights = find_exported_weights(path) or path
    return HashedFile.of(weights).sha256 if weights.is_file() else given


def rows_of(made: PaperTable | PaperFigure, name: str) -> list[str]:
    """The rows that are built here, with their tables: those of a table, or those that a figure shows."""
    folder = name if isinstance(made, PaperTable) else name.partition("/")[0]
    return [f"{folder}/{row.row}" for row in made.rows if row.row]


def asked_for(cfg: DictConfig, rows: Sequence[str]) -> list[str]:
    """Those of the rows that rows= names; all if it is null.

    Raises:
        InputError: it names a row that there is not.
    """
    if cfg.rows is None:
        return list(rows)
    named = set(cfg.rows) if isinstance(cfg.rows, ListConfig) else {str(cfg.rows)}
    if unknown := named - {name for row in rows for name in _names(cfg, row)}:
        known = ", ".join(row.removeprefix(f"{cfg.table}/") for row in rows)
        raise InputError(f"rows={','.join(sorted(unknown))}: {cfg.table} has {known}")
    return [row for row in rows if named & _names(cfg, row)]
