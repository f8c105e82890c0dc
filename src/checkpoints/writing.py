"""Writing checkpoints: each is whole and on the disk, or not there."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from src.common.atomic_files import atomic_write


class WholeCheckpointIO(TorchCheckpointIO):
    """Write beside the place, then into it, so that a process that is killed leaves the file before as it was.

    Lightning's own writes into the system's temporary folder, from where a checkpoint is moved to its place: a copy, if
    that is another file system, and a copy can be cut off.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write and flush to the disk.

        Raises:
            OSError: there is no room, or no permission.
        """
        with atomic_write(Path(path)) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
