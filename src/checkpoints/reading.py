"""Read our checkpoints: rebuild the trained network from the weights and config in the file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from src.checkpoints.export_directory import CONFIG, HUB, WEIGHTS, find_exported_weights, read_export_directory
from src.checkpoints.network_config import build_network, require_no_calls, require_plain
from src.common.errors import InputError
from src.common.provenance import HashedFile
from src.common.regular_files import require_regular_file
from src.common.tensor_files import read_tensor_file, require_dense, summarise_names
from src.common.untrusted_files import read_text
from src.networks.interface import InpaintingNetwork

SHIPPED = Path(__file__).parent / "shipped"
"""Directory of the export directories that come with the suite."""

SHA256SUMS = "SHA256SUMS"
"""File in `SHIPPED` that lists the SHA-256 of the shipped files, as `sha256sum` writes and checks it."""

PINNED = "#sha256="
"""Precedes the expected SHA-256 of the weights at the end of an address."""

LARGEST_SIDE_PX = 2**15
"""Limit of an image size in a checkpoint's config, from which evaluations take the size of crops and masks."""


@dataclass(frozen=True)
class TrainedOn:
    """Images and holes that a network was trained on: the side of the crops, and the largest hole ratio, if known."""

    side_px: int | None = None
    hole_ratio: float | None = None

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> "TrainedOn":
        """Read them from a run's config, which may lack them."""
        size, mask = (config.get("scale") or {}).get("image_size"), config.get("mask")
        ratios = mask.get("hole_ratio") if isinstance(mask, Mapping) else None
        largest = ratios[-1] if isinstance(ratios, list) and ratios else None
        known: dict[str, Any] = {"side_px": max(size) if isinstance(size, list) else size, "hole_ratio": largest}
        valid = {"side_px": type(known["side_px"]) is int, "hole_ratio": type(largest) is float and 0 < largest <= 1}
        return cls(**{key: value for key, value in known.items() if valid[key]})


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with its weights file, the resolved config of its run, and the generator steps taken."""

    path: Path
    network: InpaintingNetwork
    config: dict[str, Any]
    step: int

    @property
    def model(self) -> str:
        """Name of the model in conf/model, or of the network's class if the config has none."""
        return str(self.config["model"].get("name") or type(self.network).__name__)

    @property
    def trained_on(self) -> TrainedOn:
        """Images and holes of the training."""
        return TrainedOn.of_config(self.config)


def read_checkpoint(path: str | Path, *, mapped: bool = False) -> dict[str, Any]:
    """Read the tensors and plain values of a checkpoint that `src.train` or `src.export` wrote.

    Args:
        path: a checkpoint, an export directory or its weights file; the last two have no optimiser states.
        mapped: as in `read_tensor_file`, for config and step of a checkpoint.
    Raises:
        InputError: the file is missing, corrupt, contains code, or is not a checkpoint of this suite.
    """
    path = Path(path).expanduser()
    weights = find_exported_weights(path)
    content = read_tensor_file(path, "checkpoint", mapped=mapped) if weights is None else read_export_directory(weights)
    if not isinstance(content, dict) or not {"state_dict", "config", "global_step"} <= content.keys():
        raise InputError(f"{path} is not a checkpoint of this suite: state_dict, config or global_step is missing")
    try:
        content["config"]["model"]["network"]["_target_"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: the config has no model.network, which defines the network to build") from error
    require_plain(content["config"], path)
    if not isinstance(content["config"]["model"].get("name", ""), str):
        raise InputError(f"{path}: model.name in the config must be text")
    # A string is no mapping: OmegaConf would parse it as YAML, which nothing has checked.
    mappings = content["config"].get("scale", {}), content["state_dict"]
    if not all(isinstance(value, Mapping) for value in mappings) or type(content["global_step"]) is not int:
        raise InputError(
            f"{path} is not a checkpoint of this suite: state_dict and config.scale must be mappings, and global_step "
            "an integer"
        )
    return content


def find_checkpoint(path: Path) -> Path:
    """Return the best checkpoint of a run directory, or its last before the first validation; else the path itself."""
    candidates = [path / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]
    is_export = (path / WEIGHTS).exists()
    return path if is_export else next((one for one in candidates if one.is_file()), path)


def _require_scale(scale: Mapping[str, Any], path: Path) -> None:
    """Raise InputError if an entry that sizes the data, or that is printed, has another kind than in conf/scale."""
    if not isinstance(scale.get("name", ""), str):
        raise InputError(f"{path}: scale.name in the config must be text")
    for key in ("image_size", "shorter_side_px"):
        value = scale.get(key)
        sides = value if isinstance(value, list) and len(value) == 2 else [1 if value is None else value]
        if not all(type(side) is int and 0 < side <= LARGEST_SIDE_PX for side in sides):
            raise InputError(f"{path}: scale.{key} in the config must be pixels from 1 to {LARGEST_SIDE_PX}")


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Rebuild a trained network from its checkpoint alone, in eval mode on the CPU.

    Args:
        path: a checkpoint, a run directory, an export directory or its weights file, or a Hub repository's address;
            `#sha256=<64 hex digits>` at its end is the expected SHA-256 of the file with the weights.
    Raises:
        InputError: as in `read_checkpoint`; or the download fails, the file has another SHA-256 than expected, the
            config names a class or function that is not allowed, or the weights do not fit the network or are not
            finite.
    """
    path, pinned, expected = str(path).partition(PINNED)
    if pinned and not re.fullmatch(r"[0-9a-fA-F]{64}", expected):
        raise InputError(f"{path}{PINNED}{expected}: a SHA-256 has 64 hexadecimal digits")
    if str(path).startswith(HUB):
        try:
            from src.checkpoints.hub import download  # needs the extra `export`
        except ModuleNotFoundError as error:
            raise InputError(
                f"{path} needs the package huggingface-hub: pip install -c constraints.txt -e '.[export]'"
            ) from error
        path = download(str(path))
    path = find_checkpoint(Path(path).expanduser())
    file = find_exported_weights(path) or path
    if pinned:
        _require_sha256(file, expected.lower(), f"download it again, or correct {PINNED}")
    if file.parent.resolve().parent == SHIPPED.resolve():
        _require_listed(file.parent)
    content = read_checkpoint(path)
    config = content["config"]
    # src.evaluate composes its data with the scale, without the schedule.
    require_no_calls({key: value for key, value in config.get("scale", {}).items() if key != "schedule"}, path)
    _require_scale(config.get("scale", {}), path)
    prefix = "network."
    weights = {
        key.removeprefix(prefix): t
        for key, t in content["state_dict"].items()
        if isinstance(key, str) and key.startswith(prefix) and isinstance(t, Tensor)
    }
    require_dense(weights, path)
    network = build_network(config["model"]["network"], weights, path)
    if not_finite := [name for name, t in weights.items() if t.is_floating_point() and not bool(t.isfinite().all())]:
        raise InputError(
            f"{path} holds NaN or infinity, probably of a diverged run; use an earlier checkpoint: "
            f"{summarise_names('weights', not_finite)}"
        )
    return Checkpoint(file, network, config, content["global_step"])


def _require_sha256(path: Path, expected: str, remedy: str) -> None:
    require_regular_file(path, "checkpoint")
    if (found := HashedFile.of(path).sha256) != expected:
        raise InputError(
            f"{path} has the SHA-256 {found}, expected {expected}: it is truncated or another file; {remedy}"
        )


def _require_listed(directory: Path) -> None:
    """Raise InputError unless weights and config of a shipped network have the SHA-256 in `SHA256SUMS`."""
    lines = (line.partition("  ") for line in read_text(SHIPPED / SHA256SUMS).splitlines())
    listed = {name: digest for digest, _, name in lines}
    for file in (directory / CONFIG, directory / WEIGHTS):
        if (name := f"{directory.name}/{file.name}") not in listed:
            raise InputError(f"{file} is not listed in {SHIPPED / SHA256SUMS}: see src/checkpoints/README.md")
        _require_sha256(file, listed[name], "restore it with git, or update the list as src/checkpoints/README.md says")
