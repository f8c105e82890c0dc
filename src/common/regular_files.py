"""The check that a path leads to a regular file."""

import stat
from pathlib import Path

from src.common.errors import InputError


def is_pipe_or_device(path: Path) -> bool:
    """Return whether a path leads to neither a file nor a directory; raises OSError if it leads nowhere."""
    mode = path.stat().st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def require_regular_file(path: Path, kind: str = "file") -> None:
    """Raise InputError unless a path leads to a regular file: reading a pipe or a device may never end."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"no {kind} at {path}") from None
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is a {'directory' if stat.S_ISDIR(mode) else 'pipe or device'}, not a {kind}")
