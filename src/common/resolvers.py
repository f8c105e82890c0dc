"""What conf/train.yaml asks of Python, for every command that imports this file: rows of tables, a model's loss, masks.

`experiments=lbam/table2/full` is a row of a paper's table on Hydra's search path, and
`experiments='glob(lbam/table2/*)'` of a multirun all rows of a table. `${loss_of:<model>}` names a file of conf/loss,
`${mask_of:<model>,<scale>}` one of conf/mask.
"""

from pathlib import Path

# Hydra has no public source of plain folders; this one's methods are those of the public ConfigSource.
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[2]
GROUP = "experiments"
FOLDER = ROOT / GROUP
MODELS = ROOT / "conf" / "model"
ANY_MASK = "irregular"
"""Masks that need no files, and train any model."""


class RowsSource(FileConfigSource):
    """The folder above experiments/, in which the group `experiments` has the rows of all tables, and no tables."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, f"{self.scheme()}://{ROOT}")

    @staticmethod
    def scheme() -> str:
        """What its path begins with."""
        return "rows"

    def is_config(self, config_path: str) -> bool:
        """Whether it is a row: a table lies a folder higher."""
        return config_path.strip("/").count("/") == 3 and super().is_config(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Rows by their whole names: Hydra does not look into folders, so `glob(lbam/table2/*)` would be empty."""
        if config_path.strip("/") != GROUP or results_filter is ObjectType.GROUP:
            return super().list(config_path, results_filter) if config_path.startswith(GROUP) else []
        return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.glob("*/*/*.yaml"))


class RowsOnSearchPath(SearchPathPlugin):
    """Puts the rows behind conf/ on the search path of every command."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append them."""
        search_path.append(GROUP, f"{RowsSource.scheme()}://")


def loss_of(model: str) -> str:
    """The loss a model trains on unless `loss=` is typed: what its file names as `loss:`, or else its own name."""
    return _named(model, "loss", otherwise=model)


def mask_of(model: str, scale: str) -> str:
    """Return the masks that a model trains on unless `mask=` is set.

    At paper scale they are what the model's file names as `mask:`. Other scales do without files: `irregular`.
    """
    return _named(model, "mask", otherwise=ANY_MASK) if scale == "paper" else ANY_MASK


def _named(model: str, group: str, otherwise: str) -> str:
    """What a model's file names as `<group>:`; Hydra itself complains of a model without a file."""
    file = MODELS / f"{model}.yaml"
    named = OmegaConf.select(OmegaConf.load(file), group) if file.is_file() else None
    return otherwise if named is None else str(named)


SourcesRegistry.instance().register(RowsSource)
Plugins.instance().register(RowsOnSearchPath)
OmegaConf.register_new_resolver("loss_of", loss_of, replace=True)
OmegaConf.register_new_resolver("mask_of", mask_of, replace=True)
