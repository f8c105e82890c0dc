"""A trained network as two files that any tool reads: its weights as safetensors, its configuration as YAML."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.common.tensor_files import read_tensor_file

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.yaml", "README.md"


def exported_weights(path: Path) -> Path | None:
    """The file of weights, if `path` is an exported network: the folder, or that file. None for any other path."""
    if path.suffix == ".safetensors":
        return path
    return path / WEIGHTS if path.is_dir() else None


def write_exported(
    folder: Path,
    network: nn.Module,
    config: Mapping[str, Any],
    facts: Mapping[str, str],
    card: str | None = None,
    half: bool = False,
) -> None:
    """Leave both files in `folder`: the network's state dict with `facts` about it, and the configuration.

    All are written before any takes its place, so a failure leaves what was there before.

    Args:
        config: resolved, plain values; `model.network` in it builds the network. Absolute paths in it are shortened to
            their last part: they mean nothing on another machine.
        facts: kept in the file of weights: `step`, the generator steps taken, and any others.
        card: of the model, in Markdown, a third file; None leaves what is there.
        half: write floating-point tensors as float16, half the size. Networks built from the files are float32 again.
    Raises:
        InputError: half, and a value exceeds float16's range.
    """
    # Two names of one tensor are two tensors in the file: safetensors refuses what shares memory.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    if half:
        tensors = {name: _in_half(name, tensor) for name, tensor in tensors.items()}
    with ExitStack() as stack:
        weights, configuration = (stack.enter_context(atomic_write(folder / name)) for name in (WEIGHTS, CONFIG))
        if card is not None:
            stack.enter_context(atomic_write(folder / CARD)).write_text(card, encoding="utf-8")
        weights.write_bytes(save(tensors, metadata={"format": "pt", **facts}))  # save_file hides that a disk is full
        shareable = without_local_paths(dict(config))
        configuration.write_text(yaml.safe_dump(shareable, sort_keys=False, allow_unicode=True), encoding="utf-8")


def without_local_paths(config: Any) -> Any:
    """Return plain values with each absolute path shortened to its last part, as in `/home/me/photos` to `photos`."""
    match config:
        case dict():
            return {key: without_local_paths(value) for key, value in config.items()}
        case list():
            return [without_local_paths(value) for value in config]
        case str() if Path(config).is_absolute():
            return Path(config).name
    return config


def _in_half(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    halved = tensor.half()
    if tensor.isfinite().all() and not halved.isfinite().all():
        raise InputError(f"{name} holds {tensor.abs().max():.4g}, and float16 ends at 65504: export with half=false")
    return halved


def read_exported(weights: Path) -> dict[str, Any]:
    """What `write_exported` wrote, in a checkpoint's layout: state_dict, config and global_step.

    Raises:
        InputError: one of the two files is missing or damaged.
    """
    tensors = read_tensor_file(weights, "exported network")
    config_path = weights.with_name(CONFIG)
    if not config_path.is_file():
        raise InputError(
            f"no {CONFIG} beside {weights}: an exported network is both files. A release's file is read by "
            "src.import_checkpoint"
        )
    try:
        config = yaml.safe_load(config_path.read_text(encoding="utf-8"))
        with safe_open(weights, framework="pt") as file:
            step = int((file.metadata() or {}).get("step", 0))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{config_path} is damaged: {' '.join(str(error).split())}") from error
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{weights} is damaged: {error}") from error
    return {
        "state_dict": {f"network.{name}": tensor for name, tensor in tensors.items()},
        "config": config,
        "global_step": step,
    }
