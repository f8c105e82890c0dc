"""Fill the holes of pictures: `python -m src.predict ckpt=best.ckpt image=photo.jpg mask=mask.png output=out.png`."""

from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.errors import InputError, reports_input_errors, require_all_keys
from src.prediction.files import fill_files, find_files
from src.prediction.methods import load_methods
from src.prediction.places import output_paths, refuse_inputs
from src.prediction.sheets import Sheets
from src.prediction.writing import is_lossy


def predict(cfg: DictConfig) -> list[Path]:
    """Fill as conf/predict/config.yaml composes.

    Returns:
        The filled pictures written, in the order of the pictures, and of the methods within.

    Raises:
        InputError: a file is missing, unreadable or would be overwritten; a mask does not fit its picture.
    """
    require_all_keys(cfg)
    given = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(given, dict)
    files = find_files(cfg.image, cfg.mask, cfg.edges, one_mask_for_all=cfg.one_mask_for_all)
    methods = load_methods(given["ckpt"], given["model"], cfg.device, instantiate(cfg.size))
    if cfg.edges is not None and not any(method.network.takes_edges for method in methods.values()):
        takers = ", ".join(type(method.network).__name__ for method in methods.values())
        raise InputError(f"edges={cfg.edges}: {takers} takes none; edge_lbam does")
    outputs = output_paths([one.image for one in files], list(methods), Path(cfg.output).expanduser(), cfg.format)
    sheets = None if cfg.sheet is None else Sheets(Path(cfg.sheet).expanduser(), tuple(methods), len(files))
    inputs = [path for one in files for path in one]
    refuse_inputs("output", [path for places in outputs for path in places.values()], inputs)
    if sheets is not None:
        refuse_inputs("sheet", [sheets.path(one.label) for one in files], inputs)
    return fill_files(
        files,
        methods,
        outputs,
        hole=cfg.hole,
        lines=cfg.lines,
        figures=None if cfg.figures is None else Path(cfg.figures).expanduser(),
        sheets=sheets,
        sheet_side_px=cfg.sheet_side_px,
    )


@hydra.main(version_base="1.3", config_path="../conf/predict", config_name="config")
@reports_input_errors
def main(cfg: DictConfig) -> None:
    """Fill, and say what was written."""
    outputs = predict(cfg)
    folders = sorted({str(path.parent) for path in outputs})
    print(f"wrote {outputs[0]}" if len(outputs) == 1 else f"wrote {len(outputs)} pictures to {', '.join(folders)}")
    if any(map(is_lossy, outputs)):
        print("JPEG compresses known pixels anew, too; format=png keeps every one")
    if cfg.sheet is not None:
        print(f"side by side: {cfg.sheet}")


if __name__ == "__main__":
    main()
