"""Atomic file writes."""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.common.errors import NOT_WRITABLE, InputError

_NAME_LENGTH = 40  # characters of the target's name in that of the temporary file, which must not become too long
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.part")  # tempfile chooses eight characters


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` if the block succeeds and is removed if it fails.

    Parent directories are created. For a symbolic link the target is replaced, not the link.

    Raises:
        InputError: the file can't be written: no space, no permission, or `path` is not a regular file.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise InputError(f"{path} can't be written: it is {'a directory' if target.is_dir() else 'not a regular file'}")
    if in_the_way := [parent for parent in target.parents if parent.exists() and not parent.is_dir()]:
        raise InputError(f"{path} can't be written: {in_the_way[0]} is not a directory")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the same directory, as renaming is only atomic within a file system.
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{path.name[:_NAME_LENGTH]}.", suffix=".part")
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp grants access to the owner only; use the permissions of open()
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        # torch.save raises its own error while handling the OSError.
        number = getattr(error if isinstance(error, OSError) else error.__context__, "errno", None)
        if number not in NOT_WRITABLE | {errno.ENOENT}:
            raise
        # From errno, as Arrow's messages are long and do not name the file.
        raise InputError(f"{path} can't be written: {os.strerror(number)}") from error


def remove_unfinished_files(directory: Path) -> None:
    """Remove temporary files that killed processes left in a directory, which no other process may be writing to."""
    for path in directory.glob(".*.part"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)
