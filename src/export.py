"""Export a trained network for use elsewhere: `python -m src.export ckpt=best.ckpt output=exported/lbam`."""

from pathlib import Path

from omegaconf import DictConfig

from src.checkpoints.export_directory import CARD, CONFIG, WEIGHTS
from src.common.command import command
from src.common.schemas import ExportOptions
from src.exporting.run import export


@command("export", ExportOptions)
def main(cfg: DictConfig) -> None:
    """Export, and print what was written."""
    directory, files = export(cfg)
    size = _megabytes(directory / WEIGHTS)
    print(f"{directory}: {WEIGHTS} ({size}), {CONFIG} and {CARD}; load it with ckpt={directory}")
    for file in files.values():
        shapes = ", ".join(" x ".join(str(n) for n in shape) for shape in file.sizes)
        print(
            f"{file.name} ({_megabytes(directory / file.name)}): "
            f"differs from the network by at most {file.difference:.1e}, at {shapes}"
        )
    if cfg.push is not None:
        print(f"https://huggingface.co/{cfg.push}: load it with ckpt=hf://{cfg.push}")


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
