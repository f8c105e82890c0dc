"""Export a checkpoint as conf/export.yaml says."""

from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import DictConfig, ListConfig, open_dict

from src.checkpoints.reading import load_checkpoint
from src.checkpoints.weights import load_weights
from src.common.errors import InputError, require_all_keys
from src.common.options import check_options
from src.common.schemas import ExportOptions
from src.exporting.directory import ExportContents, require_export_directory, write_export
from src.exporting.formats import INSTALL, GraphFile, require_formats
from src.exporting.graph import LARGEST_SIDE_PX, Size

SAFETENSORS = "safetensors"  # always written, so optional in formats=


def export(cfg: DictConfig) -> tuple[Path, dict[str, GraphFile]]:
    """Write an export directory, push it to the Hub if `push` names a repository, and return it and its graphs.

    Raises:
        InputError: the checkpoint is missing or not one of this suite, a key is wrong, a package is missing, a graph
            can't be exported or differs from the network, the directory is not writable or holds files that no export
            wrote, or the Hub is unreachable.
    """
    with open_dict(cfg):  # of the model, only its name matters: the weights' config defines the network
        model = None if (chosen := cfg.pop("model", None)) is None else chosen.name
    require_all_keys(cfg)
    check_options(cfg, ExportOptions)
    if cfg.weights is None and (cfg.ckpt is None or model is not None):
        raise InputError("nothing to export: pass ckpt=<checkpoint>, or model=<model> weights=<shipped size or path>")
    names = [str(name) for name in (cfg.formats if isinstance(cfg.formats, ListConfig) else [cfg.formats])]
    options = ExportContents(
        formats=[name for name in names if name != SAFETENSORS],
        size=_size(cfg.size),
        edges_given=cfg.edges == "given",
        license=cfg.license,
        records=cfg.records,
        half=cfg.half,
    )
    require_formats(options.formats)
    directory = Path(cfg.output).expanduser()
    if directory.is_file():
        raise InputError(f"output={directory} is a file: expected a directory")
    require_export_directory(directory, "output=")
    if cfg.push is not None:
        _hub().require_repo_id(cfg.push)
    checkpoint = load_checkpoint(cfg.ckpt) if cfg.weights is None else load_weights(cfg.weights, model, ckpt=cfg.ckpt)
    files = write_export(directory, checkpoint, options)
    if cfg.push is not None:
        _hub().push(directory, cfg.push, private=cfg.private, formats=options.formats)
    return directory, files


def _size(size: Any) -> Size:
    if size is None:
        return None
    sides = list(size) if isinstance(size, ListConfig) else [size, size]
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= LARGEST_SIDE_PX for side in sides):
        raise InputError(
            f"size={size}: expected null (any size), a side in px, or [height,width], each from 1 to {LARGEST_SIDE_PX}"
        )
    return sides[0], sides[1]


def _hub() -> ModuleType:
    if find_spec("huggingface_hub") is None:
        raise InputError(f"the Hugging Face Hub needs the package huggingface-hub: {INSTALL}")
    from src.exporting import hub  # here, as it needs the extra `export`

    return hub
