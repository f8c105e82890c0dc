"""Export directories: a trained network's weights as safetensors and its config as YAML, readable by any tool."""

import json
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
from src.common.untrusted_files import read_yaml

HUB = "hf://"
"""Prefix of a Hub repository's address: hf://user/name, or hf://user/name@revision."""

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.yaml", "README.md"


def find_exported_weights(path: Path) -> Path | None:
    """Return the weights file if `path` is an export directory or its weights file, otherwise None."""
    if path.suffix == ".safetensors":
        return path
    return path / WEIGHTS if path.is_dir() else None


def write_export_directory(
    directory: Path,
    network: nn.Module,
    config: Mapping[str, Any],
    metadata: Mapping[str, str],
    card: str | None = None,
    half: bool = False,
) -> None:
    """Write the network's weights, config and model card into `directory`.

    All files are complete before the first one replaces an older version, so a failure changes nothing.

    Args:
        config: resolved; absolute paths are shortened to their last part, as they are meaningless elsewhere.
        metadata: stored in the weights file; `step` is the number of generator steps taken.
        card: model card in Markdown; None keeps the present one.
        half: store floating-point tensors as float16; networks built from the files are float32.
    Raises:
        InputError: `half` with a value beyond float16's range.
    """
    # Cloned, as safetensors rejects tensors that share memory.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    if half:
        tensors = {name: _to_half(name, tensor) for name, tensor in tensors.items()}
    with ExitStack() as stack:
        weights_path, config_path = (stack.enter_context(atomic_write(directory / name)) for name in (WEIGHTS, CONFIG))
        if card is not None:
            stack.enter_context(atomic_write(directory / CARD)).write_text(card, encoding="utf-8")
        # Not save_file, which does not report a full disk.
        weights_path.write_bytes(_with_sorted_header(save(tensors, metadata={"format": "pt", **metadata})))
        shareable = strip_local_paths(dict(config))
        config_path.write_text(yaml.safe_dump(shareable, sort_keys=False, allow_unicode=True), encoding="utf-8")


def strip_local_paths(config: Any) -> Any:
    """Return plain values with each absolute path shortened to its last part, as in `/home/me/photos` to `photos`."""
    match config:
        case dict():
            return {key: strip_local_paths(value) for key, value in config.items()}
        case list():
            return [strip_local_paths(value) for value in config]
        case str() if Path(config).is_absolute():
            return Path(config).name
    return config


def _with_sorted_header(content: bytes) -> bytes:
    """Return the content of a safetensors file with a sorted header: the library writes metadata in random order."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the tensors stay aligned
    return len(header).to_bytes(8, "little") + header + content[end:]


def _to_half(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    halved = tensor.half()
    if tensor.isfinite().all() and not halved.isfinite().all():
        raise InputError(
            f"{name} holds {tensor.abs().max():.4g}, beyond float16's maximum 65504: export with half=false"
        )
    return halved


def read_export_directory(weights: Path) -> dict[str, Any]:
    """Return `state_dict`, `config` and `global_step` of an export directory, as in a checkpoint.

    Raises:
        InputError: the weights or the config are missing or corrupt.
    """
    tensors = read_tensor_file(weights, "network export")
    config_path = weights.with_name(CONFIG)
    if not config_path.is_file():
        raise InputError(
            f"no {CONFIG} next to {weights}: an export directory holds both files. To read the file of a released "
            "implementation, run src.import_checkpoint"
        )
    try:
        with safe_open(weights, framework="pt") as file:
            step = int((file.metadata() or {}).get("step", 0))
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{weights} is corrupt: {error}") from error
    return {
        "state_dict": {f"network.{name}": tensor for name, tensor in tensors.items()},
        "config": read_yaml(config_path),
        "global_step": step,
    }
