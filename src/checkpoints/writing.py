"""Write checkpoints atomically."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from src.common.atomic_files import atomic_write


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write to a temporary file in the same directory, then rename: a killed process leaves the old checkpoint intact.

    Lightning's own plugin writes into the system's temporary directory and moves the checkpoint from there. On another
    file system a move is a copy, which can be interrupted.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write the checkpoint and flush it to disk.

        Raises:
            OSError: the disk is full, or the directory is not writable.
        """
        with atomic_write(Path(path)) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
