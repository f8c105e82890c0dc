"""Hydra search path and OmegaConf resolvers that conf/train.yaml needs: table rows, and the loss and masks of a model.

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
"""Masks that need no files."""


class RowsSource(FileConfigSource):
    """Config source whose group `experiments` contains the rows of all tables, but not the tables themselves."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, f"{self.scheme()}://{ROOT}")

    @staticmethod
    def scheme() -> str:
        """Return the scheme of its paths."""
        return "rows"

    def is_config(self, config_path: str) -> bool:
        """Return whether a path is a row; tables are one level higher."""
        return config_path.strip("/").count("/") == 3 and super().is_config(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List rows by full name: Hydra does not search subdirectories, so `glob(lbam/table2/*)` would be empty."""
        if config_path.strip("/") != GROUP or results_filter is ObjectType.GROUP:
            return super().list(config_path, results_filter) if config_path.startswith(GROUP) else []
        return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.glob("*/*/*.yaml"))


class RowsOnSearchPath(SearchPathPlugin):
    """Append the rows to the search path of every command."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the source of rows."""
        search_path.append(GROUP, f"{RowsSource.scheme()}://")


def loss_of(model: str) -> str:
    """Return the loss of a model unless `loss=` is set: `loss:` in the model's file, or the model's name."""
    return _named(model, "loss", otherwise=model)


def mask_of(model: str, scale: str) -> str:
    """Return the masks of a model unless `mask=` is set.

    At paper scale `mask:` in the model's file; at other scales `irregular`, which needs no files.
    """
    return _named(model, "mask", otherwise=ANY_MASK) if scale == "paper" else ANY_MASK


def _named(model: str, group: str, otherwise: str) -> str:
    """Return `<group>:` in a model's file; Hydra reports a model without a file."""
    file = MODELS / f"{model}.yaml"
    named = OmegaConf.select(OmegaConf.load(file), group) if file.is_file() else None
    return otherwise if named is None else str(named)


SourcesRegistry.instance().register(RowsSource)
Plugins.instance().register(RowsOnSearchPath)
OmegaConf.register_new_resolver("loss_of", loss_of, replace=True)
OmegaConf.register_new_resolver("mask_of", mask_of, replace=True)
