"""Fill the holes of images: `python -m src.predict model=pconv weights=small image=a.jpg mask=b.png output=o.png`."""

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.common.command import command
from src.common.errors import InputError, require_all_keys
from src.common.options import check_options
from src.common.schemas import PredictOptions
from src.image_files.writing import file_format
from src.networks.interface import require_stochastic
from src.prediction.blending import BLENDS
from src.prediction.files import fill_files
from src.prediction.loading import load_methods
from src.prediction.matching import find_inputs
from src.prediction.outputs import plan_outputs, sample_label


def predict(cfg: DictConfig) -> list[Path]:
    """Fill the images that a config of conf/predict selects, and return the filled files as `fill_files` does."""
    require_all_keys(cfg)
    check_options(cfg, PredictOptions)
    inputs, without_masks = find_inputs(cfg.image, cfg.mask, cfg.edges, one_mask_for_all=cfg.one_mask_for_all)
    if without_masks:
        parents = sorted({str(path.parent) for path in without_masks})
        print(f"leaving out {len(without_masks)} images in directories without masks: {', '.join(parents)}")
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    methods = load_methods(
        config["ckpt"],
        config["methods"],
        cfg.device,
        instantiate(cfg.size),
        BLENDS[cfg.blend],
        config["weights"],
        config["model"],
    )
    if cfg.edges is not None and not any(method.network.takes_edges for method in methods.values()):
        raise InputError(f"edges={cfg.edges}: {', '.join(methods)} takes no edges: omit edges=, or use edge_lbam")
    outputs = plan_outputs(
        inputs,
        list(methods),
        cfg.output,
        image_format=cfg.format,
        sheet=cfg.sheet,
        figures=cfg.figures,
        samples=cfg.samples,
    )
    if cfg.samples is not None:
        require_stochastic({name: method.network for name, method in methods.items()}, cfg.samples)
        methods = {
            sample_label(name, number): method.with_seed(cfg.seed + number - 1)
            for name, method in methods.items()
            for number in range(1, cfg.samples + 1)
        }
    return fill_files(
        inputs,
        methods,
        outputs,
        hole=cfg.hole,
        lines=cfg.lines,
        sheet_side_px=cfg.sheet_side_px,
        max_pixels=round(cfg.max_megapixels * 1e6),
    )


@command("predict/config", PredictOptions)
def main(cfg: DictConfig) -> None:
    """Fill the images and print where the results are."""
    outputs = predict(cfg)
    directories = sorted({str(path.parent) for path in outputs})
    print(f"wrote {outputs[0]}" if len(outputs) == 1 else f"wrote {len(outputs)} images to {', '.join(directories)}")
    if any(file_format(path) == "JPEG" for path in outputs):
        print("JPEG is lossy, so known pixels change slightly; pass format=png to keep them exactly")
    if cfg.sheet is not None:
        print(f"wrote the comparison to {cfg.sheet}")


if __name__ == "__main__":
    main()
