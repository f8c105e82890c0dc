"""Write a trained network as safetensors and YAML: `python -m src.export ckpt=best.ckpt output=exported/lbam`."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from src.errors import InputError, reports_input_errors, require_all_keys
from src.modules.checkpoint import load_checkpoint
from src.modules.exported import CONFIG, WEIGHTS, write_exported
from src.reporting.provenance import Checkpoint


def export(cfg: DictConfig) -> Path:
    """Read and write as conf/export.yaml says.

    Beside the weights stand the model's name, the generator steps it took and the hash of its checkpoint.

    Returns:
        The folder, which holds both files.
    Raises:
        InputError: the checkpoint is missing or not one of this suite, or the folder can't be written to.
    """
    require_all_keys(cfg)
    folder = Path(cfg.output).expanduser()
    checkpoint = load_checkpoint(cfg.ckpt)
    facts = {
        "model": str(checkpoint.config["model"].get("name", "")),
        "step": str(checkpoint.step),
        "checkpoint_sha256": Checkpoint.of(checkpoint.path).sha256,
    }
    if folder.is_file():
        raise InputError(f"output={folder} is a file: it must be a folder")
    write_exported(folder, checkpoint.network, checkpoint.config, facts)
    return folder


@hydra.main(version_base="1.3", config_path="../conf", config_name="export")
@reports_input_errors
def main(cfg: DictConfig) -> None:
    """Export, and say what was written."""
    folder = export(cfg)
    size_mb = (folder / WEIGHTS).stat().st_size / 1e6
    print(f"{folder}: {WEIGHTS} ({size_mb:.1f} MB) and {CONFIG}; ckpt={folder} is this network")


if __name__ == "__main__":
    main()
