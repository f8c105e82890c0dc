"""Write a trained network for use elsewhere: `python -m src.export ckpt=best.ckpt output=exported/lbam`."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, ListConfig

from src.checkpoints.export_directory import CARD, CONFIG, WEIGHTS
from src.checkpoints.reading import load_checkpoint
from src.common.errors import InputError, reports_input_errors, require_all_keys
from src.common.options import check_options
from src.common.schemas import ExportOptions
from src.exporting.folder import Wanted, refuse_no_export, write_folder
from src.exporting.formats import INSTALL, Written, require
from src.exporting.graph import LARGEST_SIDE_PX, Size

ALWAYS = "safetensors"  # among formats=, where it may stand and need not


def export(cfg: DictConfig) -> tuple[Path, dict[str, Written]]:
    """Read, write and push as conf/export.yaml says.

    Returns:
        The folder, and the graphs in it by format.
    Raises:
        InputError: the checkpoint is missing or not one of this suite, a key is wrong, a package is missing, a graph
            can't be made or computes something else, the folder can't be written to or is no export's, or the
            Hub can't be reached.
    """
    require_all_keys(cfg)
    check_options(cfg, ExportOptions)
    formats = [name for name in _listed(cfg.formats) if name != ALWAYS]
    require(formats)
    folder = Path(cfg.output).expanduser()
    if folder.is_file():
        raise InputError(f"output={folder} is a file: it must be a folder")
    refuse_no_export(folder, "output=")
    size = _size(cfg.size)
    if cfg.push is not None:
        _hub().check_name(cfg.push)
    checkpoint = load_checkpoint(_hub().downloaded(cfg.ckpt) if str(cfg.ckpt).startswith("hf://") else cfg.ckpt)
    wanted = Wanted(
        formats=formats,
        size=size,
        given=cfg.edges == "given",
        license=cfg.license,
        records=None if cfg.records is None else Path(cfg.records).expanduser(),
        half=cfg.half,
    )
    files = write_folder(folder, checkpoint, wanted)
    if cfg.push is not None:
        _hub().push(folder, cfg.push, private=cfg.private, formats=formats)
    return folder, files


def _listed(names: Any) -> list[str]:
    return [str(name) for name in names] if isinstance(names, ListConfig) else [str(names)]


def _size(size: Any) -> Size:
    sides = [size, size] if isinstance(size, int) else list(size) if isinstance(size, ListConfig) else size
    if sides is None:
        return None
    if not isinstance(sides, list) or len(sides) != 2 or not all(
        type(side) is int and 1 <= side <= LARGEST_SIDE_PX for side in sides
    ):  # fmt: skip
        raise InputError(f"size={size}: give null for any, a side in px, or [height,width], of 1 to {LARGEST_SIDE_PX}")
    return sides[0], sides[1]


def _hub() -> Any:
    if find_spec("huggingface_hub") is None:
        raise InputError(f"the Hugging Face Hub needs huggingface-hub: {INSTALL}")
    from src.checkpoints import hub  # here, as it is of the extra `export`

    return hub


@hydra.main(version_base="1.3", config_path="../conf", config_name="export")
@reports_input_errors
def main(cfg: DictConfig) -> None:
    """Export, and say what was written."""
    folder, files = export(cfg)
    size_mb = (folder / WEIGHTS).stat().st_size / 1e6
    print(f"{folder}: {WEIGHTS} ({size_mb:.1f} MB), {CONFIG} and {CARD}; ckpt={folder} is this network")
    for written in files.values():
        size_mb = (folder / written.file).stat().st_size / 1e6
        shapes = ", ".join(" x ".join(str(n) for n in shape) for shape in written.sizes)
        print(f"{written.file} ({size_mb:.1f} MB): at most {written.difference:.1e} from the network, at {shapes}")
    if cfg.push is not None:
        print(f"https://huggingface.co/{cfg.push}: hf://{cfg.push} is this network")


if __name__ == "__main__":
    main()
