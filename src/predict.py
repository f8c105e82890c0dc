"""Fill the holes of pictures: `python -m src.predict ckpt=best.ckpt image=photo.jpg mask=mask.png output=out.png`."""

from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.common.errors import InputError, report_input_errors, require_all_keys
from src.common.options import check_options
from src.common.schemas import PredictOptions
from src.image_files.writing import is_lossy
from src.prediction.files import fill_files, find_files
from src.prediction.methods import load_methods
from src.prediction.output_paths import figure_path, output_paths, refuse_overwriting
from src.prediction.sheets import Sheets
from src.rendering.network_figures import FIGURES


def predict(cfg: DictConfig) -> list[Path]:
    """Fill as conf/predict/config.yaml composes.

    Returns:
        The filled pictures written, in the order of the pictures, and of the methods within.

    Raises:
        InputError: a file is missing, unreadable or would be overwritten; a mask does not fit its picture.
    """
    require_all_keys(cfg)
    check_options(cfg, PredictOptions)
    given = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(given, dict)
    files = find_files(cfg.image, cfg.mask, cfg.edges, one_mask_for_all=cfg.one_mask_for_all)
    methods = load_methods(given["ckpt"], given["model"], cfg.device, instantiate(cfg.size))
    if cfg.edges is not None and not any(method.network.takes_edges for method in methods.values()):
        takers = ", ".join(type(method.network).__name__ for method in methods.values())
        raise InputError(f"edges={cfg.edges}: {takers} takes none; edge_lbam does")
    outputs = output_paths([one.image for one in files], list(methods), Path(cfg.output).expanduser(), cfg.format)
    sheets = None if cfg.sheet is None else Sheets(Path(cfg.sheet).expanduser(), tuple(methods), len(files))
    figures = None if cfg.figures is None else Path(cfg.figures).expanduser()
    inputs, filled = [path for one in files for path in one], [path for places in outputs for path in places.values()]
    side_by_side = [] if sheets is None else [sheets.path(one.label) for one in files]
    drawn = [
        figure_path(figures, one.label, figure, name, methods)
        for one in files
        for name in methods
        for figure in FIGURES
        if figures is not None
    ]
    for key, written in {"output": filled, "sheet": side_by_side, "figures": drawn}.items():
        refuse_overwriting(key, written, inputs)
    refuse_overwriting("sheet", side_by_side, filled, "a filled picture")
    refuse_overwriting("figures", drawn, filled, "a filled picture")
    refuse_overwriting("figures", drawn, side_by_side, "a sheet")
    return fill_files(
        files,
        methods,
        outputs,
        hole=cfg.hole,
        lines=cfg.lines,
        figures=figures,
        sheets=sheets,
        sheet_side_px=cfg.sheet_side_px,
    )


@hydra.main(version_base="1.3", config_path="../conf/predict", config_name="config")
@report_input_errors
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
