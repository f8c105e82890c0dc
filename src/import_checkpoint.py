"""Convert a released checkpoint to one of this suite: `python -m src.import_checkpoint name=lbam path=LBAM.pth ...`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from omegaconf import DictConfig, OmegaConf

import src.common.resolvers  # noqa: F401  # conf/train.yaml uses its resolvers
from src.checkpoints.releases import COMPLETIONS, NETWORKS, find_layout, load
from src.checkpoints.releases.weights import find_parts
from src.common.atomic_files import atomic_write
from src.common.command import command
from src.common.errors import InputError, require_all_keys
from src.common.options import check_options
from src.common.provenance import HashedFile
from src.common.schemas import ImportCheckpointOptions
from src.networks.gl import GL


def import_checkpoint(cfg: DictConfig) -> Path:
    """Convert the files that conf/import_checkpoint.yaml names, and return the path of the checkpoint.

    Its config is that of `model=<name>_release` at paper scale, with the release's name and the hashes of its files.

    Raises:
        InputError: the release is not one of `NETWORKS`, a file does not hold its weights, the file for the edges
            is missing, or the output is not writable or is one of the input files.
    """
    require_all_keys(cfg)
    check_options(cfg, ImportCheckpointOptions)
    if cfg.name not in NETWORKS:
        raise InputError(
            f"name={cfg.name}: unknown release; choose one of {', '.join(NETWORKS)} (to load discriminators, call "
            "src.checkpoints.releases.load)"
        )
    if cfg.name in COMPLETIONS and cfg.completion is None:
        edges, _ = COMPLETIONS[cfg.name]
        raise InputError(f"name={cfg.name} also needs the file of {edges}, for the edges: pass completion=<file>")
    if cfg.name == "gl" and cfg.mean_pixel is None:
        raise InputError(
            "name=gl also needs the mean pixel value: pass mean_pixel=<the JSON file published with the weights>"
        )
    inputs = ("path", "completion", "mean_pixel")
    files = {key: Path(cfg[key]).expanduser() for key in inputs if cfg[key] is not None}
    if files["path"].is_dir():
        files |= {f"path/{part}": file for part, file in find_parts(files.pop("path")).items()}
    output = Path(cfg.output).expanduser()
    if output.is_dir() or output.resolve() in {file.resolve() for file in files.values()}:
        raise InputError(f"output={output} is a directory or an input file: choose another path")
    name = find_layout(cfg.name, cfg.path)
    network = load(name, cfg.path, cfg.completion, cfg.mean_pixel)
    composed = compose("train", [f"model={name}_release", "scale=paper"])
    if isinstance(network, GL):
        composed.model.network.mean_pixel = network.mean_pixel.flatten().tolist()
    config: dict[str, Any] = {part: OmegaConf.to_container(composed[part], resolve=True) for part in ("model", "scale")}
    config |= {"release": name, "files": {key: asdict(HashedFile.of(file)) for key, file in files.items()}}
    weights = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    # Opened here, as torch.save by path raises a RuntimeError that does not mention a full disk.
    with atomic_write(output) as temporary, temporary.open("wb") as file:
        torch.save({"state_dict": weights, "config": config, "global_step": 0}, file)
    return output


@command("import_checkpoint", ImportCheckpointOptions)
def main(cfg: DictConfig) -> None:
    """Import, and print how to use the checkpoint."""
    output = import_checkpoint(cfg)
    print(f"{output}: model={cfg.name}_release; use it with src.evaluate or src.predict ckpt={output}")


if __name__ == "__main__":
    main()
