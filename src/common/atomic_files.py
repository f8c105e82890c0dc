"""Files that are either whole or not there."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.common.errors import NOT_WRITABLE, InputError

_NAME_LENGTH = 40  # of the target's name in the temporary one, which must not become too long where the other is not


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well and is removed when it does not.

    Folders on the way are made. What a link points to is replaced, not the link.

    Raises:
        InputError: it can't be written: there is no space, no permission, or something else of that name.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise InputError(f"{path} can't be written: it is {'a folder' if target.is_dir() else 'no regular file'}")
    if in_the_way := [parent for parent in target.parents if parent.exists() and not parent.is_dir()]:
        raise InputError(f"{path} can't be written: {in_the_way[0]} is no folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, as os.replace is atomic only within one file system.
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{path.name[:_NAME_LENGTH]}.", suffix=".part")
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp's are for their owner alone; a plain open() is not so strict
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        # torch.save raises an error of its own while it handles that of the disk.
        number = getattr(error if isinstance(error, OSError) else error.__context__, "errno", None)
        if number not in NOT_WRITABLE | {errno.ENOENT}:
            raise
        # By its number: Arrow's own texts name neither file nor reason shortly.
        raise InputError(f"{path} can't be written: {os.strerror(number)}") from error
