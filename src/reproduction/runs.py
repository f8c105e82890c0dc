"""One training run of a table's row: its config, its run directory, and the identity that decides if it is reused."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from src.checkpoints.export_directory import find_exported_weights
from src.common.provenance import HashedFile
from src.evaluation.frozen_test import crop_size
from src.reproduction.row_tests import mask_for_testing
from src.training.resume.identity import composed_identity, differing_keys

_TEST_OPTIONS = ("test_masks_per_bin", "test_mask", "test_size", "tested")
"""Keys of `Run.identity` in addition to the training run's own."""


@dataclass(frozen=True)
class Run:
    """One training run of a row.

    Attributes:
        row: name of the row including its table, as in experiments/: ``lbam/table2/full``.
        overrides: overrides of conf/reproduce.yaml.
        directory: run directory; the table's directory is two levels higher.
    """

    row: str
    seed: int
    overrides: tuple[str, ...]
    directory: Path

    @property
    def name(self) -> str:
        """Name of the row without its table: ``full``."""
        return self.row.rpartition("/")[2]

    @property
    def records(self) -> Path:
        """Path of the scores, which exist once the run is finished."""
        return self.directory / "records.parquet"

    @property
    def bank(self) -> Path:
        """Path of the mask bank that all runs of the table are tested on."""
        return self.directory.parents[1] / "bank.npz"

    @cached_property
    def config(self) -> DictConfig:
        """Composed config, including the keys of conf/reproduce.yaml."""
        return compose("reproduce", list(self.overrides))

    @property
    def is_started(self) -> bool:
        """Whether the run directory holds checkpoints or scores."""
        return self.records.is_file() or (self.directory / "checkpoints").is_dir()

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the scores: the identity of the training run, and how it is tested."""
        cfg = self.config
        tested = {"test_masks_per_bin": cfg.test_masks_per_bin}
        # Absent if not set, so that the identity equals that of runs before these options.
        if cfg.test_mask is not None:
            tested["test_mask"] = OmegaConf.to_container(mask_for_testing(cfg), resolve=True)
        if cfg.test_size is not None:
            tested["test_size"] = list(crop_size(cfg))
        return composed_identity(cfg) | tested | {"tested": self._tested_weights()}

    @property
    def changed_keys(self) -> list[str]:
        """Keys in which the config differs from the one saved in the run directory; empty if none is saved."""
        path = self.directory / "config.yaml"
        if not path.is_file():
            return []
        saved = OmegaConf.load(path)
        assert isinstance(saved, DictConfig)
        tested = OmegaConf.to_container(OmegaConf.masked_copy(saved, list(_TEST_OPTIONS)))
        assert isinstance(tested, dict)
        # The identity is recomputed from the saved one: earlier versions saved interpolations and other options.
        return differing_keys(composed_identity(saved) | tested, self.identity)

    def _tested_weights(self) -> str:
        """Return which weights are tested; for a given checkpoint its hash, as the file at its path may change."""
        given = given_checkpoint(self.config, self.row)
        if given is None:
            return str(self.config.evaluated)
        path = Path(given).expanduser()
        weights = find_exported_weights(path) or path
        return HashedFile.of(weights).sha256 if weights.is_file() else given


def row_aliases(cfg: DictConfig, row: str) -> set[str]:
    """Return the names a row can be selected by: ``full`` in its own table, ``table2/full`` in the paper's figures."""
    return {row.removeprefix(f"{cfg.table}/"), row.partition("/")[2]}


def given_checkpoint(cfg: DictConfig, row: str) -> str | None:
    """Return the checkpoint that ``checkpoints=`` names for a row."""
    return next((path for name, path in (cfg.checkpoints or {}).items() if name in row_aliases(cfg, row)), None)


def is_trained(cfg: DictConfig) -> bool:
    """Return whether a row is trained here: neither a method without weights nor a given checkpoint."""
    return "training" in cfg.model and given_checkpoint(cfg, cfg.row) is None


def tested_checkpoint(cfg: DictConfig, directory: Path) -> Path | None:
    """Return the checkpoint to test: the given one, or the last or best one; None for methods without weights."""
    given = given_checkpoint(cfg, cfg.row)
    if given is None and not is_trained(cfg):
        return None
    return directory / "checkpoints" / f"{cfg.evaluated}.ckpt" if given is None else Path(given).expanduser()
