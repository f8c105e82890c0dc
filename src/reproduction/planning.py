"""From a command's overrides to the runs it asks for: which rows, which seeds, which config for each."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf

from src.common.errors import InputError
from src.common.options import check_options
from src.common.schemas import ReproduceOptions
from src.reproduction.papers import PaperFigure, PaperTable
from src.reproduction.row_tests import protocol_overrides
from src.reproduction.runs import Run, given_checkpoint, row_aliases

RESERVED_KEYS = {"experiments", "output_dir", "resume", "start_from", "weights", "row"}
"""Keys that the command sets for each row."""

BUILT_IN = {"data": "photos", "mask": "random_shapes"}
"""Data and masks below paper scale that replace the paper's dataset and mask files, unless overridden."""


def plan_runs(cfg: DictConfig, rows: Sequence[str]) -> list[Run]:
    """Return one run for each row and seed; rows with a given checkpoint have a single run.

    Rows are those that ``rows=`` names, and those that have scores from an earlier command.

    Raises:
        InputError: an override sets a reserved key or an invalid value.
    """
    devices = cfg.trainer.devices
    if (len(devices) if isinstance(devices, ListConfig) else devices) != 1 or cfg.trainer.num_nodes != 1:
        raise InputError(
            f"trainer.devices={devices} trainer.num_nodes={cfg.trainer.num_nodes}: each row is trained by one process "
            "on one device. Train several rows in parallel with a launcher, such as hydra/launcher=joblib. To train a "
            "row on several devices, run python -m src.train experiments=<table>/<row> and pass its checkpoint as "
            "checkpoints={<row>:<file>}"
        )
    check_options(cfg, ReproduceOptions)
    if not isinstance(cfg.checkpoints, DictConfig | None):
        raise InputError(
            f"checkpoints must be a mapping in quotes, such as 'checkpoints={{full:lbam.ckpt}}', got {cfg.checkpoints}"
        )
    _require_known("checkpoints", set(cfg.checkpoints or ()), cfg, rows)
    keys = overridden_keys(cfg)
    if reserved := keys & RESERVED_KEYS:
        raise InputError(f"{', '.join(sorted(reserved))}: set by the command for each row, remove the override")
    # Comes first, so that a group passed on the command line takes precedence.
    grouped = [f"logger.wandb.group={json.dumps(wandb_group(cfg))}"] if "wandb" in (cfg.get("logger") or {}) else []
    selected, chosen = select_rows(cfg, rows), {}
    for row in rows:
        if row not in selected and not any((Path(cfg.study) / row).glob("seed_*/records.parquet")):
            continue
        overrides = (f"row={row}", f"experiments={row}", *grouped, *command_overrides(cfg))
        built_in = [] if cfg.scale.name == "paper" else _built_in_data(overrides, keys)
        chosen[row] = (*overrides, *built_in, *protocol_overrides(cfg, row, keys))
    return [  # all rows with one seed before the next seed: an interrupted study has complete tables
        Run(row, seed, (*chosen[row], f"seed={seed}"), Path(cfg.study) / row / f"seed_{seed}")
        for seed in range(cfg.seed, cfg.seed + cfg.seeds)
        for row in chosen
        if seed == cfg.seed or given_checkpoint(cfg, row) is None
    ]


def implemented_rows(made: PaperTable | PaperFigure, name: str) -> list[str]:
    """Return the rows of a table or figure that have a config, including their table's name."""
    directory = name if isinstance(made, PaperTable) else name.partition("/")[0]
    return [f"{directory}/{row.row}" for row in made.rows if row.row]


def select_rows(cfg: DictConfig, rows: Sequence[str]) -> list[str]:
    """Return the rows that ``rows=`` names, or all of them if it is null.

    Raises:
        InputError: it names an unknown row.
    """
    if cfg.rows is None:
        return list(rows)
    named = set(cfg.rows) if isinstance(cfg.rows, ListConfig) else {str(cfg.rows)}
    _require_known("rows", named, cfg, rows)
    return [row for row in rows if named & row_aliases(cfg, row)]


def command_overrides(cfg: DictConfig) -> list[str]:
    """Return the overrides passed on the command line, including those inside ``overrides=``."""
    more = OmegaConf.to_container(cfg.overrides) if isinstance(cfg.overrides, DictConfig) else cfg.overrides or {}
    if not isinstance(more, dict):
        raise InputError(
            f"overrides must be a mapping in quotes, such as 'overrides={{mask.root:masks/}}', got {cfg.overrides}"
        )
    # JSON values are valid in Hydra's grammar.
    return [*HydraConfig.get().overrides.task, *(f"{key!s}={json.dumps(value)}" for key, value in more.items())]


def overridden_keys(cfg: DictConfig) -> set[str]:
    """Return the keys and config groups set by `command_overrides`."""
    return {override.key_or_group for override in OverridesParser.create().parse_overrides(command_overrides(cfg))}


def wandb_group(cfg: DictConfig) -> str:
    """Return the W&B group of a table's runs."""
    return f"{cfg.study}/{cfg.table}"


def table_loggers(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved configs of the loggers that can show tables, which is W&B alone."""
    wandb = (cfg.get("logger") or {}).get("wandb")
    return {} if wandb is None else {"wandb": OmegaConf.to_container(wandb, resolve=True)}


def _built_in_data(overrides: Sequence[str], overridden: set[str]) -> list[str]:
    data = [] if {"data", "data.root"} & overridden else [f"data={BUILT_IN['data']}"]
    needs_files = not {"mask", "mask.root"} & overridden and "root" in compose("reproduce", list(overrides)).mask
    return [*data, *([f"mask={BUILT_IN['mask']}"] if needs_files else [])]


def _require_known(option: str, named: set[str], cfg: DictConfig, rows: Sequence[str]) -> None:
    if unknown := named - {name for row in rows for name in row_aliases(cfg, row)}:
        available = ", ".join(row.removeprefix(f"{cfg.table}/") for row in rows)
        raise InputError(f"{option}={','.join(sorted(unknown))}: unknown row of {cfg.table}; available: {available}")
